//! What becomes of a running guest, as libvirt, QEMU and its disk have it.

use anyhow::{Context, Result, ensure};

use super::{Guest, PROGRAM_BYTES, virsh};

impl Guest<'_> {
    /// What libvirt says about it, with the reason: `running (booted)`.
    ///
    /// # Errors
    /// libvirt does not know it.
    pub fn state(&self) -> Result<String> {
        let said = virsh(self.node, &["domstate", self.name, "--reason"])?;
        Ok(said.trim().to_owned())
    }

    /// From now on QEMU writes into its log when the machine stops or goes on, whoever wanted that.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn report_halts(&self) -> Result<()> {
        let log = ["--hmp", "log trace:runstate_set"];
        let said = virsh(
            self.node,
            &[&["qemu-monitor-command", self.name], &log[..]].concat(),
        )?;
        ensure!(said.trim().is_empty(), "QEMU says {said}");
        Ok(())
    }

    /// How often the machine has stopped or gone on since [`Guest::report_halts`].
    ///
    /// # Errors
    /// There is no log.
    pub fn halts(&self) -> Result<usize> {
        let log = format!("/var/log/libvirt/qemu/{}.log", self.name);
        Ok(self.node.run(["cat", &log])?.matches("runstate_set ").count())
    }

    /// The count that it has written to its disk last, as the node finds it there.
    ///
    /// # Errors
    /// It can't be read.
    pub fn count_on_disk(&self) -> Result<u32> {
        let at = PROGRAM_BYTES.to_string();
        let words = ["od", "-An", "-tu4", "-N4", "-j", &at, &self.disk("")];
        let said = self.node.run(words)?;
        said.trim()
            .parse()
            .with_context(|| format!("count of {}: {said:?}", self.name))
    }
}
