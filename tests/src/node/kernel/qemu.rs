//! QEMU: a virtual machine with Debian's cloud kernel, and a disk with a volatile cache.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::MEMORY_MIB;
use super::ssh::quoted;
use crate::command::{attempt, command as program};
use crate::kernels::Kernels;
use crate::node::record::Record;
use crate::{cache, lab, paths};

const CPUS: u32 = 2;

/// Longest time a kernel takes to the start of its initramfs on KVM; a KVM that hangs is told by it.
const PROBE_SECONDS: &str = "20";

/// What executes the machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accelerator {
    /// The processor.
    Kvm,
    /// An emulator.
    Tcg,
}

impl Accelerator {
    /// What the kernel is told. A libvirt that finds the emulated SVM probes it with guests of its own, and the machine has
    /// hung twice in that; without SVM, QEMU 7.2's "max" computes wrongly. Nothing there has to be kept from speculating.
    fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Kvm => None,
            Self::Tcg => Some("module_blacklist=kvm_amd mitigations=off"),
        }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With emulated AVX, SHA-256 takes twice the time, and a check of the store is little else.
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,-avx,-avx2"],
        }
    }
}

/// QEMU behind its disk; standard output is the console, descriptor 3 the second serial line.
///
/// The disk is served by nbdkit, whose cache keeps what is written until the machine flushes it: a cut that kills both
/// loses everything since, as the cache of a disk does.
pub(super) fn command(record: &Record, kernels: &Kernels) -> Result<Vec<String>> {
    let socket = record.disk().join("nbd");
    // A cut leaves the socket behind.
    cache::remove(&socket)?;
    let mut append = super::parameters(record, "/dev/vda");
    append.extend(["console=ttyS0", "panic=1"].map(str::to_owned));
    let accelerator = accelerator(kernels)?;
    append.extend(accelerator.parameter().map(str::to_owned));
    let lab = format!(
        "tap,id=lab,ifname={},script=no,downscript=no",
        lab::port(record.name.as_str())
    );
    let card = format!(
        "virtio-net-pci,netdev=lab,mac=52:54:00:00:00:{:02x}",
        record.address.octets()[3]
    );
    let disk = format!(
        "file.driver=nbd,file.server.type=unix,file.server.path={},format=raw,if=virtio,cache=writeback",
        socket.display()
    );
    let mut qemu = machine(kernels, accelerator);
    qemu.extend(
        [
            "-serial",
            "stdio",
            "-serial",
            "file:/dev/fd/3",
            "-append",
            &append.join(" "),
            "-drive",
            &disk,
            "-netdev",
            &lab,
            "-device",
            &card,
        ]
        .map(str::to_owned),
    );
    let run: Vec<Vec<u8>> = qemu.iter().map(|word| quoted(word.as_bytes())).collect();
    let run = String::from_utf8(run.join(&b' ')).context("a name of the machine is no text")?;
    Ok(served(record, &socket, &format!("exec {run}")))
}

/// The disk's server, which ends with what it runs.
fn served(record: &Record, socket: &Path, run: &str) -> Vec<String> {
    [
        "env",
        // Where the cache is: on the file system of the disk, since it grows with it.
        &format!("TMPDIR={}", record.disk().display()),
        "nbdkit",
        "--foreground",
        "--unix",
        &socket.display().to_string(),
        "--filter=cache",
        "file",
        &record.image().display().to_string(),
        "cache=writeback",
        "--run",
        run,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A machine without disk, network and serial lines.
fn machine(kernels: &Kernels, accelerator: Accelerator) -> Vec<String> {
    let mut words: Vec<String> = [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-smp",
        &CPUS.to_string(),
        "-m",
        &format!("{MEMORY_MIB}M"),
        "-device",
        "virtio-rng-pci",
        "-kernel",
        &kernels.vmlinuz().display().to_string(),
        "-initrd",
        &kernels.initramfs().display().to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    words.extend(accelerator.arguments().map(str::to_owned));
    words
}

/// KVM where it boots this kernel, as tried once per boot of the host: a device that is there need not work.
fn accelerator(kernels: &Kernels) -> Result<Accelerator> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the host's boot id")?;
    let path = paths::cache().join("kvm");
    let _lock = cache::lock(&paths::cache().join("kvm.lock"))?;
    let tried = fs::read_to_string(&path).unwrap_or_default();
    let works = match tried.strip_prefix(boot.trim()) {
        Some(" boots") => true,
        Some(" fails") => false,
        Some(_) | None => {
            let works = Path::new("/dev/kvm").exists() && kvm_boots(kernels)?;
            let verdict = if works { "boots" } else { "fails" };
            fs::write(&path, format!("{} {verdict}", boot.trim()))
                .with_context(|| format!("write {}", path.display()))?;
            works
        }
    };
    Ok(if works { Accelerator::Kvm } else { Accelerator::Tcg })
}

/// Boots the kernel as far as its initramfs, which says so on the second serial line.
fn kvm_boots(kernels: &Kernels) -> Result<bool> {
    let mut probe = program("timeout", ["--signal=KILL", PROBE_SECONDS]);
    probe.args(machine(kernels, Accelerator::Kvm)).args([
        "-no-reboot",
        "-serial",
        "null",
        "-serial",
        "stdio",
        "-append",
        "testnode.probe panic=1",
    ]);
    let said = attempt(&mut probe)?;
    Ok(String::from_utf8_lossy(&said.stdout).contains("testnode: up"))
}
