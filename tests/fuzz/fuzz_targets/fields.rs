//! Inputs that are several texts: separated by the byte 0xff, which no UTF-8 has in it, so that the fuzzer inserts,
//! removes and swaps whole values, and each value may hold whatever a text can hold.

/// The fields of an input; none if one of them is no text.
pub fn fields(data: &[u8]) -> Option<Vec<&str>> {
    data.split(|byte| *byte == 0xff)
        .map(|field| std::str::from_utf8(field).ok())
        .collect()
}

/// A field's first character, which says what it is for, and the rest.
pub fn tagged(field: &str) -> Option<(char, &str)> {
    let mut chars = field.chars();
    chars.next().map(|tag| (tag, chars.as_str()))
}
