//! Housekeeping: pins, garbage collection, and whether this host can run its release.

use std::collections::BTreeSet;
use std::path::Path;

use node_runtime::launch::Running;

use super::Engine;
use super::consider::images_of;
use super::journal::Transaction;
use crate::api::{CheckResult, DoctorCheck, DoctorReport, GcReport};
use crate::config;
use crate::deployment::{Deployment, Seq, current, list, remove_unfinished};
use crate::error::{AgentError, Kind, Result};
use crate::pins;

impl Engine {
    /// Keeps a deployment (the current one if none is named) from garbage collection.
    ///
    /// # Errors
    /// There is no such deployment, or the pin can't be written.
    pub fn pin(&self, seq: Option<Seq>, reason: &str) -> Result<Seq> {
        let _lock = self.lock()?;
        let seq = self.named(seq)?;
        pins::add(&self.roots, seq, reason)?;
        Ok(seq)
    }

    /// Lets garbage collection have a deployment (the current one if none is named) again.
    ///
    /// # Errors
    /// It is not pinned, or the pin can't be removed.
    pub fn unpin(&self, seq: Option<Seq>) -> Result<Seq> {
        let _lock = self.lock()?;
        let seq = self.named(seq)?;
        pins::remove(&self.roots, seq)?;
        Ok(seq)
    }

    fn named(&self, seq: Option<Seq>) -> Result<Seq> {
        match seq.or(current(&self.roots)?) {
            Some(seq) if list(&self.roots)?.contains(&seq) => Ok(seq),
            Some(seq) => Err(AgentError::new(
                Kind::Usage,
                format!("there is no deployment {seq} on this node"),
            )),
            None => Err(AgentError::new(Kind::Usage, "this node runs no release yet")),
        }
    }

    /// Removes what nothing refers to: old deployments, then images.
    ///
    /// # Errors
    /// A deployment that has to be kept can't be read: then nothing is removed.
    pub async fn gc(&self, dry_run: bool) -> Result<GcReport> {
        let lock = self.lock()?;
        let settings = config::load(&self.roots)?;
        let all = list(&self.roots)?;
        let kept = kept(&all, &self.roots_of_gc()?, settings.keep);
        let started_from = self.started_from(&all, &kept)?;
        let keep: Vec<Deployment> = all
            .iter()
            .filter(|s| kept.contains(s))
            .map(|s| Deployment::load(&self.roots, *s))
            .collect::<Result<_>>()?;
        let stays = |seq: &Seq| kept.contains(seq) || started_from.contains(seq);
        let drop: Vec<Seq> = all.into_iter().filter(|seq| !stays(seq)).collect();
        if !dry_run {
            for seq in &drop {
                self.remove_deployment(*seq)?;
            }
            self.remove_unfinished()?;
        }
        let store = self.ports.images.gc(&lock, &images_of(&keep), dry_run).await?;
        let needed = images_of(&keep);
        let mut in_use = self.in_use(&needed)?;
        in_use.retain(|image| !image.current);
        Ok(GcReport {
            dry_run,
            deployments: drop,
            images: store.images.iter().map(ToString::to_string).collect(),
            kept_in_use: in_use,
            objects: store.objects,
            bytes: store.bytes,
        })
    }

    /// Deployments that are never removed: current, previous, pinned, and both ends of an open transaction.
    fn roots_of_gc(&self) -> Result<BTreeSet<Seq>> {
        let mut roots: BTreeSet<Seq> = pins::all(&self.roots)?.into_keys().collect();
        roots.extend(current(&self.roots)?);
        roots.extend(self.previous()?);
        if let Some(t) = Transaction::load(&self.roots)? {
            roots.extend(t.movement.from);
            roots.insert(t.movement.to);
        }
        Ok(roots)
    }

    /// Deployments without which a running service could not be entered any more, neither by its gates nor by an
    /// operator: the newest that has the bundle it was started from, where none of `kept` has it. Their images need not
    /// stay: what the service runs from is mounted.
    fn started_from(&self, all: &[Seq], kept: &BTreeSet<Seq>) -> Result<BTreeSet<Seq>> {
        let has = |seq: &Seq, service: &Running| {
            let bundle = self
                .roots
                .deployment(*seq)
                .join("services")
                .join(&service.service);
            std::fs::read_to_string(bundle.join("digest")).is_ok_and(|found| found.trim() == service.digest)
        };
        let running = self.ports.host.running()?;
        Ok(running
            .iter()
            .filter(|service| !kept.iter().any(|seq| has(seq, service)))
            .filter_map(|service| all.iter().rev().find(|seq| has(seq, service)).copied())
            .collect())
    }

    /// The name goes first, so that a half removed directory is never taken for a deployment.
    fn remove_deployment(&self, seq: Seq) -> Result<()> {
        let path = self.roots.deployment(seq);
        let doomed = self.roots.deployments().join(format!(".staging-{seq}"));
        node_images::durable::rename_dir(&path, &doomed)
            .map_err(|e| AgentError::from_leaf(Kind::Other, format!("can't remove deployment {seq}"), e))?;
        std::fs::remove_dir_all(&doomed).map_err(|e| AgentError::io("remove", &doomed, e))
    }

