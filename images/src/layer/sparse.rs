//! Sparse files: GNU's old header and its three PAX forms (tar manual, "Storing Sparse Files").

use std::io::{self, Read};

use crate::error::EntryProblem;

/// More extents than any real file has; each takes 16 bytes of memory.
const MAX_EXTENTS: usize = 1 << 20;

/// A piece of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub offset: u64,
    pub len: u64,
}

/// What an extended header says about sparseness.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub pending_offset: Option<u64>,
    pub map: Vec<Extent>,
}

impl PaxSparse {
    /// Whether the entry is sparse at all.
    pub fn is_sparse(&self) -> bool {
        self.real_size.is_some()
    }

    /// Whether the map stands before the data (format 1.0) and not in the extended header (0.0, 0.1).
    pub fn map_in_data(&self) -> bool {
        self.major == Some(1) && self.minor == Some(0)
    }
}

/// Where the data of a sparse file belongs: in order, without overlap, within `size`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    extents: Vec<Extent>,
    size: u64,
}

impl SparseMap {
    /// Checks `extents` for a file of `size` bytes of which `stored` are in the archive.
    pub(super) fn new(extents: Vec<Extent>, size: u64, stored: u64) -> Result<Self, EntryProblem> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for extent in &extents {
            if extent.offset < end {
                return Err(EntryProblem::Sparse);
            }
            end = extent
                .offset
                .checked_add(extent.len)
                .ok_or(EntryProblem::Sparse)?;
            sum += extent.len;
        }
        if end > size || sum != stored || extents.len() > MAX_EXTENTS {
            return Err(EntryProblem::Sparse);
        }
        Ok(Self { extents, size })
    }

    /// The size of the file with its holes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Reads the map that stands before the data in format 1.0. Returns it and how many bytes it took.
pub(super) fn read_map(mut data: impl Read, stored: u64) -> io::Result<Option<(Vec<Extent>, u64)>> {
    let mut taken = 0;
    let mut block = [0; 512];
    let mut numbers: Vec<u64> = Vec::new();
    let mut current: Option<u64> = None;
    loop {
        if taken + 512 > stored {
            return Ok(None);
        }
        data.read_exact(&mut block)?;
        taken += 512;
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let shifted = current.unwrap_or(0).checked_mul(10);
                    let Some(next) = shifted.and_then(|n| n.checked_add(digit)) else {
                        return Ok(None);
                    };
                    current = Some(next);
                }
                b'\n' => {
                    let Some(number) = current.take() else {
                        return Ok(None);
                    };
                    numbers.push(number);
                    if is_whole(&numbers) {
                        return Ok(Some((extents(&numbers), taken)));
                    }
                }
                _ => return Ok(None),
            }
            if numbers.len() > 2 * MAX_EXTENTS {
                return Ok(None);
            }
        }
    }
}

/// The first number counts the pairs that follow.
fn is_whole(numbers: &[u64]) -> bool {
    numbers.len() as u64 - 1 == numbers[0].saturating_mul(2)
}

fn extents(numbers: &[u64]) -> Vec<Extent> {
    let (pairs, _) = numbers[1..].as_chunks::<2>();
    pairs
        .iter()
        .map(|[offset, len]| Extent {
            offset: *offset,
            len: *len,
        })
        .collect()
}

/// Reads a sparse file as it is when unpacked: data with zeros between.
pub(super) struct SparseReader<'a, R> {
    data: R,
    extents: std::slice::Iter<'a, Extent>,
    /// Zeros and data still to come before the next extent.
    zeros: u64,
    bytes: u64,
    position: u64,
    size: u64,
}

impl<'a, R: Read> SparseReader<'a, R> {
    pub fn new(data: R, map: &'a SparseMap) -> Self {
        Self {
            data,
            extents: map.extents.iter(),
            zeros: 0,
            bytes: 0,
            position: 0,
            size: map.size,
        }
    }
}

impl<R: Read> Read for SparseReader<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.zeros == 0 && self.bytes == 0 {
            match self.extents.next() {
                Some(extent) => {
                    self.zeros = extent.offset - self.position;
                    self.bytes = extent.len;
                }
                None if self.position < self.size => self.zeros = self.size - self.position,
                None => return Ok(0),
            }
        }
        let left = if self.zeros > 0 { self.zeros } else { self.bytes };
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = if self.zeros > 0 {
            buf[..want].fill(0);
            self.zeros -= want as u64;
            want
        } else {
            let n = self.data.read(&mut buf[..want])?;
            self.bytes -= n as u64;
            n
        };
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, len: u64) -> Extent {
        Extent { offset, len }
    }

    #[test]
    fn holes_read_as_zeros() {
        let map = SparseMap::new(vec![extent(2, 2), extent(4, 0), extent(5, 1)], 8, 3).unwrap();
        let mut out = Vec::new();
        SparseReader::new(&b"abc"[..], &map)
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, b"\0\0ab\0c\0\0");
    }

    #[test]
    fn contradictions_are_refused() {
        for (extents, size, stored) in [
            (vec![extent(2, 2), extent(3, 2)], 8, 4),
            (vec![extent(2, 2)], 3, 2),
            (vec![extent(2, 2)], 8, 3),
            (vec![extent(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert_eq!(SparseMap::new(extents, size, stored), Err(EntryProblem::Sparse));
        }
    }

    #[test]
    fn map_before_the_data() {
        let mut data = b"2\n0\n5\n100\n7\n".to_vec();
        data.resize(512, 0);
        let map = read_map(&data[..], 600).unwrap().unwrap();
        assert_eq!(map, (vec![extent(0, 5), extent(100, 7)], 512));
        assert_eq!(read_map(&data[..], 100).unwrap(), None);
        assert_eq!(read_map(&[b'x'; 512][..], 600).unwrap(), None);
    }
}
