//! Which kind of trouble a failure of `node-images` is; the exit code follows.

use node_images::build::BuildError;
use node_images::source::SourceError;

use crate::error::{AgentError, Kind};

/// A place could not be read or written.
pub(super) fn place(message: impl Into<String>) -> impl FnOnce(SourceError) -> AgentError {
    let message = message.into();
    move |error| AgentError::from_leaf(kind_of(&error), message, error)
}

fn kind_of(error: &SourceError) -> Kind {
    match error {
        unavailable if unavailable.is_unavailable() || unavailable.is_not_found() => Kind::Unavailable,
        SourceError::Digest { .. } | SourceError::Size { .. } | SourceError::Document { .. } => {
            Kind::Verification
        }
        _ => Kind::Other,
    }
}

/// An image could not be built.
pub fn build(error: BuildError) -> AgentError {
    let kind = match &error {
        BuildError::Definition { .. } | BuildError::Syntax { .. } | BuildError::Circle { .. } => Kind::Config,
        _ => Kind::Other,
    };
    AgentError::from_leaf(kind, "can't build the image", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_definition_is_a_wrong_configuration() {
        let definition = BuildError::Definition {
            file: "nova.toml".into(),
            problem: "packages: empty".into(),
        };
        let circle = BuildError::Circle {
            file: "nova.toml".into(),
            name: "nova".into(),
        };
        let program = BuildError::Program {
            program: "mmdebstrap".into(),
            intent: "installing packages".into(),
            status: "exit status: 25".into(),
            last_words: String::new(),
        };
        for (error, code) in [(definition, 78), (circle, 78), (program, 1)] {
            let text = error.to_string();
            assert_eq!(build(error).exit_code() as u8, code, "{text}");
        }
    }
}
