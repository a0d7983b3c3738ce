//! Checks of everything that is stored: all of it, or a little every day.

use node_images::store::{Content, SHARDS};

use super::Engine;
use super::journal::Transaction;
use crate::api::{CheckStatus, FsckFinding, FsckReport};
use crate::checked::{self, Checked};
use crate::config::{self, Settings};
use crate::deployment::{Bundle, Deployment, current, list, sums};
use crate::error::Result;
use crate::{history, newest, pins, rejected};

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Everything is read.
    Full,
    /// Everything is looked at, and of the objects in the store those are read whose turn it is.
    Light,
    /// As [`Depth::Full`]; what is broken is fetched back.
    Repair,
}

/// What a light check reads: the objects whose turn it is, or all while something is known to be broken. Days is the
/// time in which everything has its turn, 0 for never.
fn turn(last: Option<&Checked>, days: u16) -> Content {
    match last {
        Some(last) if !last.result.findings.is_empty() => Content::All,
        _ if days == 0 => Content::Shards { first: 0, count: 0 },
        last => Content::Shards {
            first: last.map_or(0, |last| last.next),
            count: SHARDS.div_ceil(days),
        },
    }
}

/// Where the next light check goes on.
fn after(content: Content, last: Option<&Checked>) -> u8 {
    match content {
        Content::All => last.map_or(0, |last| last.next),
        Content::Shards { first, count } => first.wrapping_add(count.to_le_bytes()[0]),
    }
}

impl Engine {
    /// Checks everything that is stored, and keeps the result for `status`.
    ///
    /// # Errors
    /// The check itself could not be made.
    pub async fn fsck(&self, depth: Depth) -> Result<FsckReport> {
        let settings = config::load(&self.roots)?;
        let lock = self.lock()?;
        let last = checked::load(&self.roots);
        let content = match depth {
            Depth::Full | Depth::Repair => Content::All,
            Depth::Light => turn(last.as_ref(), settings.check_days),
        };
        let repair = (depth == Depth::Repair).then_some(&lock);
        let mut report = self.look_at_all(&settings, content, repair).await?;
        let checked = Checked {
            format: checked::FORMAT,
            result: CheckStatus {
                time: self.ports.clock.now(),
                light: content != Content::All,
                objects: report.objects,
                bytes: report.bytes,
                sealed: report.sealed,
                findings: broken(&report),
            },
            next: after(content, last.as_ref()),
        };
        // A disk that takes no more writes has to be checked all the same.
        if let Err(e) = checked::save(&self.roots, &checked, &lock) {
            let subject = self.roots.checked().display().to_string();
            report.findings.push(finding(subject, e.chain(), Vec::new()));
        }
        Ok(report)
    }

    async fn look_at_all(
        &self,
        settings: &Settings,
        content: Content,
        repair: Option<&node_images::store::Locked>,
    ) -> Result<FsckReport> {
        let mut report = self.ports.images.fsck(settings, content, repair).await?;
        let of_the_store = report.findings.len();
        report.findings.extend(self.damaged_documents()?);
        for seq in list(&self.roots)? {
            match Deployment::load(&self.roots, seq) {
                Ok(deployment) => {
                    name_services(&mut report.findings[..of_the_store], &deployment);
                    report.findings.extend(self.missing(&deployment));
                    report.findings.extend(damaged_bundles(&deployment)?);
                }
                Err(e) => report
                    .findings
                    .push(finding(format!("deployment {seq}"), e.chain(), Vec::new())),
            }
            report.findings.extend(damaged_files(&self.roots.deployment(seq)));
        }
        Ok(report)
    }
}

impl Engine {
    /// What a deployment needs and is not there.
    fn missing(&self, deployment: &Deployment) -> Vec<FsckFinding> {
        let subject = format!("deployment {}", deployment.seq);
        let tell = |note, services| finding(subject.clone(), note, services);
        match self.lacks(deployment) {
            Ok(lacks) => lacks
                .into_iter()
                .map(|(service, note)| tell(note, vec![service]))
                .collect(),
            Err(e) => vec![tell(e.chain(), Vec::new())],
        }
    }

