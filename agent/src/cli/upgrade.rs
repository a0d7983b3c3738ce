//! `nodectl upgrade`: move the node to a release.

use clap::Args;

use super::reference::for_the_daemon;
use super::{Context, Exit};
use crate::protocol::{Request, UpgradeMode};

/// Move the node to a release in one step, and back by itself if it fails.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// Release: REGISTRY/NAME:TAG, REGISTRY/NAME@sha256:…, oci:DIRECTORY or a bundle file
    /// [default: the reference in node.toml].
    reference: Option<String>,

    /// Print what would be done and end; the same as `nodectl plan`.
    #[arg(long, conflicts_with_all = ["check", "download_only", "force", "allow_downgrade"])]
    plan: bool,

    /// Only say whether there is something to do: exit status 0 if so, 77 if not.
    #[arg(long, conflicts_with_all = ["download_only", "force", "allow_downgrade"])]
    check: bool,

    /// Fetch, verify and stage, but don't switch; survives reboots.
    #[arg(long)]
    download_only: bool,

    /// Also take a release that was rejected on this node or that closes the way back, and restart what guests need.
    #[arg(long)]
    force: bool,

    /// Also take a release that was signed before the newest one this node has run, which a registry may not
    /// offer by itself.
    #[arg(long)]
    allow_downgrade: bool,
}

impl Upgrade {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&self.into_request())
    }

    fn into_request(self) -> Request {
        let reference = self.reference.map(for_the_daemon);
        if self.plan {
            return Request::Plan { reference };
        }
        let mode = match (self.check, self.download_only) {
            (true, _) => UpgradeMode::Check,
            (false, true) => UpgradeMode::DownloadOnly,
            (false, false) => UpgradeMode::Full,
        };
        Request::Upgrade {
            reference,
            mode,
            force: self.force,
            allow_downgrade: self.allow_downgrade,
        }
    }
}
