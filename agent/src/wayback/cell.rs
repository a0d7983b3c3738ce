//! nova's cell as its conductor shows it.

use serde::Deserialize;

/// Service versions of the nova-compute services of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Of this node's record; absent where it has none yet.
    pub own: Option<u32>,
    /// The lowest of the other records that are not forced down; absent where there are none.
    pub others: Option<u32>,
}

impl Cell {
    /// What nova calls the minimum version: no service may write its record with a lower one.
    pub fn minimum(&self) -> Option<u32> {
        self.own.into_iter().chain(self.others).min()
    }

    /// The cell once this node's record has this version.
    #[must_use]
    pub fn with_own(self, version: u32) -> Cell {
        Cell {
            own: Some(version),
            ..self
        }
    }
}

/// What is known about the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellView {
    /// Nothing depends on it: nova's service version stays as it is, or there is no nova.
    NotAsked,
    /// The conductor has answered.
    Seen(Cell),
    /// It could not be asked, and why.
    Unknown(String),
}
