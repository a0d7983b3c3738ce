//! PAX extended headers (pax(1), "pax Extended Header").
//!
//! Records are cut by their stated length, not at line ends: values of `SCHILY.xattr.security.capability`
//! are binary and contain line feeds.

use std::collections::BTreeMap;

use super::index::{Bytes, Mtime};
use super::sparse::{Extent, PaxSparse};
use crate::error::EntryProblem;

const XATTR: &str = "SCHILY.xattr.";

/// What the extended header says about the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Mtime>,
    pub xattrs: BTreeMap<String, Bytes>,
    pub sparse: PaxSparse,
}

impl Pax {
    /// Reads all records; later ones win.
    pub fn parse(data: &[u8]) -> Result<Self, EntryProblem> {
        let mut pax = Self::default();
        let mut rest = data;
        while !rest.is_empty() {
            let (record, after) = cut(rest).ok_or(EntryProblem::Field("extended header"))?;
            pax.take(record)?;
            rest = after;
        }
        Ok(pax)
    }

    fn take(&mut self, record: &[u8]) -> Result<(), EntryProblem> {
        let equals = record.iter().position(|b| *b == b'=');
        let equals = equals.ok_or(EntryProblem::Field("extended header"))?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let Ok(key) = std::str::from_utf8(key) else {
            return Err(EntryProblem::Field("extended header"));
        };
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            "path" => self.path = bytes(),
            "linkpath" => self.link = bytes(),
            "size" => self.size = number(value, "extended size")?,
            "uid" => self.uid = number(value, "extended uid")?,
            "gid" => self.gid = number(value, "extended gid")?,
            "mtime" => self.mtime = time(value)?,
            _ if key.starts_with(XATTR) => {
                let name = key[XATTR.len()..].to_owned();
                self.xattrs.insert(name, Bytes(value.to_vec()));
            }
            _ if key.starts_with("GNU.sparse.") => self.sparse(&key[11..], value)?,
            _ => {}
        }
        Ok(())
    }

    fn sparse(&mut self, key: &str, value: &[u8]) -> Result<(), EntryProblem> {
        let sparse = &mut self.sparse;
        let required = || number(value, "sparse map")?.ok_or(EntryProblem::Sparse);
        match key {
            "major" => sparse.major = Some(required()?),
            "minor" => sparse.minor = Some(required()?),
            "name" => sparse.name = Some(value.to_vec()),
            "size" | "realsize" => sparse.real_size = Some(required()?),
            "offset" => sparse.pending_offset = Some(required()?),
            "numbytes" => {
                let offset = sparse.pending_offset.take().ok_or(EntryProblem::Sparse)?;
                let len = required()?;
                sparse.map.push(Extent { offset, len });
            }
            "map" => sparse.map = pairs(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// Cuts one record `<length> <key>=<value>\n` off.
fn cut(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let (record, after) = data.split_at_checked(len)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((body, after))
}

fn number(value: &[u8], what: &'static str) -> Result<Option<u64>, EntryProblem> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.map(Some).ok_or(EntryProblem::Field(what))
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Result<Option<Mtime>, EntryProblem> {
    if value.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let text = std::str::from_utf8(value).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let secs: i64 = whole.parse().ok()?;
        let digits = &fraction[..fraction.len().min(9)];
        let nanos: u32 = format!("{digits:0<9}").parse().ok()?;
        if whole.starts_with('-') && nanos > 0 {
            // -1.5 is half a second after -2.
            return Some(Mtime {
                secs: secs.checked_sub(1)?,
                nanos: 1_000_000_000 - nanos,
            });
        }
        Some(Mtime { secs, nanos })
    };
    parse().map(Some).ok_or(EntryProblem::Field("extended mtime"))
}

fn pairs(value: &[u8]) -> Result<Vec<Extent>, EntryProblem> {
    let mut numbers = Vec::new();
    for part in value.split(|b| *b == b',').filter(|part| !part.is_empty()) {
        numbers.push(number(part, "sparse map")?.ok_or(EntryProblem::Sparse)?);
    }
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(EntryProblem::Sparse);
    }
    Ok(pairs
        .iter()
        .map(|[offset, len]| Extent {
            offset: *offset,
            len: *len,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_contain_line_feeds() {
        let data = b"41 SCHILY.xattr.security.capability=a\nb\n\n12 path=x/y\n";
        let pax = Pax::parse(data).unwrap();
        assert_eq!(pax.xattrs["security.capability"].0, b"a\nb\n");
        assert_eq!(pax.path.as_deref(), Some(&b"x/y"[..]));
    }

    #[test]
    fn times() {
        for (text, secs, nanos) in [
            ("5", 5, 0),
            ("5.25", 5, 250_000_000),
            ("1700000000.1234567899", 1_700_000_000, 123_456_789),
            ("-1.5", -2, 500_000_000),
            ("-0.5", -1, 500_000_000),
        ] {
            let want = Some(Mtime { secs, nanos });
            assert_eq!(time(text.as_bytes()).unwrap(), want, "{text}");
        }
        for bad in ["x", "1.x", ".", "1.-5"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in [
            &b"5 a=b\n"[..],
            b"99 a=b\n",
            b"6 ab\n",
            b"x a=b\n",
            b"6 a=b",
            b"2 a=b\n",
        ] {
            assert!(Pax::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(Pax::parse(b"13 size=large\n").is_err());
    }
}
