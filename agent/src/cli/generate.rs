//! `nodectl generate`: documents that come from the same source as the program.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;

use super::{Context, Exit};

/// Write man pages, shell completions and JSON schemas.
#[derive(Debug, Args)]
pub struct Generate {
    /// Directory for man pages.
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,

    /// Directory for the completions of bash, zsh and fish.
    #[arg(long, value_name = "DIR")]
    completions: Option<PathBuf>,

    /// Directory for the JSON schemas of every document.
    #[arg(long, value_name = "DIR")]
    schema: Option<PathBuf>,
}

impl Generate {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if let Some(directory) = &self.man {
            prepare(directory)?;
            clap_mangen::generate_to(super::command(), directory)
                .with_context(|| format!("can't write man pages to {}", directory.display()))?;
        }
        if let Some(directory) = &self.completions {
            completions(directory)?;
        }
        if let Some(directory) = &self.schema {
            prepare(directory)?;
            crate::schema::write_all(directory)?;
        }
        if self.man.is_none() && self.completions.is_none() && self.schema.is_none() {
            context
                .output
                .warning("nothing asked for: give --man, --completions or --schema");
        }
        Ok(Exit::DONE)
    }
}

fn completions(directory: &Path) -> anyhow::Result<()> {
    prepare(directory)?;
    let mut command = super::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "nodectl", directory)
            .with_context(|| format!("can't write {shell} completions to {}", directory.display()))?;
    }
    Ok(())
}

fn prepare(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))
}
