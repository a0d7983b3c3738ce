//! Files with secrets, made at launch from the unit's credentials in memory that only the service
//! sees.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::{CredentialFile, StartError};

/// Writes the files into `directory` and returns (source, target) of each.
pub(super) fn render(
    files: &[CredentialFile],
    directory: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>, StartError> {
    let from = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(PathBuf::from)
        .ok_or_else(|| {
            let reason = "the service needs credentials and the unit passes none".to_owned();
            StartError::Bundle {
                path: "launch.json".into(),
                reason,
            }
        })?;
    let mut rendered = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let text = ini(&file.ini, &|name| read(&from.join(name)))?;
        let source = directory.join(number.to_string());
        write(&source, file, &text).map_err(StartError::path("write", &source))?;
        rendered.push((source, file.target.clone()));
    }
    Ok(rendered)
}

fn read(path: &Path) -> Result<String, StartError> {
    let mut value = std::fs::read_to_string(path).map_err(StartError::path("read credential", path))?;
    if value.ends_with('\n') {
        value.pop();
    }
    if value.contains(['\n', '\r', '\0']) {
        let reason = "a credential for an INI file has to be one line".to_owned();
        return Err(StartError::Bundle {
            path: path.to_owned(),
            reason,
        });
    }
    Ok(value)
}

/// The INI text; `value` gives the content of a credential.
fn ini(
    sections: &BTreeMap<String, BTreeMap<String, String>>,
    value: &dyn Fn(&str) -> Result<String, StartError>,
) -> Result<String, StartError> {
    let mut text = String::new();
    for (section, keys) in sections {
        text.push_str(&format!("[{section}]\n"));
        for (key, credential) in keys {
            let value = crate::ini::value(&value(credential)?);
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    Ok(text)
}

fn write(path: &Path, file: &CredentialFile, text: &str) -> std::io::Result<()> {
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    out.write_all(text.as_bytes())?;
    fchown(&out, Some(file.uid), Some(file.gid))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(file.mode.bits());
    out.set_permissions(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in() {
        let keys = BTreeMap::from([("transport_url".to_owned(), "mq".to_owned())]);
        let sections = BTreeMap::from([("DEFAULT".to_owned(), keys)]);
        let text = ini(&sections, &|name| Ok(format!("{name}://u:p$w@h"))).unwrap();
        assert_eq!(text, "[DEFAULT]\ntransport_url = mq://u:p$w@h\n");
        let text = ini(&sections, &|_| Ok("\"p w\"".to_owned())).unwrap();
        assert_eq!(text, "[DEFAULT]\ntransport_url = \"\"p w\"\"\n");
    }

    #[test]
    fn a_credential_cannot_add_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(read(&path).unwrap(), "one");
        std::fs::write(&path, "one\n[other]\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("secret") && !error.contains("other"), "{error}");
    }
}
