//! Whether a move is refused for the sake of guests, nova or a database, and whether the way back stays open.

use super::Engine;
use super::consider::Considered;
use super::report::Reporter;
use crate::definition::CellProgram;
use crate::deployment::Deployment;
use crate::error::{AgentError, Result};
use crate::wayback::{
    Cell, CellView, Guest, Judgement, LabelError, Move, NOVA_COMPUTE, Offer, afterwards, emulator, judge,
};

/// What is to be said about a move before it is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prospect {
    /// The move itself.
    pub there: Judgement,
    /// The way back after it.
    pub back: Judgement,
    /// Who runs now.
    pub guests: Vec<Guest>,
}

impl Engine {
    /// Judges the move to a release.
    ///
    /// # Errors
    /// A label of one of its images makes no sense.
    pub(super) async fn prospect(&self, considered: &Considered) -> Result<Prospect> {
        let release = &considered.release;
        let chosen = considered.services.iter().map(String::as_str);
        let to = Offer::of(&release.document, chosen).map_err(|e| {
            let what = format!(
                "release {} {} can't be judged",
                release.info.name, release.info.version
            );
            AgentError::verification(what).because(e)
        })?;
        self.prospect_of(considered.present.as_ref(), &to).await
    }

    /// Judges the move back to a deployment of this node.
    pub(super) async fn prospect_back(
        &self,
        present: Option<&Deployment>,
        target: &Deployment,
    ) -> Result<Prospect> {
        self.prospect_of(present, &offer_of(target)).await
    }

    async fn prospect_of(&self, present: Option<&Deployment>, to: &Offer) -> Result<Prospect> {
        let Some(present) = present else {
            return Ok(Prospect::default());
        };
        let from = offer_of(present);
        let guests = self.running_guests()?;
        let cell = self.cell(present, &from, to).await?;
        let moving = Move { from: &from, to };
        let mut there = judge(moving, &guests, &cell);
        there.notes.extend(emulator::kept(moving, &guests));
        Ok(Prospect {
            there,
            back: afterwards(moving, &guests, &cell),
            guests,
        })
    }

    /// The guests that run, with the version of QEMU that the image says from which each was started.
    fn running_guests(&self) -> Result<Vec<Guest>> {
        let mut guests = self.ports.host.machines()?;
        if guests.is_empty() {
            return Ok(guests);
        }
        for (image, holders) in self.ports.images.in_use()? {
            let mut of_it = guests
                .iter_mut()
                .filter(|guest| holders.contains(&guest.pid))
                .peekable();
            if of_it.peek().is_none() {
                continue;
            }
            // A record that can't be read is fsck's to tell; here nothing is known then.
            let Ok(Some(facts)) = self.ports.images.facts(&image) else {
                continue;
            };
            let config = facts.config.config().as_ref();
            let version = emulator::version_in(config.and_then(|config| config.labels().as_ref()));
            for guest in of_it {
                guest.qemu.clone_from(&version);
            }
        }
        Ok(guests)
    }

    /// The cell, where nova's version changes; through the nova-compute that runs.
    async fn cell(&self, present: &Deployment, from: &Offer, to: &Offer) -> Result<CellView> {
        if to.nova.is_none() || to.nova == from.nova {
            return Ok(CellView::NotAsked);
        }
        let Some(program) = cell_program(present) else {
            let why = format!("the definition of service {NOVA_COMPUTE} does not say how to ask the cell");
            return Ok(CellView::Unknown(why));
        };
        let command = program.asking(&["versions"]);
        Ok(
            match self
                .ports
                .probes
                .run(NOVA_COMPUTE, &command, program.timeout())
                .await?
            {
                Ok(text) => match serde_json::from_str::<Cell>(&text) {
                    Ok(cell) => CellView::Seen(cell),
                    Err(e) => CellView::Unknown(format!("{text:?} is not an answer about the cell: {e}")),
                },
                Err(no) => CellView::Unknown(no.why),
            },
        )
    }
}

impl Prospect {
    /// Refuses a move that something stands against, or tells what was overridden.
    ///
    /// # Errors
    /// Something stands against it, and it is not forced.
    pub fn permit(&self, force: bool, reporter: &Reporter) -> Result<()> {
        if !self.there.is_open() && !force {
            return Err(AgentError::vetoed(self.there.closed.join("; "))
                .hint("`nodectl plan` shows it beforehand; --force goes on all the same"));
        }
        for reason in self.there.closed.iter().chain(&self.there.notes) {
            reporter.warn(reason);
        }
        for reason in &self.back.closed {
            reporter.warn(format!("the way back closes: {reason}"));
        }
        Ok(())
    }
}

/// How the cell is asked through a deployment's nova-compute.
pub(super) fn cell_program(deployment: &Deployment) -> Option<&CellProgram> {
    deployment
        .document
        .services
        .contains_key(NOVA_COMPUTE)
        .then(|| deployment.release.services.get(NOVA_COMPUTE)?.cell.as_ref())?
}

/// What a deployment of this node offers. It ran here before: a label that makes no sense must not keep the node from
/// it, nor on it.
fn offer_of(deployment: &Deployment) -> Offer {
    let services = deployment.document.services.keys().map(String::as_str);
    Offer::of(&deployment.release, services).unwrap_or_else(|e: LabelError| Offer {
        silent: vec![e.to_string()],
        ..Offer::default()
    })
}
