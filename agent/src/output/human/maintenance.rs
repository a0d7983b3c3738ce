//! What gc, fsck and doctor found.

use super::Human;
use super::figures::{UNSEALED, bytes, short, still_used};
use crate::api::{CheckResult, DoctorReport, FsckFinding, FsckReport, GcReport};
use crate::output::{Page, Terminal};

impl Human for GcReport {
    fn human(&self, page: &mut Page) {
        let verb = if self.dry_run { "Would remove" } else { "Removed" };
        page.line(format!(
            "{verb} {} deployments, {} images, {} objects: {}",
            self.deployments.len(),
            self.images.len(),
            self.objects,
            bytes(self.bytes)
        ));
        for seq in &self.deployments {
            page.item(format!("deployment {seq}"));
        }
        for image in &self.images {
            page.item(format!("image {}", short(image)));
        }
        for image in &self.kept_in_use {
            page.item(format!("kept {}", still_used(image)));
        }
    }
}

impl Human for FsckReport {
    fn human(&self, page: &mut Page) {
        let terminal = page.terminal();
        for finding in &self.findings {
            page.item(describe(finding, terminal));
        }
        let checked = format!("{} objects, {} read", self.objects, bytes(self.bytes));
        let broken = self.findings.iter().filter(|finding| !finding.repaired).count();
        page.line(match (self.findings.len(), broken) {
            (0, _) => format!("{}: {checked}", terminal.green("all is well")),
            (found, 0) => format!(
                "{}: {found} found, all repaired; {checked}",
                terminal.green("repaired")
            ),
            (_, broken) => format!("{}: {broken} not repaired; {checked}", terminal.red("damaged")),
        });
        if self.objects > 0 {
            page.line(guarded(self));
        }
    }
}

fn guarded(report: &FsckReport) -> String {
    match report.sealed {
        None => UNSEALED.to_owned(),
        Some(sealed) if sealed < report.objects => {
            format!("{sealed} sealed: nodectl fsck --repair seals the rest")
        }
        Some(_) => "sealed".to_owned(),
    }
}

fn describe(finding: &FsckFinding, terminal: Terminal) -> String {
    let mut text = format!("{}: {}", finding.subject, finding.problem);
    if !finding.images.is_empty() {
        let images: Vec<_> = finding.images.iter().map(|image| short(image)).collect();
        text.push_str(&format!("; image {}", images.join(" ")));
    }
    if !finding.services.is_empty() {
        text.push_str(&format!("; used by {}", finding.services.join(", ")));
    }
    let verdict = if finding.repaired {
        terminal.green("repaired")
    } else {
        terminal.red("broken")
    };
    format!("{verdict} {text}")
}

impl Human for DoctorReport {
    fn human(&self, page: &mut Page) {
        let terminal = page.terminal();
        let rows = self.checks.iter().map(|check| {
            vec![
                verdict(check.result, terminal),
                check.name.clone(),
                check.message.clone(),
            ]
        });
        page.table(&["result", "check", "found"], rows);
        for check in &self.checks {
            if let Some(hint) = &check.hint {
                page.item(format!("{}: {hint}", check.name));
            }
        }
    }
}

fn verdict(result: CheckResult, terminal: Terminal) -> String {
    match result {
        CheckResult::Ok => terminal.green("ok"),
        CheckResult::Warning => terminal.yellow("warning"),
        CheckResult::Failed => terminal.red("failed"),
    }
}
