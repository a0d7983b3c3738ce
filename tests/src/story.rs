//! Steps with names and times, for people (demo) and for tests alike.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::progress::Progress;

/// A story under way. It is told on standard error.
#[derive(Debug)]
pub struct Story {
    began: Instant,
    told: Vec<(String, Duration)>,
}

impl Story {
    /// Begins with a title.
    pub fn begin(title: &str) -> Self {
        say(&format!("{title}\n"));
        Self {
            began: Instant::now(),
            told: Vec::new(),
        }
    }

    /// Tells one step: its number and name, progress while it runs, the time it took.
    ///
    /// # Errors
    /// What `work` returns, with the step's name.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce(&Progress) -> Result<T>) -> Result<T> {
        let title = format!("{}. {name}", self.told.len() + 1);
        say(&title);
        let progress = Progress::start();
        let result = work(&progress);
        let took = progress.elapsed();
        drop(progress);
        let mark = if result.is_ok() { "done" } else { "FAILED" };
        say(&format!("   {mark} in {:.1} s\n", took.as_secs_f64()));
        self.told.push((name.to_owned(), took));
        result.context(title)
    }

    /// Shows what a program printed, indented.
    pub fn show(&self, text: &str) {
        for line in text.trim_end().lines() {
            say(&format!("   │ {line}"));
        }
    }

    /// Ends with the list of all steps and their times.
    pub fn end(self) {
        for (index, (name, took)) in self.told.iter().enumerate() {
            say(&format!("{:>7.1} s  {}. {name}", took.as_secs_f64(), index + 1));
        }
        say(&format!("{:>7.1} s  in all", self.began.elapsed().as_secs_f64()));
    }
}

fn say(text: &str) {
    // Nothing can be said about a closed standard error.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
