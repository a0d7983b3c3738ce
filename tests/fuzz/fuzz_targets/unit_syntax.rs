//! How systemd 252 reads a unit file, written from systemd.syntax(7), systemd.service(5) and the behaviour of
//! `config_parse()` and `extract_first_word()`, and from nothing of this project. It knows the directives that nodectl
//! writes; any other one, or anything that systemd would warn about or replace, is a panic.

/// One directive as systemd understands it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Directive {
    pub section: String,
    pub name: String,
    pub words: Vec<String>,
}

/// What a directive's value is.
enum Kind {
    /// The rest of the line, with specifiers.
    Line,
    /// The rest of the line as it is.
    Plain,
    /// As `Line`, behind the marks `|` and `!`.
    Condition,
    /// Words in which a backslash stays one.
    Names,
    /// Words in which a backslash takes the next character as it is, and quotes mean nothing.
    Sockets,
    /// Words, with quotes and specifiers.
    Paths,
    /// Words, with quotes, C escapes and specifiers.
    Environment,
    /// A command line.
    Command,
    /// A word before a colon, and the rest of the line.
    Credential,
}

/// What the whole text means to systemd.
pub fn parse(text: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    let mut section: Option<String> = None;
    let mut continued = String::new();
    // read_line() ends a line at any of these.
    for raw in text.split(['\n', '\r', '\0']) {
        assert!(
            raw.chars().all(is_valid),
            "a line that systemd ignores, since it takes it for no UTF-8: {raw:?}"
        );
        let stripped = raw.trim_start_matches(BLANKS);
        // A comment also within a continued line.
        if stripped.starts_with(['#', ';']) {
            continue;
        }
        let line = continued.clone() + if continued.is_empty() { stripped } else { raw };
        if ends_in_escape(&line) {
            continued = line[..line.len() - 1].to_owned() + " ";
            continue;
        }
        continued.clear();
        let line = line.trim_matches(BLANKS);
        if line.is_empty() {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').expect("a section header has an end");
            section = Some(name.to_owned());
            continue;
        }
        let section = section.clone().expect("an assignment is in a section");
        let (name, value) = line.split_once('=').expect("neither section nor assignment");
        let name = name.trim_end_matches(BLANKS).to_owned();
        let words = words(&section, &name, value.trim_start_matches(BLANKS));
        found.push(Directive { section, name, words });
    }
    assert!(continued.is_empty(), "the text ends in a continued line");
    found
}

/// systemd's `WHITESPACE`.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// `unichar_is_valid()`: noncharacters are none.
fn is_valid(c: char) -> bool {
    let c = u32::from(c);
    !(0xfdd0..=0xfdef).contains(&c) && c & 0xfffe != 0xfffe
}

fn ends_in_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn kind(section: &str, name: &str) -> Kind {
    match (section, name) {
        ("Unit", "Description" | "DefaultDependencies" | "StartLimitIntervalSec" | "StartLimitBurst") => {
            Kind::Line
        }
        ("Unit", name) if name.starts_with("Condition") => Kind::Condition,
        ("Unit", "RequiresMountsFor") => Kind::Paths,
        ("Unit", "After" | "Before" | "Requires" | "Wants" | "BindsTo" | "PartOf" | "Conflicts")
        | ("Install", "WantedBy" | "Alias")
        | ("Service", "Slice") => Kind::Names,
        ("Service", "Sockets") => Kind::Sockets,
        ("Service", "LoadCredential") => Kind::Credential,
        ("Service", "Environment") => Kind::Environment,
        ("Service", "ExecStart" | "ExecStartPost" | "ExecStop" | "ExecStopPost") => Kind::Command,
        (
            "Service",
            "Type" | "NotifyAccess" | "Delegate" | "SyslogIdentifier" | "Restart" | "RestartSec"
            | "TimeoutStartSec" | "TimeoutStopSec" | "KillMode" | "KillSignal" | "WatchdogSec" | "TasksMax"
            | "CPUWeight" | "IOWeight",
        ) => Kind::Line,
        ("Service", "MemoryLow" | "MemoryHigh" | "MemoryMax") => Kind::Plain,
        _ => panic!("[{section}] {name}= was meant by nobody"),
    }
}

fn words(section: &str, name: &str, value: &str) -> Vec<String> {
    assert!(!value.is_empty(), "an empty {name}= resets what was set before");
    match kind(section, name) {
        Kind::Line => vec![specifiers(value)],
        Kind::Plain => vec![value.to_owned()],
        Kind::Condition => condition(value),
        Kind::Names => split(value, Escapes::Kept, true)
            .into_iter()
            .map(|word| specifiers(&word))
            .collect(),
        Kind::Sockets => split(value, Escapes::Plain, false)
            .into_iter()
            .map(|word| specifiers(&word))
            .collect(),
        Kind::Paths => split(value, Escapes::Plain, true)
            .into_iter()
            .map(|word| specifiers(&word))
            .collect(),
        Kind::Environment => split(value, Escapes::C, true)
            .into_iter()
            .map(|word| specifiers(&word))
            .collect(),
        Kind::Command => command(value),
        Kind::Credential => {
            let (name, path) = value.split_once(':').expect("a credential has a path");
            assert!(
                !name.contains(BLANKS) && !name.contains('\\'),
                "{name:?} is read as another name"
            );
            vec![specifiers(name), specifiers(path)]
        }
    }
}

