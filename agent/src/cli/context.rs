//! What every verb needs: how to speak, where things are, who does the work.

use std::path::PathBuf;

use anyhow::Context as _;

use super::session::Session;
use super::{Exit, Global};
use crate::local::LocalAgent;
use crate::output::Output;
use crate::protocol::{Agent as _, Query, Report, Request};
use crate::root::Roots;

/// What every verb needs.
#[derive(Debug)]
pub struct Context {
    /// How to speak to the caller.
    pub output: Output,
    /// Where things are on this node.
    pub roots: Roots,
    /// Where the programs that nodectl starts are.
    pub libexec_dir: PathBuf,
    direct: bool,
}

impl Context {
    /// From the options of every command.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let roots = Roots {
            state: global.state_root.clone(),
            config: global.config_root.clone(),
            run: global.run_root.clone(),
        };
        Self {
            output: Output::new(global.json, global.quiet, global.color),
            // noded works on the default roots only.
            direct: global.direct || roots != Roots::default(),
            libexec_dir: global.libexec_dir.clone(),
            roots,
        }
    }

    /// Has an operation carried out, by noded where it is there, and shows its progress and result.
    pub(super) fn operate(&self, request: &Request) -> anyhow::Result<Exit> {
        self.carry_out(&self.session(), request)
    }

    /// The same in this process, whatever there is.
    pub(super) fn operate_here(&self, request: &Request) -> anyhow::Result<Exit> {
        self.carry_out(&Session::Here(self.local()), request)
    }

    /// Has a question answered and shows the answer.
    pub(super) fn ask(&self, query: &Query) -> anyhow::Result<Exit> {
        let report = self.answer(query)?;
        self.show(&report)
    }

    /// Has a question answered.
    pub(super) fn answer(&self, query: &Query) -> anyhow::Result<Report> {
        Ok(match self.session() {
            Session::Here(agent) => agent.query(query)?,
            Session::Bus(client) => client.query(query)?,
        })
    }

    /// Who does the work.
    pub(super) fn session(&self) -> Session {
        if self.direct {
            Session::Here(self.local())
        } else {
            Session::open(self.local(), &self.output)
        }
    }

    /// Waits for work that needs a runtime.
    pub(super) fn wait_for<T>(
        &self,
        work: impl Future<Output = crate::error::Result<T>>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("can't start the runtime")?;
        Ok(runtime.block_on(work)?)
    }

    fn local(&self) -> LocalAgent {
        LocalAgent::new(self.roots.clone())
    }

    fn carry_out(&self, session: &Session, request: &Request) -> anyhow::Result<Exit> {
        let progress = self.output.progress();
        let result = session.run(request, &progress, &self.output);
        progress.finish();
        self.show(&result?)
    }

    fn show(&self, report: &Report) -> anyhow::Result<Exit> {
        match report {
            Report::Plan(document) => self.output.document(document),
            Report::Outcome(document) => self.output.document(document),
            Report::Status(document) => self.output.document(document),
            Report::History(document) => self.output.document(document),
            Report::Gc(document) => self.output.document(document),
            Report::Fsck(document) => self.output.document(document),
            Report::Doctor(document) => self.output.document(document),
            Report::Acknowledgement(document) => self.output.document(document),
        }?;
        Ok(report.exit_code().into())
    }
}
