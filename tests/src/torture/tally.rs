//! The count of what was tried and what went wrong.

use std::io::Write;
use std::time::{Duration, Instant};

/// Violations are told in full up to this many.
const TOLD: usize = 12;

/// The count.
#[derive(Debug)]
pub struct Tally {
    what: &'static str,
    begun: Instant,
    rows: Vec<Row>,
    told: usize,
    same: u64,
}

#[derive(Debug)]
struct Row {
    moment: String,
    tried: u64,
    wrong: u64,
}

impl Tally {
    /// Nothing is counted yet; `what` is counted, in the plural.
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            begun: Instant::now(),
            rows: Vec::new(),
            told: 0,
            same: 0,
        }
    }

    /// Counts one at a moment, and tells what was wrong.
    pub fn count(&mut self, moment: &str, violations: &[String]) {
        if !violations.is_empty() {
            self.told += 1;
            if self.told <= TOLD {
                eprintln!("VIOLATION at {moment}:\n    {}", violations.join("\n    "));
            }
        }
        let wrong = u64::from(!violations.is_empty());
        match self.rows.iter_mut().find(|row| row.moment == moment) {
            Some(row) => {
                row.tried += 1;
                row.wrong += wrong;
            }
            None => self.rows.push(Row {
                moment: moment.to_owned(),
                tried: 1,
                wrong,
            }),
        }
        if self.tried().is_multiple_of(100) {
            eprintln!("{}", self.sentence());
        }
    }

    /// Counts one that left the disk as the one before it did, so that there was nothing new to look at.
    pub fn count_same(&mut self) {
        self.same += 1;
    }

    /// How many were tried.
    pub fn tried(&self) -> u64 {
        self.rows.iter().map(|row| row.tried).sum()
    }

    /// How many went wrong.
    pub fn wrong(&self) -> u64 {
        self.rows.iter().map(|row| row.wrong).sum()
    }

    /// `1000 cuts, 0 violations`, and what else is known.
    pub fn sentence(&self) -> String {
        let same = match self.same {
            0 => String::new(),
            same => format!(" ({same} more left the same disk)"),
        };
        let elapsed = Duration::from_secs(self.begun.elapsed().as_secs());
        format!(
            "{} {}{same}, {} violations, in {elapsed:?}",
            self.tried(),
            self.what,
            self.wrong()
        )
    }

    /// The table and the sentence, on standard output.
    pub fn print(&self) {
        let width = self
            .rows
            .iter()
            .map(|row| row.moment.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = format!("{:width$}  {:>7}  violations\n", "moment", self.what);
        for row in &self.rows {
            text.push_str(&format!(
                "{:width$}  {:>7}  {:>10}\n",
                row.moment, row.tried, row.wrong
            ));
        }
        text.push_str(&self.sentence());
        // Whoever reads may have gone; the exit code says the same.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up() {
        let mut tally = Tally::new("cuts");
        tally.count("a", &[]);
        tally.count("b", &["it is gone".to_owned(), "and that".to_owned()]);
        tally.count("a", &[]);
        tally.count_same();
        assert_eq!((tally.tried(), tally.wrong()), (3, 1));
        let sentence = tally.sentence();
        assert!(
            sentence.starts_with("3 cuts (1 more left the same disk), 1 violations"),
            "{sentence}"
        );
    }
}
