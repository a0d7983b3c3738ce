//! Builds tar archives in memory, also ones that no honest tool would write.

use tar::{EntryType, Header};

/// An archive under construction.
#[derive(Clone, Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

impl Tarball {
    /// An empty archive whose entries belong to root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Any member; `tweak` changes the header before its checksum is taken.
    pub fn member(
        mut self,
        kind: EntryType,
        name: &[u8],
        content: &[u8],
        tweak: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        assert!(name.len() <= 100, "use long_name or pax");
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        tweak(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.raw(content)
    }

    /// Bytes as they are, padded to a block.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A regular file.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.member(EntryType::Regular, name.as_bytes(), content, |_| {})
    }

    /// A regular file with permission bits.
    pub fn file_mode(self, name: &str, content: &[u8], mode: u32) -> Self {
        self.member(EntryType::Regular, name.as_bytes(), content, |h| h.set_mode(mode))
    }

    /// A directory.
    pub fn dir(self, name: &str) -> Self {
        self.member(EntryType::Directory, name.as_bytes(), b"", |h| h.set_mode(0o755))
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    /// A hard link.
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.member(kind, name.as_bytes(), b"", |h| {
            h.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    /// A PAX header for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while len != rest + len.to_string().len() {
                len = rest + len.to_string().len();
            }
            data.extend_from_slice(format!("{len} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.member(EntryType::XHeader, b"PaxHeaders/x", &data, |_| {})
    }

    /// GNU's long name for the next member.
    pub fn long_name(self, name: &str) -> Self {
        let data = [name.as_bytes(), b"\0"].concat();
        self.member(EntryType::GNULongName, b"././@LongLink", &data, |_| {})
    }

    /// GNU's long link target for the next member.
    pub fn long_link(self, target: &str) -> Self {
        let data = [target.as_bytes(), b"\0"].concat();
        self.member(EntryType::GNULongLink, b"././@LongLink", &data, |_| {})
    }

    /// The archive with its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
