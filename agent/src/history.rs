//! The log of all operations: one JSON document a line, appended, never rewritten.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};

use crate::api::HistoryEntry;
use crate::error::{AgentError, Result};
use crate::root::Roots;

/// Appends the state of an operation: once at its beginning, once at its end.
///
/// # Errors
/// The file can't be written durably.
pub fn record(roots: &Roots, entry: &HistoryEntry) -> Result<()> {
    let path = roots.history();
    let failed = |e| AgentError::io("write", &path, e);
    let mut line =
        serde_json::to_vec(entry).map_err(|e| AgentError::other("can't write the history").because(e))?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&path)
        .map_err(failed)?;
    // A line that a power cut left half written must not swallow this one.
    if !ends_with_newline(&mut file).map_err(failed)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn ends_with_newline(file: &mut std::fs::File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == [b'\n'])
}

/// All operations, oldest first; what is known last about each.
///
/// # Errors
/// The file can't be read. Lines that a power cut damaged are passed over.
pub fn read(roots: &Roots) -> Result<Vec<HistoryEntry>> {
    let path = roots.history();
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(AgentError::io("read", &path, e)),
    };
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for entry in text
        .lines()
        .filter_map(|line| serde_json::from_str::<HistoryEntry>(line).ok())
    {
        match entries.iter_mut().find(|e| e.id == entry.id) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::{OperationKind, OperationResult};

    /// An upgrade that went from nowhere to nowhere.
    pub(crate) fn entry(id: &str, result: OperationResult) -> HistoryEntry {
        HistoryEntry {
            id: id.into(),
            kind: OperationKind::Upgrade,
            from: None,
            to: None,
            release: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
            result,
            reason: None,
            journal: vec![],
        }
    }

    #[test]
    fn the_last_word_on_each_operation_counts_and_damage_is_passed_over() {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        std::fs::create_dir_all(&roots.state).unwrap();
        assert_eq!(read(&roots).unwrap(), []);
        record(&roots, &entry("a", OperationResult::Open)).unwrap();
        let mut torn = std::fs::read(roots.history()).unwrap();
        torn.extend_from_slice(b"{\"id\":\"b");
        std::fs::write(roots.history(), torn).unwrap();
        record(&roots, &entry("a", OperationResult::Done)).unwrap();
        record(&roots, &entry("c", OperationResult::Failed)).unwrap();
        let entries = read(&roots).unwrap();
        assert_eq!(
            entries,
            [
                entry("a", OperationResult::Done),
                entry("c", OperationResult::Failed)
            ]
        );
    }
}
