//! What a gate is pointed at: commands, sockets, addresses, URLs and bus names. One that could never be answered is
//! refused where it is written, not by an upgrade that leads back.

use std::path::PathBuf;

use super::validate::check_path;

pub(super) fn absolute(gate: &str, command: Vec<String>) -> Result<Vec<String>, String> {
    if !command.first().is_some_and(|c| c.starts_with('/')) {
        Err(format!(
            "command of gate {gate:?} has to begin with an absolute path"
        ))
    } else if command.iter().any(|word| word.contains('\0')) {
        Err(format!("command of gate {gate:?} has a NUL in it"))
    } else {
        Ok(command)
    }
}

pub(super) fn socket(gate: &str, path: PathBuf) -> Result<PathBuf, String> {
    check_path("socket", &path).map_err(|e| format!("gate {gate:?}: {e}"))?;
    Ok(path)
}

pub(super) fn with_port(gate: &str, address: String) -> Result<String, String> {
    if is_host_and_port(&address) {
        Ok(address)
    } else {
        Err(format!(
            "address of gate {gate:?} has to be HOST:PORT, {address:?} is not"
        ))
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic());
        named && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

pub(super) fn plain_http(gate: &str, url: String) -> Result<String, String> {
    match http_target(&url) {
        Some(target) if is_host_and_port(&target.address) => Ok(url),
        Some(_) | None => Err(format!(
            "url of gate {gate:?} has to be an http:// URL, {url:?} is not"
        )),
    }
}

pub(super) fn bus_name(gate: &str, name: String) -> Result<String, String> {
    match zbus::names::WellKnownName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(e) => Err(format!(
            "bus_name of gate {gate:?}: {name:?} is no well-known name: {e}"
        )),
    }
}

/// Whom a URL names, and what is asked there.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpTarget<'a> {
    /// `HOST:PORT`.
    pub address: String,
    /// The host as the URL spells it, with its port if it has one.
    pub authority: &'a str,
    /// Path and query, `/` if the URL has none.
    pub path: &'a str,
}

/// The parts of an `http://` URL; none if it is something else or has characters that end a line of a request.
pub fn http_target(url: &str) -> Option<HttpTarget<'_>> {
    let rest = url.strip_prefix("http://")?;
    let clean = rest.chars().all(|c| c.is_ascii_graphic());
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'));
    let address = match has_port {
        true => authority.to_owned(),
        false => format!("{authority}:80"),
    };
    (clean && !authority.is_empty()).then_some(HttpTarget {
        address,
        authority,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "g";

    /// Takes all of `fine`, and refuses all of `wrong` by the gate's name.
    fn check<T>(of: impl Fn(&str) -> Result<T, String>, fine: &[&str], wrong: &[&str]) {
        for value in fine {
            assert!(of(value).is_ok(), "{value:?}");
        }
        for value in wrong {
            let error = of(value).err().unwrap_or_else(|| panic!("{value:?} is taken"));
            assert!(error.contains("\"g\""), "{value:?}: {error}");
        }
    }

    #[test]
    fn a_command_is_one_that_can_be_executed() {
        let of = |word: &str| absolute(NAME, vec!["/a".to_owned(), word.to_owned()]);
        check(of, &["", "b c"], &["\0"]);
        check(
            |program| absolute(NAME, vec![program.to_owned()]),
            &["/a"],
            &["", "a", "/a\0"],
        );
        assert!(absolute(NAME, Vec::new()).is_err());
    }

    #[test]
    fn a_socket_is_an_absolute_path() {
        let wrong = ["", "a", "/", "/run/", "/run/../a", "/a\0"];
        check(|path| socket(NAME, path.into()), &["/run/a.sock"], &wrong);
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        let fine = ["127.0.0.1:1", "[::1]:65535", "host.example:80"];
        let wrong = [
            "",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:65536",
            "host:http",
            "a b:80",
            "a\0:80",
        ];
        check(|address| with_port(NAME, address.to_owned()), &fine, &wrong);
    }

    #[test]
    fn a_url_is_one_that_a_request_can_name() {
        let fine = ["http://h", "http://h:1/a?b", "http://[::1]", "http://[::1]:80/"];
        let wrong = [
            "",
            "h",
            "https://h/",
            "http://",
            "http://h/a b",
            "http://h/\r\nX: y",
            "http://h:x/",
            "http://:80/",
        ];
        check(|url| plain_http(NAME, url.to_owned()), &fine, &wrong);
    }

    #[test]
    fn a_bus_name_is_well_known() {
        let wrong = ["", "org", ":1.5", "org.a b", "org..a", "/org/a"];
        let fine = ["org.freedesktop.machine1"];
        check(|name| bus_name(NAME, name.to_owned()), &fine, &wrong);
    }

    #[test]
    fn a_url_has_a_host_a_port_and_a_path() {
        let target = |address: &str, authority, path| {
            let address = address.to_owned();
            Some(HttpTarget {
                address,
                authority,
                path,
            })
        };
        assert_eq!(http_target("http://h:1/a/b"), target("h:1", "h:1", "/a/b"));
        assert_eq!(http_target("http://h"), target("h:80", "h", "/"));
        assert_eq!(http_target("http://[::1]/"), target("[::1]:80", "[::1]", "/"));
        for bad in ["https://h/", "http://", "http://h/a b", "http://h/\r\nX: y", "h"] {
            assert_eq!(http_target(bad), None, "{bad:?}");
        }
    }
}
