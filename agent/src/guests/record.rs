//! What libvirt has on record about a running guest: a status file, /run/libvirt/qemu/NAME.xml.
//!
//! libvirt writes it at every change, jobs included (qemu_domain.c, `qemuDomainObjPrivateXMLFormat`), and a daemon
//! that starts takes its guests over from it.

use std::path::PathBuf;

use roxmltree::{Document, Node};

/// A guest as libvirt has it on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Name of the guest.
    pub name: String,
    /// Identity of the guest.
    pub uuid: String,
    /// Its QEMU.
    pub pid: u32,
    /// Socket over which libvirt commands its QEMU.
    pub monitor: PathBuf,
    /// Directory with its key and its sockets.
    pub library: PathBuf,
    /// What libvirt is doing with it that lasts: `migration out`, `backup`, `start` and so on.
    pub job: Option<String>,
    /// What QEMU is doing with its disks: kind and disk.
    pub block_jobs: Vec<String>,
}

/// Not a status file of a running guest.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not XML.
    #[error("it is not XML")]
    Xml(#[from] roxmltree::Error),
    /// Something is not there that libvirt itself could not do without.
    #[error("it has no {0}")]
    Lacks(&'static str),
}

impl Record {
    /// Reads a status file.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(text: &str) -> Result<Record, RecordError> {
        let document = Document::parse(text)?;
        let root = document.root_element();
        let pid = root.attribute("pid").and_then(|pid| pid.parse().ok());
        let domain = child(root, "domain").ok_or(RecordError::Lacks("domain"))?;
        let text = |name| child(domain, name).and_then(|node| node.text().map(str::to_owned));
        let path = |element, attribute| {
            let found = child(root, element).and_then(|node| node.attribute(attribute));
            found.map(PathBuf::from)
        };
        Ok(Record {
            pid: pid.ok_or(RecordError::Lacks("process id"))?,
            name: text("name").ok_or(RecordError::Lacks("name"))?,
            uuid: text("uuid").ok_or(RecordError::Lacks("uuid"))?,
            monitor: path("monitor", "path").ok_or(RecordError::Lacks("monitor"))?,
            library: path("libDir", "path").ok_or(RecordError::Lacks("directory"))?,
            job: job(root),
            block_jobs: block_jobs(root),
        })
    }

    /// Files without which a daemon that starts kills the guest, since it can't command it any more
    /// (`qemuProcessReconnect`).
    pub fn needs(&self) -> [PathBuf; 2] {
        [self.monitor.clone(), self.library.join("master-key.aes")]
    }
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|node| node.has_tag_name(name))
}

/// `none` stands for a job that is over before its caller is answered; the daemon ends it before it stops.
fn job(root: Node<'_, '_>) -> Option<String> {
    let job = child(root, "job")?.attribute("async")?;
    (job != "none").then(|| job.to_owned())
}

fn block_jobs(root: Node<'_, '_>) -> Vec<String> {
    let jobs = child(root, "blockjobs");
    let found = jobs.into_iter().flat_map(|jobs| jobs.children());
    found
        .filter(|node| node.has_tag_name("blockjob"))
        .map(|node| {
            let kind = node.attribute("type").unwrap_or("unknown");
            match child(node, "disk").and_then(|disk| disk.attribute("dst")) {
                Some(disk) => format!("{kind} of {disk}"),
                None => kind.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n<domstatus state='running' reason='booted' pid='142'>
        <monitor path='/var/lib/libvirt/qemu/domain-1-g1/monitor.sock' type='unix'/>
        <libDir path='/var/lib/libvirt/qemu/domain-1-g1'/>";
    const TAIL: &str =
        "<domain type='qemu' id='1'><name>g&amp;1</name><uuid>45d5</uuid></domain></domstatus>";

    fn record(more: &str) -> Record {
        Record::parse(&format!("{HEAD}{more}{TAIL}")).unwrap()
    }

    #[test]
    fn a_guest_at_rest() {
        let found = record("<blockjobs active='no'/>");
        assert_eq!(
            (found.name.as_str(), found.uuid.as_str(), found.pid),
            ("g&1", "45d5", 142)
        );
        assert_eq!(found.job, None);
        assert!(found.block_jobs.is_empty());
        let [monitor, key] = found.needs();
        assert!(monitor.ends_with("domain-1-g1/monitor.sock"));
        assert!(key.ends_with("domain-1-g1/master-key.aes"));
    }

    #[test]
    fn jobs_are_found() {
        let backup = "<job type='none' async='backup' flags='0x0' asyncStarted='1'/><blockjobs active='yes'>
            <blockjob name='b' type='backup' state='running' jobflags='0x0'><disk dst='vda'/></blockjob>
            <blockjob name='c' type='copy' state='running'/></blockjobs>";
        let found = record(backup);
        assert_eq!(found.job.as_deref(), Some("backup"));
        assert_eq!(found.block_jobs, ["backup of vda", "copy"]);
        assert_eq!(record("<job type='destroy' async='none'/>").job, None);
        let moving = record("<job type='none' async='migration out' phase='perform3'/>");
        assert_eq!(moving.job.as_deref(), Some("migration out"));
    }

    #[test]
    fn what_is_no_record_is_said() {
        let table = [
            ("", "not XML"),
            ("<domstatus", "not XML"),
            ("<domstatus pid='1'/>", "no domain"),
            (
                "<domstatus><domain><name>a</name></domain></domstatus>",
                "no process id",
            ),
            (
                "<domstatus pid='x'><domain><name>a</name></domain></domstatus>",
                "no process id",
            ),
            ("<domstatus pid='1'><domain/></domstatus>", "no name"),
        ];
        for (text, expected) in table {
            let error = Record::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
