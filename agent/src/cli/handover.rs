//! `nodectl handover`: what units run before a stop and after a start.

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Context, Exit};
use crate::dataplane::{self, Finished, Service};

/// Hand what a service has in memory to its successor.
#[derive(Debug, Args)]
pub struct Handover {
    /// What is handed over.
    kind: Kind,
    /// Which part.
    step: Step,
    /// The service.
    #[arg(value_parser = super::service_name)]
    service: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// What ovs-vswitchd has in memory.
    OvsDataplane,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Step {
    /// Before the stop.
    Save,
    /// Before the start.
    Hold,
    /// After the start.
    Finish,
}

/// The service's main process; systemd says so to ExecStop= and ExecStartPost=, unless it is gone.
fn main_process() -> Option<u32> {
    std::env::var("MAINPID").ok()?.parse().ok()
}

impl Handover {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self.kind {
            Kind::OvsDataplane => self.ovs_dataplane(context),
        }
    }

    fn ovs_dataplane(self, context: &Context) -> anyhow::Result<Exit> {
        let service = Service {
            name: self.service,
            roots: context.roots.clone(),
            node_run: context.libexec_dir.join("node-run"),
        };
        let name = &service.name;
        match self.step {
            Step::Save if main_process().is_none() => {
                context
                    .output
                    .warning(&format!("{name} is gone and leaves nothing to its successor"));
            }
            Step::Save => {
                let saved = dataplane::save(&service)?;
                let (bridges, ports, flows) = (saved.bridges.len(), saved.ports(), saved.flows());
                context.output.remark(&format!(
                    "saved the dataplane: {bridges} bridges, {ports} ports, {flows} flows"
                ));
            }
            Step::Hold if dataplane::hold(&service)? => {
                context
                    .output
                    .remark("the next process waits for what is handed over");
            }
            Step::Hold => {}
            Step::Finish => match dataplane::finish(
                &service,
                main_process().with_context(|| format!("{name} has ended"))?,
            )? {
                Finished::Begun => context.output.remark("the dataplane begins anew"),
                Finished::TookOver { saved, window_ms } => {
                    let (bridges, ports, flows) = (saved.bridges.len(), saved.ports(), saved.flows());
                    context.output.remark(&format!(
                        "took over the dataplane: {bridges} bridges, {ports} ports, {flows} flows, \
                         {window_ms} ms without new flows"
                    ));
                }
                Finished::GaveUp => context
                    .output
                    .warning("the dataplane could not be taken over and begins anew"),
            },
        }
        Ok(Exit::DONE)
    }
}