fn condition(value: &str) -> Vec<String> {
    let (trigger, value) = mark(value, '|');
    assert!(!trigger, "a triggering condition was meant by nobody");
    let (negated, value) = mark(value, '!');
    vec![if negated { "!" } else { "" }.to_owned(), specifiers(value)]
}

fn mark(value: &str, mark: char) -> (bool, &str) {
    match value.strip_prefix(mark) {
        Some(rest) => (true, rest.trim_start_matches(BLANKS)),
        None => (false, value),
    }
}

/// `%%` is a percent sign; every other specifier stands for something that nobody meant.
fn specifiers(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            let next = chars.next();
            assert_eq!(next, Some('%'), "systemd replaces a specifier in {text:?}");
        }
        out.push(c);
    }
    out
}

fn command(value: &str) -> Vec<String> {
    let path = value.trim_start_matches('"');
    assert!(
        path.starts_with('/'),
        "{value:?} begins with something else than a path"
    );
    let mut words = Vec::new();
    for (index, raw) in raw_words(value).into_iter().enumerate() {
        assert!(raw != ";" && raw != "\\;", "{value:?} is two commands");
        let word = specifiers(&unescape(&raw, Escapes::C, true));
        if index == 0 {
            let safe = word
                .chars()
                .all(|c| !c.is_control() && !matches!(c, '"' | '\'' | '\\'));
            assert!(safe && !word.ends_with('/'), "systemd takes no {word:?}");
            words.push(word);
        } else {
            words.push(environment(&word));
        }
    }
    words
}

/// `$$` is a dollar sign; any other one names a variable.
fn environment(word: &str) -> String {
    let mut out = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        if c == '$' {
            assert_eq!(chars.next(), Some('$'), "systemd replaces a variable in {word:?}");
        }
        out.push(c);
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// EXTRACT_RETAIN_ESCAPE
    Kept,
    /// Neither that nor EXTRACT_CUNESCAPE
    Plain,
    /// EXTRACT_CUNESCAPE
    C,
}

fn split(value: &str, escapes: Escapes, quotes: bool) -> Vec<String> {
    if quotes {
        let raw = raw_words(value).into_iter();
        raw.map(|word| unescape(&word, escapes, true)).collect()
    } else {
        let raw = value.split(BLANKS).filter(|word| !word.is_empty());
        raw.map(|word| unescape(word, escapes, false)).collect()
    }
}

/// Words at blanks outside quotes, as they stand there.
fn raw_words(value: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut escaped = false;
    for c in value.chars() {
        if !escaped && quote.is_none() && BLANKS.contains(&c) {
            words.push(String::new());
            continue;
        }
        words.last_mut().expect("there is one").push(c);
        match (escaped, quote) {
            (true, _) => escaped = false,
            (false, _) if c == '\\' => escaped = true,
            (false, Some(open)) if c == open => quote = None,
            (false, None) if matches!(c, '"' | '\'') => quote = Some(c),
            (false, _) => {}
        }
    }
    assert!(quote.is_none() && !escaped, "{value:?} ends within quotes");
    words.retain(|word| !word.is_empty());
    words
}

fn unescape(word: &str, escapes: Escapes, quotes: bool) -> String {
    let mut out = Vec::new();
    let mut quote = None;
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' if escapes == Escapes::Kept => out.push(b'\\'),
            '\\' => rest = escape(rest, escapes, &mut out),
            '"' | '\'' if quotes && quote.is_none() => quote = Some(c),
            '"' | '\'' if quotes && quote == Some(c) => quote = None,
            c => out.extend(c.to_string().bytes()),
        }
    }
    String::from_utf8(out).expect("escapes make UTF-8")
}

/// What is behind a backslash.
fn escape<'a>(rest: &'a str, escapes: Escapes, out: &mut Vec<u8>) -> &'a str {
    let c = rest.chars().next().expect("something is escaped");
    let after = &rest[c.len_utf8()..];
    if escapes == Escapes::Plain {
        out.extend(c.to_string().bytes());
        return after;
    }
    match c {
        'a' => out.push(7),
        'b' => out.push(8),
        'f' => out.push(12),
        'n' => out.push(b'\n'),
        'r' => out.push(b'\r'),
        't' => out.push(b'\t'),
        'v' => out.push(11),
        's' => out.push(b' '),
        '\\' | '"' | '\'' => out.push(c as u8),
        'x' => {
            let byte = u8::from_str_radix(&after[..2], 16).expect("two hexadecimal digits");
            assert_ne!(byte, 0, "systemd refuses NUL");
            out.push(byte);
            return &after[2..];
        }
        other => panic!("systemd does not know \\{other}"),
    }
    after
}
