//! How an operation ended.

use super::figures::{duration, release};
use super::{Human, plan};
use crate::api::{Action, Outcome, OutcomeKind, ServiceFailure};
use crate::output::Page;

impl Human for Outcome {
    fn human(&self, page: &mut Page) {
        let terminal = page.terminal();
        let message = match self.kind {
            OutcomeKind::Done | OutcomeKind::Staged => terminal.green(&self.message),
            OutcomeKind::NothingToDo => self.message.clone(),
            OutcomeKind::RolledBack => terminal.red(&self.message),
        };
        page.line(message);
        if self.kind == OutcomeKind::NothingToDo {
            return;
        }
        if let Some(info) = &self.release {
            let name = if self.kind == OutcomeKind::RolledBack {
                "Tried"
            } else {
                "Release"
            };
            page.field(name, release(info));
        }
        if let Some(current) = self.current {
            page.field("Deployment", current.to_string());
        }
        page.field("Took", duration(self.duration_ms));
        let touched: Vec<_> = self
            .services
            .iter()
            .filter(|s| s.action != Action::Keep)
            .cloned()
            .collect();
        if !touched.is_empty() {
            page.gap();
            plan::services(page, &touched);
        }
        if let Some(failure) = &self.failure {
            why(page, failure);
        }
    }
}

fn why(page: &mut Page, failure: &ServiceFailure) {
    page.gap();
    page.field("Failed", format!("{}: {}", failure.service, failure.reason));
    if !failure.journal.is_empty() {
        page.line(format!("Last lines of the journal of {}:", failure.service));
        for line in &failure.journal {
            page.line(format!("  {line}"));
        }
    }
}
