//! `nodectl set` and `nodectl unset`: parameters of the present release.

use std::collections::BTreeMap;

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Request;

/// Set parameters, as a new deployment of the same release.
#[derive(Debug, Args)]
pub struct Set {
    /// Parameters and their values.
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = assignment)]
    assignments: Vec<(String, String)>,
}

impl Set {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let values: BTreeMap<_, _> = self.assignments.into_iter().collect();
        context.operate(&Request::Set { values })
    }
}

/// Return parameters to the defaults of the release, as a new deployment.
#[derive(Debug, Args)]
pub struct Unset {
    /// Parameters.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Unset {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Unset { names: self.names })
    }
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err("the name in front of `=` is missing".to_owned()),
        None => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::assignment;

    #[test]
    fn assignments_split_at_the_first_equals_sign() {
        assert_eq!(assignment("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(assignment("a="), Ok(("a".into(), String::new())));
        assert!(assignment("=b").is_err());
        assert!(assignment("a").is_err());
    }
}
