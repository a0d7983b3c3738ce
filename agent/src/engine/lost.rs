//! A node whose journal or whose `current` is gone: it runs what is left, and the history says so.

use node_images::store::Locked;
use node_systemd::render::SERVICES_TARGET;

use super::Engine;
use super::journal::Transaction;
use super::report::Reporter;
use crate::api::{HistoryEntry, OperationKind, OperationResult};
use crate::deployment::{Deployment, Seq, current};
use crate::error::Result;
use crate::history;

/// What the node ran, oldest first; `None` where it was empty again.
fn ran(history: &[HistoryEntry]) -> Vec<Option<Seq>> {
    let on = |entry: &HistoryEntry| match entry.result {
        OperationResult::Done => Some(entry.to),
        OperationResult::RolledBack => Some(entry.from),
        OperationResult::Staged
        | OperationResult::Failed
        | OperationResult::Stuck
        | OperationResult::Open => None,
    };
    history.iter().filter_map(on).collect()
}

/// What becomes of an operation whose end is not on record, on a node that has no open transaction.
fn settled(mut entry: HistoryEntry, now: Option<Seq>, time: jiff::Timestamp) -> HistoryEntry {
    let moved = now != entry.from;
    entry.ended = Some(time);
    entry.result = if moved {
        OperationResult::Done
    } else {
        OperationResult::Failed
    };
    entry.to = if moved { now } else { entry.to };
    entry.reason = Some(match now {
        _ if !moved => "it was interrupted before anything was touched".into(),
        Some(seq) => format!("it was interrupted on deployment {seq}, and its journal is gone"),
        None => "it was interrupted, and its journal is gone".into(),
    });
    entry
}

impl Engine {
    /// The deployment that this node should run though nothing is current: of those that ran, the last that is whole.
    ///
    /// # Errors
    /// The history can't be read.
    pub(super) fn adrift(&self) -> Result<Option<Seq>> {
        let there = |seq: Seq| self.roots.deployment(seq).is_dir();
        if current(&self.roots).is_ok_and(|seq| seq.is_some_and(there))
            || Transaction::load(&self.roots)?.is_some()
        {
            return Ok(None);
        }
        let ran = ran(&history::read(&self.roots)?);
        if ran.last().copied().flatten().is_none() {
            return Ok(None);
        }
        let whole = |seq: &Seq| Deployment::load(&self.roots, *seq).is_ok();
        Ok(ran.into_iter().rev().flatten().find(whole))
    }

    /// The last operation, if it has no end on record.
    ///
    /// # Errors
    /// The history can't be read.
    pub(super) fn unended(&self) -> Result<Option<HistoryEntry>> {
        let last = history::read(&self.roots)?.pop();
        Ok(last.filter(|entry| entry.result == OperationResult::Open))
    }

    /// Makes what ran last current again and has its services started; its number, if there was anything to do.
    pub(super) async fn regain(&self, lock: &Locked, reporter: &Reporter) -> Result<Option<Seq>> {
        let Some(seq) = self.adrift()? else {
            return Ok(None);
        };
        reporter.warn(format!(
            "{} was lost: deployment {seq} is current again",
            self.roots.current().display()
        ));
        let mut entry = self.begin(lock, reporter, OperationKind::Rollback, None).entry;
        self.flip(Some(seq))?;
        entry.to = Some(seq);
        entry.ended = Some(entry.started);
        entry.result = OperationResult::Done;
        entry.reason = Some("current was lost".into());
        if let Err(e) = history::record(&self.roots, &entry) {
            reporter.warn(e.chain());
        }
        self.ports.units.daemon_reload().await?;
        self.ports.units.enqueue_start(SERVICES_TARGET).await?;
        Ok(Some(seq))
    }

    /// Puts an end on record for an operation that has none. No transaction is open.
    pub(super) fn end_the_unended(&self, _lock: &Locked, reporter: &Reporter) -> Result<()> {
        let Some(entry) = self.unended()? else {
            return Ok(());
        };
        let entry = settled(entry, current(&self.roots)?, self.ports.clock.now());
        if let Some(reason) = &entry.reason {
            reporter.warn(format!("{}: {reason}", entry.kind));
        }
        if let Err(e) = history::record(&self.roots, &entry) {
            reporter.warn(e.chain());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(from: u64, to: u64, result: OperationResult) -> HistoryEntry {
        let seq = |n: u64| (n > 0).then_some(Seq(n));
        HistoryEntry {
            from: seq(from),
            to: seq(to),
            ..history::tests::entry("a", result)
        }
    }

    #[test]
    fn what_ran_stands_in_the_history() {
        use OperationResult::{Done, Failed, Open, RolledBack, Staged, Stuck};
        let table: [(&[HistoryEntry], &[u64]); 6] = [
            (&[], &[]),
            (&[entry(0, 1, Done)], &[1]),
            (&[entry(0, 1, RolledBack)], &[0]),
            (
                &[entry(0, 1, Done), entry(1, 2, Done), entry(2, 1, Done)],
                &[1, 2, 1],
            ),
            (&[entry(0, 1, Done), entry(1, 2, RolledBack)], &[1, 1]),
            (
                &[
                    entry(0, 1, Done),
                    entry(1, 2, Staged),
                    entry(1, 3, Failed),
                    entry(1, 2, Stuck),
                    entry(1, 0, Open),
                ],
                &[1],
            ),
        ];
        for (history, expected) in table {
            let found: Vec<u64> = ran(history)
                .into_iter()
                .map(|seq| seq.map_or(0, |s| s.0))
                .collect();
            assert_eq!(found, expected, "{history:?}");
        }
    }

    #[test]
    fn an_end_that_is_not_on_record_is_where_the_node_is() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let stayed = settled(entry(1, 0, OperationResult::Open), Some(Seq(1)), now);
        assert_eq!((stayed.result, stayed.to), (OperationResult::Failed, None));
        let moved = settled(entry(1, 0, OperationResult::Open), Some(Seq(2)), now);
        assert_eq!((moved.result, moved.to), (OperationResult::Done, Some(Seq(2))));
        assert!(moved.reason.unwrap().contains("journal is gone"));
    }
}
