//! Changes that keep most of an input's form: the fuzzer's own, of bytes and blocks, leave few documents readable, and of
//! those most are the same to the code behind the parser.

use std::sync::OnceLock;

use tar::{EntryType, Header};

/// What parsers, paths, shells and systemd take for something special.
const SPECIAL: &[&str] = &[
    "",
    "..",
    "../",
    "/..",
    "/",
    "//",
    "/./",
    "/.",
    ".",
    "a",
    "x/y",
    "%",
    "%n",
    "%00",
    "%2F",
    "$HOME",
    "$$",
    "\\",
    "\\n",
    "\\r",
    "\\u0000",
    "\\u0085",
    "\\uffff",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\"",
    "'",
    ":",
    "=",
    ";",
    "#",
    "[",
    "]",
    "@",
    "!",
    "|",
    "*",
    ",",
    "null",
    "true",
    "0",
    "1",
    "-1",
    "4294967295",
    "18446744073709551615",
    "9223372036854775807",
    "1e999",
    "1.5",
    "nan",
    "\u{e9}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{ffff}",
    "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
];

/// Chance, from the number that the fuzzer gives.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u32) -> Self {
        Dice(u64::from(seed) << 1 | 1)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % bound.max(1)
    }

    fn special(&mut self) -> &'static [u8] {
        SPECIAL[self.below(SPECIAL.len())].as_bytes()
    }
}

/// One of the inputs that it all began with, if `NODECTL_FUZZ_SEEDS` says where they are. Most inputs that were found
/// since differ in what the parsers do with them; these are the ones that get past them.
pub fn seed(dice: &mut Dice) -> Option<&'static [u8]> {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let seeds = SEEDS.get_or_init(|| {
        let entries = std::env::var_os("NODECTL_FUZZ_SEEDS").and_then(|path| std::fs::read_dir(path).ok());
        let mut paths: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
    });
    seeds.get(dice.below(seeds.len())).map(Vec::as_slice)
}

/// Changes one or two values of a document: JSON, TOML or fields.
pub fn text(data: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut changed = data.to_vec();
    for _ in 0..=dice.below(2) {
        let values = values(&changed);
        let value = values[dice.below(values.len())].clone();
        let other = values[dice.below(values.len())].clone();
        let new = match dice.below(6) {
            0 => dice.special().to_vec(),
            1 => changed[other].to_vec(),
            2 => {
                let mut new = changed[value.clone()].to_vec();
                if !new.is_empty() {
                    let at = dice.below(new.len());
                    new[at] = b"/.-_:%$\"' \\Az09"[dice.below(15)];
                }
                new
            }
            3 => without_part(&changed[value.clone()], dice),
            _ => {
                let old = &changed[value.clone()];
                let ends = ends(old);
                // Half of them between two parts.
                let at = match dice.below(2) {
                    0 if !ends.is_empty() => ends[dice.below(ends.len())],
                    _ => dice.below(old.len() + 1),
                };
                [&old[..at], dice.special(), &old[at..]].concat()
            }
        };
        changed.splice(value, new);
    }
    changed
}

/// Where the parts of a path, of a name of a host or of a unit end.
fn ends(value: &[u8]) -> Vec<usize> {
    let is_end = |at: &usize| matches!(value[*at], b'.' | b'/' | b'-');
    (0..value.len()).filter(is_end).collect()
}

/// A path, a name of a host or of a unit without one of its parts.
fn without_part(value: &[u8], dice: &mut Dice) -> Vec<u8> {
    let ends = ends(value);
    let Some(end) = ends.get(dice.below(ends.len())) else {
        return Vec::new();
    };
    let next = ends.iter().find(|at| *at > end).copied().unwrap_or(value.len());
    [&value[..*end], &value[next..]].concat()
}

/// What stands between marks of a document's form. Never none.
fn values(data: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut begin = 0;
    let is_mark = |byte: u8| {
        matches!(
            byte,
            b'"' | b'{' | b'}' | b'[' | b']' | b',' | b'=' | b'\n' | 0xff | b' ' | b':'
        )
    };
    for (at, byte) in data.iter().enumerate() {
        if is_mark(*byte) {
            let quoted = *byte == b'"' && begin > 0 && data[begin - 1] == b'"';
            if at > begin || quoted {
                found.push(begin..at);
            }
            begin = at + 1;
        }
    }
    found.push(begin..data.len());
    found
}

const BLOCK: usize = 512;
const KINDS: &[u8] = b"05123467gxLKSVA\0";

/// Changes a header of an archive, takes a member out, or puts another one in.
pub fn archive(data: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut changed = data.to_vec();
    let headers = headers(data);
    let Some(at) = headers.get(dice.below(headers.len())).copied() else {
        return member(dice);
    };
    let header = &mut changed[at..at + BLOCK];
    match dice.below(8) {
        0 | 1 => name(&mut header[..100], dice),
        2 | 3 => name(&mut header[157..257], dice),
        4 => header[156] = KINDS[dice.below(KINDS.len())],
        5 => {
            let fields = [100..108, 108..116, 116..124, 124..136, 136..148];
            let field = fields[dice.below(fields.len())].clone();
            let digits = format!("{:o}", [0, 1, 511, 512, 0o4755, 0o7777, 1 << 31][dice.below(7)]);
            header[field.clone()].fill(0);
            header[field.start..field.start + digits.len().min(field.len())]
                .copy_from_slice(&digits.as_bytes()[..digits.len().min(field.len())]);
        }
        6 => {
            let end = headers
                .iter()
                .find(|other| **other > at)
                .copied()
                .unwrap_or(data.len());
            changed.drain(at..end);
        }
        _ => drop(changed.splice(at..at, member(dice))),
    }
    changed
}

/// Where a walk over the archive finds headers.
fn headers(data: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(block) = data.get(at..at + BLOCK) {
        found.push(at);
        let size = Header::from_byte_slice(block).entry_size().unwrap_or(0);
        let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(data.len());
        at = at
            .saturating_add(BLOCK)
            .saturating_add(blocks.saturating_mul(BLOCK))
            .min(data.len());
    }
    found
}

/// One or two parts, of few names, so that entries meet each other.
fn name(field: &mut [u8], dice: &mut Dice) {
    const PARTS: [&str; 12] = [
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh.",
        ".wh..wh.opq",
        ".wh..",
        "etc",
        "bin",
    ];
    let mut text = PARTS[dice.below(PARTS.len())].to_owned();
    for _ in 0..dice.below(3) {
        text = format!("{text}/{}", PARTS[dice.below(PARTS.len())]);
    }
    field.fill(0);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

fn member(dice: &mut Dice) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    header.set_entry_type(EntryType::new(KINDS[dice.below(8)]));
    let mut bytes = header.as_bytes().to_vec();
    name(&mut bytes[..100], dice);
    name(&mut bytes[157..257], dice);
    bytes
}
