//! `transaction.json`: the journal of the open transaction.

use node_images::digest::Digest;
use node_images::durable;
use node_images::store::Locked;
use serde::{Deserialize, Serialize};

use super::deadline::Deadline;
use crate::api::{Phase, ReleaseInfo};
use crate::config::Changes;
use crate::deployment::{Seq, current, list};
use crate::error::{AgentError, Kind, Result};
use crate::machine::{Move, Setback, State};
use crate::root::Roots;

/// Format of the journal that this version reads and writes.
pub const FORMAT: u32 = 1;

/// The open transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// Identity of the operation, as in the history.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
    /// Where it goes.
    pub movement: Move,
    /// Why it goes back, if it does.
    pub setback: Option<Setback>,
    /// The release it goes to.
    pub release: ReleaseInfo,
    /// Who took the present try, and in which boot.
    pub claim: Claim,
    /// Length of the probation in seconds.
    pub window_sec: u32,
    /// How long the probation is held open at most, in seconds.
    #[serde(default)]
    pub hold_sec: u32,
    /// When it goes back if it is found open.
    #[serde(default)]
    pub deadline: Option<Deadline>,
    /// Whether what guests need may change all the same.
    #[serde(default)]
    pub force: bool,
    /// What the operator's parameters become when it is blessed.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub parameters: Changes,
    /// When it began.
    pub started: jiff::Timestamp,
}

/// Who took the present try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The boot it was taken in.
    pub boot_id: String,
    /// By whom.
    pub by: Claimant,
}

/// Who takes tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claimant {
    /// The engine, when it activates.
    Engine,
    /// `nodectl recover --boot`, for the engine that comes later in the same boot.
    Boot,
}

impl Transaction {
    /// Reads the journal; `None` if no transaction is open.
    ///
    /// # Errors
    /// It can't be read, is damaged or contradicts itself, or is from a newer version.
    pub fn load(roots: &Roots) -> Result<Option<Transaction>> {
        let path = roots.transaction();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(AgentError::io("read", &path, e)),
        };
        let damaged = || AgentError::verification(format!("{} is damaged", path.display()));
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| damaged().because(e))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format > u64::from(FORMAT) => Err(AgentError::other(format!(
                "{} has format {format}, this version knows up to {FORMAT}",
                path.display()
            ))),
            Some(_) | None => {
                let transaction: Transaction =
                    serde_json::from_value(value).map_err(|e| damaged().because(e))?;
                transaction.check().map_err(|e| damaged().because(e))?;
                Ok(Some(transaction))
            }
        }
    }

    /// Sets aside a journal that says nothing any more, or nothing of this node; what was wrong with it. One of a newer
    /// version stays.
    ///
    /// # Errors
    /// The disk refused it.
    pub(super) fn set_aside_if_damaged(roots: &Roots, _lock: &Locked) -> Result<Option<String>> {
        let problem = match Transaction::load(roots) {
            Err(e) if e.kind() == Kind::Verification => e.chain(),
            Ok(Some(journal)) => match journal.contradiction(current(roots)?, &list(roots)?) {
                Some(problem) => format!("{} is damaged: {problem}", roots.transaction().display()),
                None => return Ok(None),
            },
            Ok(None) | Err(_) => return Ok(None),
        };
        durable::rename_dir(&roots.transaction(), &roots.damaged_transaction())
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't set the journal aside", e))?;
        Ok(Some(problem))
    }

    /// What becomes a name on the disk has to be one, and the phase one that is journalled.
    fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.id.is_empty() || self.id.len() > 100 || !self.id.chars().all(plain) {
            return Err(AgentError::other(format!("{:?} names no operation", self.id)));
        }
        let digest = &self.release.digest;
        if digest.parse::<Digest>().is_err() {
            return Err(AgentError::other(format!("{digest:?} names no release")));
        }
        self.state().map(drop)
    }

    /// Why it can't be about a node that runs `current` and has the deployments `here`. Going by it, the node would end
    /// on nothing, or on what it was not about to leave.
    fn contradiction(&self, current: Option<Seq>, here: &[Seq]) -> Option<String> {
        let Move { from, to, .. } = self.movement;
        if let Some(from) = from.filter(|from| !here.contains(from)) {
            return Some(format!("it leads back to deployment {from}, which is not here"));
        }
        if from == Some(to) {
            return Some(format!("it leads from deployment {to} to itself"));
        }
        current
            .filter(|seq| here.contains(seq) && *seq != to && Some(*seq) != from)
            .map(|seq| format!("it leads to deployment {to}, and the node runs {seq}"))
    }

    /// Writes the journal durably.
    ///
    /// # Errors
    /// No space, or the disk refused the write.
    pub fn save(&self, roots: &Roots, _lock: &Locked) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| AgentError::other("can't write the journal").because(e))?;
        durable::write_file(&roots.transaction(), &bytes, 0o644)
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't write the journal", e))
    }

    /// Removes the journal durably; one that is not there is fine.
    ///
    /// # Errors
    /// The disk refused it.
    pub fn remove(roots: &Roots, _lock: &Locked) -> Result<()> {
        let path = roots.transaction();
        match path.try_exists() {
            Ok(false) => Ok(()),
            Ok(true) => durable::remove_file(&path)
                .map_err(|e| AgentError::from_leaf(Kind::Other, "can't remove the journal", e)),
            Err(e) => Err(AgentError::io("read", &path, e)),
        }
    }

    /// The state of the machine that this journal stands for.
    ///
    /// # Errors
    /// The phase is one that is never journalled.
    pub fn state(&self) -> Result<State> {
        let m = self.movement.clone();
        match (self.phase, &self.setback) {
            (Phase::Armed, _) => Ok(State::Armed(m)),
            (Phase::Activating, _) => Ok(State::Activating(m)),
            (Phase::Probation, _) => Ok(State::Probation(m)),
            (Phase::Blessed, _) => Ok(State::Blessed(m)),
            (Phase::Reverting, Some(setback)) => Ok(State::Reverting(m, setback.clone())),
            (Phase::Reverting, None)
            | (Phase::Idle | Phase::Fetching | Phase::Verified | Phase::Staged, _) => Err(AgentError::other(
                format!("the journal says {}, which is never journalled", self.phase),
            )),
        }
    }

    /// Takes over what the machine's state says.
    pub fn follow(&mut self, state: &State) {
        self.phase = state.phase();
        if let Some(m) = state.movement() {
            self.movement = m.clone();
        }
        if let State::Reverting(_, setback) = state {
            self.setback = Some(setback.clone());
        }
    }
}