    /// What a power cut or a kill ended before it had its name, or after it had lost it.
    fn remove_unfinished(&self) -> Result<()> {
        let roots = &self.roots;
        remove_unfinished(roots)?;
        if Transaction::load(roots)?.is_none() {
            for left in [roots.snapshots(), roots.damaged_transaction()] {
                remove_any(&left).map_err(|e| AgentError::io("remove", &left, e))?;
            }
        }
        let written = [
            roots.state.clone(),
            roots.pins(),
            roots.rejected(),
            roots.node_toml_d(),
        ];
        for directory in written {
            node_images::durable::remove_unfinished(&directory).map_err(|e| {
                AgentError::from_leaf(Kind::Other, "can't remove what was left unfinished", e)
            })?;
        }
        Ok(())
    }

    /// Checks whether this host can run its release.
    ///
    /// # Errors
    /// The checks could not be made.
    pub async fn doctor(&self) -> Result<DoctorReport> {
        let mut checks = Vec::new();
        let settings = config::load(&self.roots);
        checks.push(verdict(
            "configuration",
            settings.as_ref().map(|_| "can be read".into()),
        ));
        if settings.is_ok() {
            let trust = self.ports.images.trust();
            let message = if trust.warnings.is_empty() {
                "releases have to be signed".into()
            } else {
                trust.warnings.join("; ")
            };
            let result = if trust.warnings.is_empty() {
                CheckResult::Ok
            } else {
                CheckResult::Warning
            };
            checks.push(DoctorCheck {
                name: "trust".into(),
                result,
                message,
                hint: None,
            });
        }
        checks.push(match Transaction::load(&self.roots) {
            Ok(None) => verdict("transaction", Ok::<_, &AgentError>("none is open".into())),
            Ok(Some(t)) => DoctorCheck {
                name: "transaction".into(),
                result: CheckResult::Failed,
                message: format!(
                    "the {} to deployment {} is open ({})",
                    t.movement.kind, t.movement.to, t.phase
                ),
                hint: Some("`nodectl recover` finishes it or goes back".into()),
            },
            Err(e) => verdict("transaction", Err(&e)),
        });
        let space = self
            .ports
            .host
            .free_space(&self.roots.state)
            .map(|b| format!("{} MiB are free", b >> 20));
        checks.push(verdict("space", space.as_ref().map(Clone::clone)));
        if let Some(seq) = current(&self.roots)? {
            checks.extend(self.check_deployment(seq).await);
        }
        Ok(DoctorReport { checks })
    }

    async fn check_deployment(&self, seq: Seq) -> Vec<DoctorCheck> {
        let deployment = match Deployment::load(&self.roots, seq) {
            Ok(deployment) => deployment,
            Err(e) => return vec![verdict("deployment", Err(&e))],
        };
        let mut checks = vec![verdict(
            "deployment",
            Ok::<_, &AgentError>(format!("{seq} can be read")),
        )];
        for (name, definition) in &deployment.release.services {
            let lacking = self.ports.host.lacking(&definition.requires).await;
            let missing = match &lacking {
                Ok(l) if l.required.is_empty() => Ok("the host has what it needs".to_owned()),
                Ok(l) => Err(AgentError::other(l.required.join("; "))),
                Err(e) => Err(AgentError::other(e.chain())),
            };
            checks.push(verdict(
                &format!("service {name}"),
                missing.as_ref().map(Clone::clone),
            ));
        }
        checks
    }
}

/// Which deployments stay: the roots, and the newest `keep` of the rest. Pure.
fn kept(all: &[Seq], roots: &BTreeSet<Seq>, keep: u32) -> BTreeSet<Seq> {
    let rest = all
        .iter()
        .rev()
        .filter(|s| !roots.contains(s))
        .take(usize::try_from(keep).unwrap_or(usize::MAX));
    roots.iter().chain(rest).copied().collect()
}

fn remove_any(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn verdict(name: &str, result: std::result::Result<String, &AgentError>) -> DoctorCheck {
    match result {
        Ok(message) => DoctorCheck {
            name: name.into(),
            result: CheckResult::Ok,
            message,
            hint: None,
        },
        Err(e) => DoctorCheck {
            name: name.into(),
            result: CheckResult::Failed,
            message: e.chain(),
            hint: e.hint_text().map(str::to_owned),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_and_the_newest_others_stay() {
        let seqs = |list: &[u64]| list.iter().copied().map(Seq).collect::<Vec<_>>();
        let all = seqs(&[1, 2, 3, 4, 5, 6]);
        let roots = seqs(&[6, 2]).into_iter().collect();
        let table: [(u32, &[u64]); 3] = [(0, &[2, 6]), (1, &[2, 5, 6]), (9, &[1, 2, 3, 4, 5, 6])];
        for (keep, expected) in table {
            assert_eq!(
                kept(&all, &roots, keep),
                seqs(expected).into_iter().collect(),
                "{keep}"
            );
        }
    }
}
