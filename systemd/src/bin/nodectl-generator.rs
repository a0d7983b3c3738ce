//! systemd generator: puts the units of the current deployment in place at boot and at each daemon-reload.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use node_systemd::generator::{self, host, write};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    // systemd gives three directories and ranks them; units of a deployment belong into the first.
    let (directory, root, log) = match arguments.as_slice() {
        [normal, _, _] => (normal, Path::new("/"), Some(Path::new("/dev/kmsg"))),
        [normal, _, _, root] => (normal, root.as_path(), None),
        _ => {
            write::report(
                &["usage: nodectl-generator NORMAL EARLY LATE [ROOT]".to_owned()],
                None,
            );
            return ExitCode::FAILURE;
        }
    };
    let (inputs, mut messages) = host::read(&host::Paths::below(root));
    let plan = generator::plan(&inputs);
    messages.extend(write::write(&plan, directory));
    messages.extend(plan.messages);
    write::report(&messages, log);
    // A damaged deployment must not stop the boot.
    ExitCode::SUCCESS
}
