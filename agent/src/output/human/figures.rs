//! Figures as people read them: sizes, times, digests.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

use crate::api::{ImageInUse, ReleaseInfo};
use crate::plan::some_of;

/// What is said of a store whose files the kernel does not guard.
pub(super) const UNSEALED: &str = "unsealed: the file system has no fs-verity";

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1.5 GiB`; whole numbers below 1 KiB.
pub(super) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10;
    let mut unit = 0;
    tenths /= 1024;
    // 1023.95 and above would round up to four digits.
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS[unit];
    if tenths >= 1000 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// `image 77aa…: still used by guest g1 (pid 20)`
pub(super) fn still_used(image: &ImageInUse) -> String {
    let by = if image.by.is_empty() {
        "a process that has just ended".to_owned()
    } else {
        some_of(&image.by)
    };
    format!("image {}: still used by {by}", short(&image.image))
}

/// `850 ms`, `12.3 s`, `4 min 05 s`.
pub(super) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        60_000.. => {
            let seconds = milliseconds / 1_000;
            format!("{} min {:02} s", seconds / 60, seconds % 60)
        }
    }
}

/// Local time to the second, in the order that sorts.
pub(super) fn time(timestamp: Timestamp) -> String {
    let whole = timestamp.round(Unit::Second).unwrap_or(timestamp);
    whole.to_zoned(TimeZone::system()).strftime("%F %T").to_string()
}

/// Enough of a digest to tell it from others.
pub(super) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

/// `compute 2 (registry/compute-release:2)`.
pub(super) fn release(info: &ReleaseInfo) -> String {
    format!("{} {} ({})", info.name, info.version, info.reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_four_characters_and_a_unit() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (403 << 20, "403 MiB"),
            (1023 << 20, "1023 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16383 PiB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn durations_grow_with_their_units() {
        let table = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (59_999, "59.9 s"),
            (245_000, "4 min 05 s"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn digests_are_cut_and_short_ones_are_not() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("abc"), "abc");
    }
}
