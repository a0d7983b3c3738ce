//! Checks on a rendered bundle before anything of a service is touched: what would fail at launch
//! for reasons that are in the bundle or the image shows here.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::launch::{Bundle, StartError};

/// Reads a bundle and checks it against its image and its own files.
///
/// # Errors
/// The first thing that would make a launch fail, naming the file or path.
pub fn check(bundle: &Path) -> Result<(), StartError> {
    let bundle = Bundle::load(bundle)?;
    if !bundle.tree().is_dir() {
        return Err(fault(
            &bundle,
            format!("root {} is no directory", bundle.tree().display()),
        ));
    }
    for mount in bundle.spec.mounts().iter().flatten() {
        let Some(source) = mount.source() else { continue };
        let is_bind = mount.typ().as_deref() == Some("bind");
        if is_bind && source.is_relative() && !bundle.path.join(source).exists() {
            return Err(fault(
                &bundle,
                format!("{} is not in the bundle", source.display()),
            ));
        }
    }
    match program(&bundle.spec) {
        Some(program) if !provided(&bundle, &program) => Err(fault(
            &bundle,
            format!("program {} is not in the image", program.display()),
        )),
        Some(_) | None => Ok(()),
    }
}

fn fault(bundle: &Bundle, reason: String) -> StartError {
    StartError::Bundle {
        path: bundle.path.join("config.json"),
        reason,
    }
}

/// The program, if it is given by an absolute path.
fn program(spec: &Spec) -> Option<PathBuf> {
    let program = spec.process().as_ref()?.args().as_ref()?.first()?;
    Some(PathBuf::from(program)).filter(|path| path.is_absolute())
}

/// Whether a path is in the image, or under a mount and so not known yet.
fn provided(bundle: &Bundle, path: &Path) -> bool {
    let mounts = bundle.spec.mounts().iter().flatten();
    let mounted = mounts
        .into_iter()
        .any(|mount| path.starts_with(mount.destination()));
    mounted || bundle.in_tree(path)
}