    /// What the node remembers of itself.
    fn damaged_documents(&self) -> Result<Vec<FsckFinding>> {
        let roots = &self.roots;
        let mut findings = Vec::new();
        let mut tell = |path: std::path::PathBuf, problem: String| {
            findings.push(finding(path.display().to_string(), problem, Vec::new()));
        };
        if let Err(e) = newest::readable(roots) {
            tell(roots.newest(), e.chain());
        }
        if let Err(e) = history::read(roots) {
            tell(roots.history(), e.chain());
            return Ok(findings);
        }
        if let Err(e) = pins::all(roots) {
            tell(roots.pins(), e.chain());
        }
        if let Err(e) = rejected::all(roots) {
            tell(roots.rejected(), e.chain());
        }
        let adrift = match Transaction::load(roots) {
            Ok(_) => self.adrift()?,
            Err(e) => {
                tell(roots.transaction(), e.chain());
                None
            }
        };
        let lost = match current(roots) {
            Ok(Some(gone)) if !roots.deployment(gone).is_dir() => {
                Some(format!("leads to deployment {gone}, which is not there"))
            }
            Ok(None) if adrift.is_some() => Some("is lost".to_owned()),
            Ok(_) => None,
            Err(e) => Some(e.chain()),
        };
        if let Some(lost) = lost {
            let ran = adrift.map_or(String::new(), |seq| format!("; deployment {seq} ran last"));
            tell(roots.current(), lost + &ran);
        }
        Ok(findings)
    }
}

/// What is wrong and was not put right, for people.
fn broken(report: &FsckReport) -> Vec<String> {
    let left = report.findings.iter().filter(|finding| !finding.repaired);
    left.map(|finding| format!("{}: {}", finding.subject, finding.problem))
        .collect()
}

fn finding(subject: String, problem: String, services: Vec<String>) -> FsckFinding {
    FsckFinding {
        subject,
        problem,
        images: Vec::new(),
        services,
        repaired: false,
    }
}

/// Names the services of a deployment that use a broken image, besides those that are named already: what only another
/// deployment uses is what a rollback would start.
fn name_services(findings: &mut [FsckFinding], deployment: &Deployment) {
    for finding in findings {
        let uses = deployment.document.services.iter();
        let using = uses
            .filter(|(_, s)| finding.images.contains(&s.manifest.to_string()))
            .map(|(n, _)| n.clone());
        finding.services.extend(using);
        finding.services.sort();
        finding.services.dedup();
    }
}

/// The service that a file of a deployment belongs to, by its path there: what is missing has nothing else to tell it.
fn service_of(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    match (parts.next()?, parts.next()?) {
        ("services", name) => Some(name.to_owned()),
        ("units", file) => file.strip_suffix(".service").map(str::to_owned),
        _ => None,
    }
}

/// Files that are no longer what they were when the deployment was made.
fn damaged_files(deployment: &std::path::Path) -> Vec<FsckFinding> {
    let tell = |path: String, problem: String| {
        let services = service_of(&path).into_iter().collect();
        let path = deployment.join(path);
        finding(path.display().to_string(), problem, services)
    };
    match sums::check(deployment) {
        Ok(wrong) => wrong
            .into_iter()
            .map(|(path, problem)| tell(path, problem.to_owned()))
            .collect(),
        Err(e) => vec![tell(String::new(), e.chain())],
    }
}

/// Bundles whose files are no longer what their digest says.
fn damaged_bundles(deployment: &Deployment) -> Result<Vec<FsckFinding>> {
    let mut findings = Vec::new();
    for (name, service) in &deployment.document.services {
        let found = Bundle::read(&deployment.bundle(name));
        let problem = match found {
            Ok(bundle) if bundle.digest() == service.digest => continue,
            Ok(_) => "its files, their modes or owners are not what its digest says".to_owned(),
            Err(e) => e.chain(),
        };
        findings.push(finding(
            deployment.bundle(name).display().to_string(),
            problem,
            vec![name.clone()],
        ));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(next: u8, findings: &[&str]) -> Checked {
        Checked {
            format: checked::FORMAT,
            result: CheckStatus {
                time: jiff::Timestamp::UNIX_EPOCH,
                light: true,
                objects: 0,
                bytes: 0,
                sealed: None,
                findings: findings.iter().map(|text| (*text).to_owned()).collect(),
            },
            next,
        }
    }

    #[test]
    fn everything_has_its_turn() {
        for days in [1, 7, 28, 300] {
            let (mut state, mut read) = (None, std::collections::BTreeSet::new());
            for _ in 0..days {
                let content = turn(state.as_ref(), days);
                let Content::Shards { first, count } = content else {
                    panic!("{content:?}");
                };
                read.extend((0..count).map(|n| (u16::from(first) + n) % SHARDS));
                state = Some(last(after(content, state.as_ref()), &[]));
            }
            assert_eq!(read.len(), 256, "in {days} days");
        }
        assert_eq!(turn(None, 0), Content::Shards { first: 0, count: 0 });
    }

    #[test]
    fn what_is_known_to_be_broken_is_not_forgotten_because_its_turn_is_over() {
        let known = last(7, &["object: damaged"]);
        assert_eq!(turn(Some(&known), 28), Content::All);
        assert_eq!(after(Content::All, Some(&known)), 7);
    }
}
