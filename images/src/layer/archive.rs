//! Reading a tar archive member by member.
//!
//! The `tar` crate decodes header blocks; the framing is ours, because the crate reads extended headers of
//! any size into memory, cuts their records at line feeds (file capabilities contain them), and knows
//! neither global headers nor sparse files in PAX form.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::member::{self, Member};
use super::pax::Pax;
use super::sparse::{Extent, SparseMap, SparseReader, read_map};
use crate::error::{EntryError, EntryProblem};

const BLOCK: usize = 512;
/// Longest name or extended header that is read into memory.
const MAX_EXTENSION: u64 = 1 << 20;

/// Why an archive cannot be read further.
#[derive(Debug)]
pub(crate) enum ArchiveError {
    /// The underlying stream failed.
    Read(io::Error),
    /// The structure is broken.
    Malformed(&'static str),
    /// One entry is.
    Entry(EntryError),
}

impl From<EntryError> for ArchiveError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

/// A tar archive that is read from front to back.
pub(crate) struct Archive<R> {
    inner: R,
    offset: u64,
    /// Bytes of the present member that were not read yet, and the padding after them.
    left: u64,
    padding: u64,
}

/// What headers before the member's own say about it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Extensions {
    fn at_end(&self) -> Result<Option<Member>, ArchiveError> {
        if self.name.is_some() || self.link.is_some() || self.pax.is_some() {
            return Err(ArchiveError::Malformed(
                "it ends before the entry that was announced",
            ));
        }
        Ok(None)
    }
}

