//! What was done on this node.

use super::Human;
use super::figures::time;
use crate::api::{HistoryEntry, OperationResult};
use crate::output::{Page, Terminal};
use crate::protocol::History;

impl Human for History {
    fn human(&self, page: &mut Page) {
        if self.entries.is_empty() {
            page.line("Nothing was done on this node yet.");
            return;
        }
        let terminal = page.terminal();
        let rows = self.entries.iter().map(|entry| {
            vec![
                time(entry.started),
                entry.kind.to_string(),
                step(entry),
                entry.release.as_ref().map_or_else(
                    || "-".to_owned(),
                    |info| format!("{} {}", info.name, info.version),
                ),
                result(entry.result, terminal),
            ]
        });
        page.table(&["when", "what", "step", "release", "result"], rows);
        reasons(&self.entries, page);
    }
}

/// Reasons are sentences with digests and paths: below the table they keep their lines whole.
fn reasons(entries: &[HistoryEntry], page: &mut Page) {
    let told = entries
        .iter()
        .filter_map(|entry| entry.reason.as_ref().map(|reason| (entry, reason)));
    for (index, (entry, reason)) in told.enumerate() {
        if index == 0 {
            page.gap();
        }
        page.field(&step(entry), reason);
    }
}

fn step(entry: &HistoryEntry) -> String {
    let name =
        |seq: Option<crate::deployment::Seq>| seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
    format!("{} → {}", name(entry.from), name(entry.to))
}

fn result(result: OperationResult, terminal: Terminal) -> String {
    match result {
        OperationResult::Done | OperationResult::Staged => terminal.green(result),
        OperationResult::Open => terminal.yellow(result),
        OperationResult::Failed | OperationResult::RolledBack | OperationResult::Stuck => {
            terminal.red(result)
        }
    }
}
