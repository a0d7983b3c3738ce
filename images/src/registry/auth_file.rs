//! Credentials from `auth.json` and docker's `config.json` (containers-auth.json(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::RegistryError;

/// A user name and a password or token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The credentials files of this process, read when asked for, so that a changed file takes effect
/// without a restart.
#[derive(Debug, Clone, Default)]
pub struct AuthFiles {
    paths: Vec<PathBuf>,
    required: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl AuthFiles {
    /// `explicit`, which must exist then, or else the places where podman and docker keep theirs:
    /// `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`,
    /// `$XDG_CONFIG_HOME/containers/auth.json` (default `~/.config`), `~/.docker/config.json`.
    pub fn locate(explicit: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        if let Some(path) = explicit {
            return AuthFiles {
                paths: vec![path.to_owned()],
                required: true,
            };
        }
        if let Some(path) = env("REGISTRY_AUTH_FILE") {
            return AuthFiles {
                paths: vec![PathBuf::from(path)],
                required: true,
            };
        }
        let home = env("HOME").map(PathBuf::from);
        let config = env("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        let docker = env("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let paths = [
            env("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json")),
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ];
        AuthFiles {
            paths: paths.into_iter().flatten().collect(),
            required: false,
        }
    }

    /// The credentials for a repository of `host`, from the first file that has any: the entry
    /// with the longest matching path wins (`host/a/b`, `host/a`, `host`).
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>, RegistryError> {
        for path in &self.paths {
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.required => continue,
                Err(source) => {
                    return Err(RegistryError::AuthFile {
                        path: path.clone(),
                        source,
                    });
                }
            };
            let found = lookup(&text, host, repository).map_err(|source| RegistryError::AuthFile {
                path: path.clone(),
                source,
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Where credentials were looked for, for an error message.
    pub(super) fn places(&self) -> String {
        let shown: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        shown.join(", ")
    }
}

/// Finds the entry in one file's text. Errors never quote the text: it holds passwords.
fn lookup(text: &str, host: &str, repository: &str) -> io::Result<Option<Credentials>> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "not an auth file (line {}, column {})",
                error.line(),
                error.column()
            ),
        )
    })?;
    let mut wanted = format!("{host}/{repository}");
    loop {
        let entry = file.auths.iter().find(|(key, _)| normalised(key) == wanted);
        if let Some((key, entry)) = entry {
            return decode(key, entry);
        }
        match wanted.rfind('/') {
            Some(end) => wanted.truncate(end),
            None => return Ok(None),
        }
    }
}

/// Docker writes `https://index.docker.io/v1/` for what everyone else calls `docker.io`.
fn normalised(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    if key == "index.docker.io" {
        "docker.io"
    } else {
        key
    }
}

fn decode(key: &str, entry: &Entry) -> io::Result<Option<Credentials>> {
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`auth` of {key} is not base64 of user:password"),
        )
    };
    match (&entry.auth, &entry.username, &entry.password) {
        (Some(auth), _, _) if !auth.is_empty() => {
            let bytes = openssl::base64::decode_block(auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (user, password) = text.split_once(':').ok_or_else(bad)?;
            Ok(Some(Credentials {
                user: user.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            }))
        }
        (_, Some(user), Some(password)) => Ok(Some(Credentials {
            user: user.clone(),
            password: password.clone(),
        })),
        (_, _, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths":{
        "q.example":{"auth":"aG9zdDpwdzE="},
        "q.example/team":{"auth":"dGVhbTpwdzI="},
        "q.example/team/app":{"username":"app","password":"p:w3"},
        "https://index.docker.io/v1/":{"auth":"aHViOnB3NA=="},
        "helper.example":{}
    }, "credsStore":"desktop"}"#;

    #[test]
    fn the_longest_path_wins() {
        let table = [
            ("q.example", "other/app", Some(("host", "pw1"))),
            ("q.example", "team/other", Some(("team", "pw2"))),
            ("q.example", "team/app", Some(("app", "p:w3"))),
            ("q.example", "team/app/sub", Some(("app", "p:w3"))),
            ("q.example", "teamwork", Some(("host", "pw1"))),
            ("docker.io", "library/debian", Some(("hub", "pw4"))),
            ("helper.example", "x", None),
            ("example", "x", None),
            ("q.example:5000", "team/app", None),
        ];
        for (host, repository, expected) in table {
            let found = lookup(FILE, host, repository).expect("a good file");
            let found = found.as_ref().map(|c| (c.user.as_str(), c.password.as_str()));
            assert_eq!(found, expected, "{host}/{repository}");
        }
    }

    #[test]
    fn a_bad_file_is_an_error_without_its_content() {
        for text in [
            "{\"auths\": secret",
            r#"{"auths":{"q.example":{"auth":"c2VjcmV0"}}}"#,
        ] {
            let error = lookup(text, "q.example", "a").expect_err("bad");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn files_are_searched_in_order() {
        let env = |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            "XDG_RUNTIME_DIR" => Some(OsString::from("/run/u")),
            _ => None,
        };
        let shown = AuthFiles::locate(None, &env).places();
        assert_eq!(
            shown,
            "/run/u/containers/auth.json, /h/.config/containers/auth.json, /h/.docker/config.json"
        );
        let explicit = AuthFiles::locate(Some(Path::new("/nowhere/auth.json")), &env);
        assert_eq!(explicit.places(), "/nowhere/auth.json");
        explicit
            .find("q.example", "a")
            .expect_err("an explicit file must exist");
    }

    #[test]
    fn credentials_do_not_show() {
        let credentials = Credentials {
            user: "u".to_owned(),
            password: "geheim".to_owned(),
        };
        assert!(!format!("{credentials:?}").contains("geheim"));
    }
}