impl<R: Read> Archive<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            offset: 0,
            left: 0,
            padding: 0,
        }
    }

    /// How many bytes of the archive were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next member, or none at the end of the archive.
    pub fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.skip()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                return extensions.at_end();
            };
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(self.text(&header)?),
                EntryType::GNULongLink => extensions.link = Some(self.text(&header)?),
                EntryType::XHeader => {
                    let data = self.extension(&header)?;
                    let pax = Pax::parse(&data).map_err(|p| member::error(&header, p))?;
                    extensions.pax = Some(pax);
                }
                // A global header carries comments and defaults that images do not use; 'V' is a volume label.
                EntryType::XGlobalHeader => drop(self.extension(&header)?),
                other if other.as_byte() == b'V' => {}
                _ => return self.member(&header, extensions).map(Some),
            }
        }
    }

    /// The content of the present member, with the holes of a sparse file filled.
    pub fn content<'a>(&'a mut self, member: &'a Member) -> Box<dyn Read + 'a> {
        let data = Data(self);
        match &member.sparse {
            Some(map) => Box::new(SparseReader::new(data, map)),
            None => Box::new(data),
        }
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, ArchiveError> {
        let pax = extensions.pax.unwrap_or_default();
        let mut member = Member::decode(header, extensions.name, extensions.link, &pax)?;
        self.expect(member.size);
        let fail = |problem| member::name_error(&member.name, problem);
        let (extents, size) = if header.entry_type().is_gnu_sparse() {
            self.old_sparse_map(header).map_err(|e| e.named(fail))?
        } else if pax.sparse.is_sparse() {
            let size = pax.sparse.real_size.unwrap_or(member.size);
            (self.pax_sparse_map(&pax).map_err(|e| e.named(fail))?, size)
        } else {
            return Ok(member);
        };
        let map = SparseMap::new(extents, size, self.left).map_err(fail)?;
        member.size = map.size();
        member.sparse = Some(map);
        Ok(member)
    }

    fn old_sparse_map(&mut self, header: &Header) -> Result<(Vec<Extent>, u64), MapError> {
        let gnu = header.as_gnu().ok_or(MapError::Map)?;
        let size = gnu.real_size().map_err(|_| MapError::Map)?;
        let mut extents = Vec::new();
        let mut add = |blocks: &[tar::GnuSparseHeader]| {
            for block in blocks.iter().filter(|block| !block.is_empty()) {
                let offset = block.offset().map_err(|_| MapError::Map)?;
                let len = block.length().map_err(|_| MapError::Map)?;
                extents.push(Extent { offset, len });
            }
            // Blocks are 512 bytes long; this bounds what a lying header makes us keep.
            if extents.len() as u64 > MAX_EXTENSION {
                Err(MapError::Map)
            } else {
                Ok(())
            }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.fill(block.as_mut_bytes()).map_err(MapError::Archive)?;
            add(&block.sparse)?;
            more = block.is_extended();
        }
        Ok((extents, size))
    }

    fn pax_sparse_map(&mut self, pax: &Pax) -> Result<Vec<Extent>, MapError> {
        if !pax.sparse.map_in_data() {
            return Ok(pax.sparse.map.clone());
        }
        let stored = self.left;
        let read = read_map(Data(self), stored);
        let (extents, _) = read
            .map_err(|e| MapError::Archive(ArchiveError::from_io(e)))?
            .ok_or(MapError::Map)?;
        Ok(extents)
    }

    /// Reads the next header block and checks its sum; none at the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                // Some writers leave the two zero blocks out.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ArchiveError::Malformed("it ends in the middle of a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ArchiveError::Read(e)),
            }
        }
        if block.iter().all(|b| *b == 0) {
            self.offset += BLOCK as u64;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        if !checksum_matches(&header) {
            return Err(ArchiveError::Malformed("the header's checksum is wrong"));
        }
        self.offset += BLOCK as u64;
        Ok(Some(header))
    }

    /// The data of a header that describes the next member.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let size = header
            .entry_size()
            .map_err(|_| ArchiveError::Entry(member::error(header, EntryProblem::Field("size"))))?;
        if size > MAX_EXTENSION {
            return Err(ArchiveError::Malformed(
                "a name or an extended header is over 1 MiB",
            ));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.fill(&mut data)?;
        self.expect(size);
        self.left = 0;
        self.skip()?;
        Ok(data)
    }

    fn text(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let mut data = self.extension(header)?;
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        data.truncate(end);
        Ok(data)
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Passes over what is left of the present member.
    fn skip(&mut self) -> Result<(), ArchiveError> {
        let mut buf = [0; 16 * BLOCK];
        let mut todo = self.left.saturating_add(self.padding);
        while todo > 0 {
            let want = buf.len().min(usize::try_from(todo).unwrap_or(usize::MAX));
            self.fill(&mut buf[..want])?;
            todo -= want as u64;
        }
        self.left = 0;
        self.padding = 0;
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), ArchiveError> {
        self.inner.read_exact(buf).map_err(ArchiveError::from_io)?;
        self.offset += buf.len() as u64;
        Ok(())
    }
}

impl ArchiveError {
    /// An unexpected end is the archive's fault, anything else the stream's.
    pub fn from_io(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Malformed("it ends in the middle of an entry");
        }
        Self::Read(error)
    }
}

/// Why a sparse map cannot be had.
enum MapError {
    Map,
    Archive(ArchiveError),
}

impl MapError {
    fn named(self, fail: impl Fn(EntryProblem) -> EntryError) -> ArchiveError {
        match self {
            Self::Map => ArchiveError::Entry(fail(EntryProblem::Sparse)),
            Self::Archive(error) => error,
        }
    }
}

/// The stored bytes of the present member.
struct Data<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let archive = &mut *self.0;
        let want = buf.len().min(usize::try_from(archive.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = archive.inner.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        archive.left -= n as u64;
        archive.offset += n as u64;
        Ok(n)
    }
}

/// Old writers summed signed bytes (tar manual, "Basic Tar Format").
fn checksum_matches(header: &Header) -> bool {
    let Ok(stated) = header.cksum() else {
        return false;
    };
    let bytes = header.as_bytes();
    let spaces = 8 * i64::from(b' ');
    let others = || bytes[..148].iter().chain(&bytes[156..]);
    let unsigned: i64 = others().map(|b| i64::from(*b)).sum();
    let signed: i64 = others().map(|b| i64::from(b.cast_signed())).sum();
    let stated = i64::from(stated);
    stated == unsigned + spaces || stated == signed + spaces
}
