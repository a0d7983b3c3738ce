//! How a value stands in an INI file so that oslo.config reads just that value.

/// The text of a value that is one line. oslo.config strips blanks around a value, and then a pair of quotes around what
/// is left (`oslo_config/iniparser.py`): where there are any, quotes around all of it keep them.
#[must_use]
pub fn value(text: &str) -> String {
    let quoted = |quote: char| text.starts_with(quote) && text.ends_with(quote);
    if text.trim() != text || quoted('"') || quoted('\'') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn only_what_would_be_stripped_is_put_in_quotes() {
        for (text, expected) in [
            ("", ""),
            ("a b", "a b"),
            ("\"a\" or \"b", "\"a\" or \"b"),
            ("it's", "it's"),
            ("\"a\"", "\"\"a\"\""),
            ("'a'", "\"'a'\""),
            ("'", "\"'\""),
            (" a", "\" a\""),
            ("a\u{a0}", "\"a\u{a0}\""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }
}
