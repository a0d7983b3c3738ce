//! How each document reads for a person.

mod authoring;
mod event;
mod figures;
mod history;
mod maintenance;
mod outcome;
mod plan;
mod status;

use super::Page;
use crate::protocol::Acknowledgement;

pub(super) use event::sentence;

/// A document that a person can read.
pub trait Human {
    /// Writes it onto a page.
    fn human(&self, page: &mut Page);
}

impl Human for Acknowledgement {
    fn human(&self, page: &mut Page) {
        page.line(&self.message);
    }
}
