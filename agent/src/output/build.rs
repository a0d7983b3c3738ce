//! Progress of an image build: the same bars and lines as for an operation.

use node_images::build::BuildEvent;

use super::ProgressView;

/// Shows the events of an image build.
#[derive(Debug)]
pub struct BuildView {
    progress: ProgressView,
}

impl BuildView {
    /// On a view of progress.
    #[must_use]
    pub fn new(progress: ProgressView) -> Self {
        Self { progress }
    }

    /// Shows one event.
    pub fn show(&self, event: &BuildEvent) {
        match event {
            BuildEvent::Started { image, step } => {
                self.progress.step(&format!("{image}: {}", step.activity()));
            }
            BuildEvent::Output { image, line } => self.progress.detail(&format!("{image}: {line}")),
            BuildEvent::Finished {
                image,
                step,
                result,
                took,
            } => {
                let seconds = took.as_secs_f32();
                self.progress.say(&format!(
                    "{image}: {}: {result} ({seconds:.1} s)",
                    step.activity()
                ));
            }
            BuildEvent::Cached { image, step } => {
                self.progress
                    .say(&format!("{image}: {}: nothing changed", step.activity()));
            }
            BuildEvent::LockChanged { image, packages } => {
                self.progress
                    .say(&format!("{image}: {packages} packages differ from the lock file"));
            }
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.progress.finish();
    }
}
