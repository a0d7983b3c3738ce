//! What the node runs now.

use super::Human;
use super::figures::{UNSEALED, bytes, release, short, still_used, time};
use crate::api::{CheckStatus, Sealing, ServiceState, ServiceStatus, Status, TransactionStatus};
use crate::output::{Page, Terminal};
use crate::plan::some_of;

impl Human for Status {
    fn human(&self, page: &mut Page) {
        page.field("Node", verdict(self, page.terminal()));
        match (self.deployment, &self.release) {
            (Some(deployment), Some(info)) => {
                page.field("Release", release(info));
                page.field("Deployment", deployment.to_string());
            }
            (Some(deployment), None) => page.field("Deployment", deployment.to_string()),
            (None, _) => page.field(
                "Deployment",
                "none yet: nodectl upgrade RELEASE makes the first one",
            ),
        }
        if let Some(previous) = self.previous {
            page.field("Previous", format!("{previous} (nodectl rollback goes there)"));
        }
        if let Some(transaction) = &self.transaction {
            page.field("Transaction", going_on(transaction, page.terminal()));
        }
        kept(page, self);
        if let Some(check) = &self.check {
            page.field("Checked", checked(check, page.terminal()));
        }
        if let Some(sealing) = self.sealing {
            page.field("Store", guarded(sealing, page.terminal()));
        }
        trust(page, self);
        if !self.services.is_empty() {
            page.gap();
            services(page, &self.services);
        }
    }
}

fn verdict(status: &Status, terminal: Terminal) -> String {
    match (status.healthy, status.deployment) {
        (true, None) => "empty".to_owned(),
        (true, Some(_)) => terminal.green("healthy"),
        (false, _) => terminal.red("not healthy"),
    }
}

fn going_on(transaction: &TransactionStatus, terminal: Terminal) -> String {
    let from = transaction
        .from
        .map_or_else(|| "nothing".to_owned(), |seq| seq.to_string());
    let text = format!(
        "{} {from} → {}, {}, {} tries left",
        transaction.kind, transaction.to, transaction.phase, transaction.tries_left
    );
    terminal.yellow(text)
}

fn checked(check: &CheckStatus, terminal: Terminal) -> String {
    let when = time(check.time);
    let read = bytes(check.bytes);
    match check.findings.as_slice() {
        [] => format!("{when}, {} objects, {read} read: all is well", check.objects),
        [first, ..] => {
            let text = format!(
                "{} broken, nodectl fsck --repair mends them: {first}",
                check.findings.len()
            );
            format!("{when}: {}", terminal.red(text))
        }
    }
}

fn guarded(sealing: Sealing, terminal: Terminal) -> String {
    match sealing {
        Sealing::Sealed => "sealed".to_owned(),
        Sealing::Partly => terminal.yellow("partly sealed: nodectl fsck --repair seals the rest"),
        Sealing::Unsealed => UNSEALED.to_owned(),
    }
}

fn kept(page: &mut Page, status: &Status) {
    for (seq, reason) in &status.pinned {
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        page.field("Pinned", format!("{seq}{reason}"));
    }
    for (digest, reason) in &status.rejected {
        page.field("Rejected", format!("{}: {reason}", short(digest)));
    }
    for image in status.in_use_trees.iter().filter(|image| !image.current) {
        page.field("Kept", still_used(image));
    }
    for service in status.services.iter().filter(|service| service.pending) {
        let text = format!(
            "the update of {} waits until no guest needs it; now it is needed by {}",
            service.name,
            some_of(&service.waits_for)
        );
        page.field("Pending", page.terminal().yellow(text));
    }
}

fn trust(page: &mut Page, status: &Status) {
    if !status.trust.signatures_required {
        page.field("Trust", page.terminal().red("signatures are not required"));
    }
    for warning in &status.trust.warnings {
        page.field("Trust", page.terminal().yellow(warning));
    }
    for warning in &status.warnings {
        page.field("Warning", page.terminal().yellow(warning));
    }
}

fn services(page: &mut Page, services: &[ServiceStatus]) {
    let terminal = page.terminal();
    let rows = services.iter().map(|service| {
        vec![
            service.name.clone(),
            state(service.state, terminal),
            service.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            match (service.up_to_date, service.pending) {
                (true, _) => "yes".to_owned(),
                (false, true) => terminal.yellow("pending"),
                (false, false) => terminal.yellow("no"),
            },
            since(service),
            service.restarts.to_string(),
            short(&service.image).to_owned(),
        ]
    });
    page.table(
        &["service", "state", "pid", "current", "since", "restarts", "image"],
        rows,
    );
}

fn since(service: &ServiceStatus) -> String {
    match service.since.as_deref().map(str::parse) {
        Some(Ok(timestamp)) => time(timestamp),
        Some(Err(_)) | None => "-".to_owned(),
    }
}

fn state(state: ServiceState, terminal: Terminal) -> String {
    match state {
        ServiceState::Running => terminal.green(state),
        ServiceState::Starting | ServiceState::Stopping | ServiceState::Stopped => terminal.yellow(state),
        ServiceState::Failed | ServiceState::Missing => terminal.red(state),
    }
}
