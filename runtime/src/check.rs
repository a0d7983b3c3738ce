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
    let digest = bundle.path.join("digest");
    let text = std::fs::read_to_string(&digest).map_err(StartError::path("read", &digest))?;
    if !is_digest(text.trim_end_matches('\n')) {
        let reason = "is not a service digest, 64 hexadecimal digits".to_owned();
        return Err(StartError::Bundle { path: digest, reason });
    }
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

/// Its form. Whether it is that of the content is for whoever writes bundles: hashing is not linked
/// into node-run, since every launch would load it.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
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
