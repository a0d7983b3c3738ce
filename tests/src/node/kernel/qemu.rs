//! QEMU: a virtual machine with Debian's cloud kernel.

use std::path::Path;

use anyhow::Result;

use super::MEMORY_MIB;
use crate::kernels::Kernels;
use crate::lab;
use crate::node::record::Record;

const CPUS: u32 = 2;

/// QEMU with its arguments; standard output is the console, descriptor 3 the second serial line.
pub(super) fn command(record: &Record, kernels: &Kernels) -> Result<Vec<String>> {
    let mut append = super::parameters(record, "/dev/vda");
    append.extend(["console=ttyS0", "panic=1"].map(str::to_owned));
    let lab = format!(
        "tap,id=lab,ifname={},script=no,downscript=no",
        lab::port(record.name.as_str())
    );
    let octets = record.address.octets();
    let card = format!("virtio-net-pci,netdev=lab,mac=52:54:00:00:00:{:02x}", octets[3]);
    let mut words = machine(kernels, "tcg,thread=multi", "max");
    words.extend(
        [
            "-append",
            &append.join(" "),
            "-drive",
            &drive(&record.image()),
            "-netdev",
            &lab,
            "-device",
            &card,
        ]
        .map(str::to_owned),
    );
    Ok(words)
}

/// A machine without disk and network.
fn machine(kernels: &Kernels, accelerator: &str, cpu: &str) -> Vec<String> {
    [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-accel",
        accelerator,
        "-cpu",
        cpu,
        "-smp",
        &CPUS.to_string(),
        "-m",
        &format!("{MEMORY_MIB}M"),
        "-serial",
        "stdio",
        "-serial",
        "file:/dev/fd/3",
        "-device",
        "virtio-rng-pci",
        "-kernel",
        &kernels.vmlinuz().display().to_string(),
        "-initrd",
        &kernels.initramfs().display().to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn drive(image: &Path) -> String {
    format!(
        "file={},format=raw,if=virtio,cache=writeback,discard=unmap",
        image.display()
    )
}
