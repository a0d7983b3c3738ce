//! ovsdb-server, asked by the host itself in the protocol of RFC 7047: a question takes a millisecond there, and needs
//! no process of Open vSwitch.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Deserializer, Value, json};

use crate::error::{self, AgentError};

/// Where the services share its socket with the host.
const SOCKET: &str = "/run/openvswitch/db.sock";

/// For each part of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the next ovs-vswitchd wait.
///
/// # Errors
/// The database does not answer, or refuses.
pub(super) fn hold() -> error::Result<()> {
    ask(Path::new(SOCKET), &flow_restore_wait())
        .map_err(|reason| AgentError::other("can't tell ovs-vswitchd to wait").because(reason))
}

/// Sets `other_config:flow-restore-wait`; a map takes a key that it has only if that is removed before.
fn flow_restore_wait() -> Value {
    let mutations = json!([
        ["other_config", "delete", ["set", ["flow-restore-wait"]]],
        ["other_config", "insert", ["map", [["flow-restore-wait", "true"]]]],
    ]);
    let change = json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": mutations});
    json!({"method": "transact", "params": ["Open_vSwitch", change], "id": 0})
}

/// Sends one request and reads its answer; nothing else comes on a connection that monitors nothing.
fn ask(socket: &Path, request: &Value) -> Result<(), String> {
    let exchange = || -> std::io::Result<Option<Value>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(request.to_string().as_bytes())?;
        Ok(Deserializer::from_reader(stream)
            .into_iter::<Value>()
            .next()
            .transpose()?)
    };
    let answer = exchange().map_err(|e| format!("{}: {e}", socket.display()))?;
    judge(answer.as_ref().unwrap_or(&Value::Null))
}

/// An operation that failed stands in the result with an `error` of its own (RFC 7047, section 4.1.3).
fn judge(answer: &Value) -> Result<(), String> {
    let results = answer["result"].as_array().map_or(&[][..], Vec::as_slice);
    let refused = results.iter().any(|result| !result["error"].is_null());
    if answer["error"].is_null() && !results.is_empty() && !refused {
        return Ok(());
    }
    Err(format!("ovsdb-server says {answer}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_answer_without_any_error_is_a_yes() {
        let yes = json!({"id": 0, "error": null, "result": [{"count": 1}]});
        assert_eq!(judge(&yes), Ok(()));
        for no in [
            json!(null),
            json!({"id": 0, "error": null, "result": []}),
            json!({"id": 0, "error": "unknown database", "result": null}),
            json!({"id": 0, "error": null, "result": [{"count": 1}, {"error": "constraint violation"}]}),
        ] {
            assert!(judge(&no).is_err(), "{no}");
        }
    }

    #[test]
    fn a_server_is_asked_once_and_one_that_is_gone_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            stream
                .write_all(br#"{"id":0,"error":null,"result":[{"count":1}]}"#)
                .unwrap();
            serde_json::from_slice::<Value>(&bytes[..count]).unwrap()
        });
        assert_eq!(ask(&path, &flow_restore_wait()), Ok(()));
        let asked = server.join().unwrap();
        assert_eq!(asked["params"][0], "Open_vSwitch");
        assert_eq!(asked["params"][1]["mutations"][1][2][1][0][1], "true");
        let gone = ask(&path, &flow_restore_wait()).unwrap_err();
        assert!(gone.contains("db.sock"), "{gone}");
    }
}
