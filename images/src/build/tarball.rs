//! Writes a [`Tree`] as a tar stream whose bytes depend on the tree alone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use tar::{Builder, EntryType, Header};

use super::tree::{Content, Entry, Kind, Source, Tree, TreePath};

/// Length of name and link fields in a ustar header; longer ones go into a PAX record.
const NAME_FIELD: usize = 100;

/// Writes `tree`, whose contents come from the tar file `contents`, to `out`.
///
/// # Errors
/// Those of reading `contents` and writing `out`.
pub fn write<W: Write>(tree: &Tree, contents: &File, out: W) -> io::Result<W> {
    let mut builder = Builder::new(out);
    for (path, entry) in tree {
        append(&mut builder, path, entry, contents)?;
    }
    builder.into_inner()
}

/// The bytes of `content`.
///
/// # Errors
/// Those of reading `contents`.
pub fn read(content: &Content, contents: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(content, contents).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    path: &TreePath,
    entry: &Entry,
    contents: &File,
) -> io::Result<()> {
    let mut name = path.as_bytes().to_vec();
    let mut link = Vec::new();
    let mut size = 0;
    let kind = match &entry.kind {
        Kind::Directory => {
            name.push(b'/');
            EntryType::Directory
        }
        Kind::File(content) => {
            size = content.size;
            EntryType::Regular
        }
        Kind::Symlink(target) => {
            link.clone_from(target);
            EntryType::Symlink
        }
        Kind::HardLink(target) => {
            link = target.as_bytes().to_vec();
            EntryType::Link
        }
        Kind::Fifo => EntryType::Fifo,
    };
    append_pax(builder, &name, &link, entry)?;
    let mut header = Header::new_ustar();
    put_name(&mut header.as_old_mut().name, &name);
    put_name(&mut header.as_old_mut().linkname, &link);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_mtime(entry.mtime);
    header.set_cksum();
    match &entry.kind {
        Kind::File(content) => builder.append(&header, open(content, contents)),
        Kind::Directory | Kind::Symlink(_) | Kind::HardLink(_) | Kind::Fifo => {
            builder.append(&header, io::empty())
        }
    }
}

fn append_pax<W: Write>(builder: &mut Builder<W>, name: &[u8], link: &[u8], entry: &Entry) -> io::Result<()> {
    let mut records: Vec<(String, &[u8])> = Vec::new();
    if name.len() > NAME_FIELD {
        records.push(("path".to_owned(), name));
    }
    if link.len() > NAME_FIELD {
        records.push(("linkpath".to_owned(), link));
    }
    for (key, value) in &entry.xattrs {
        records.push((format!("SCHILY.xattr.{key}"), value));
    }
    builder.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), *value)))
}

fn put_name(field: &mut [u8; NAME_FIELD], name: &[u8]) {
    let fits = name.len().min(NAME_FIELD);
    field[..fits].copy_from_slice(&name[..fits]);
}

fn open<'c>(content: &'c Content, contents: &'c File) -> Box<dyn Read + 'c> {
    match &content.source {
        Source::Bytes(bytes) => Box::new(&bytes[..]),
        Source::Tar { offset, patch } => Box::new(Slice {
            file: contents,
            start: *offset,
            position: 0,
            size: content.size,
            patch: *patch,
        }),
    }
}

/// A part of a file, with at most one byte replaced.
struct Slice<'f> {
    file: &'f File,
    start: u64,
    position: u64,
    size: u64,
    patch: Option<(u64, u8)>,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let n = self
            .file
            .read_at(&mut buffer[..wanted], self.start + self.position)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((at, byte)) = self.patch
            && let Some(index) = at.checked_sub(self.position)
            && let Some(place) = usize::try_from(index).ok().and_then(|i| buffer[..n].get_mut(i))
        {
            *place = byte;
        }
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Seek;

    use super::super::scan::scan;
    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry {
            kind,
            mode: 0o4711,
            uid: 4_000_000,
            gid: 7,
            mtime: 1_700_000_000,
            xattrs: BTreeMap::from([("security.capability".to_owned(), vec![1, 0, b'\n', 2])]),
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let path = |text: &str| TreePath::from_absolute(text).expect("a path");
        let long = format!("/{}", "d".repeat(150));
        let tree = Tree::from([
            (path(&long), entry(Kind::Directory)),
            (
                path(&format!("{long}/file")),
                entry(Kind::File(Content::of(b"text"))),
            ),
            (path("/empty"), entry(Kind::File(Content::of(b"")))),
            (
                path("/hard"),
                entry(Kind::HardLink(path(&format!("{long}/file")))),
            ),
            (path("/soft"), entry(Kind::Symlink("x".repeat(200).into_bytes()))),
            (path("/pipe"), entry(Kind::Fifo)),
        ]);
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let none = File::open("/dev/null").expect("no contents");
        write(&tree, &none, file.as_file_mut()).expect("written");
        file.rewind().expect("rewound");
        assert_eq!(scan(file.path()).expect("read"), tree);
    }

    #[test]
    fn checked_bytecode_goes_out_unchecked() {
        let mut bytecode = b"magc\x03\0\0\0hashhash".to_vec();
        bytecode.resize(200_000, 9);
        let path = TreePath::from_absolute("/m.pyc").expect("a path");
        let tree = Tree::from([(path.clone(), entry(Kind::File(Content::of(&bytecode))))]);
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let none = File::open("/dev/null").expect("no contents");
        write(&tree, &none, file.as_file()).expect("written");

        let scanned = scan(file.path()).expect("read");
        let Kind::File(content) = &scanned[&path].kind else {
            panic!("not a file: {scanned:?}");
        };
        bytecode[4] = 1;
        assert_eq!(content.digest, crate::digest::Digest::of(&bytecode));
        assert_eq!(read(content, file.as_file()).expect("read"), bytecode);
    }
}
