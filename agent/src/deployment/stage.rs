//! Writing a deployment: everything under a temporary name, one barrier, one rename.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use node_images::durable;
use node_images::store::Locked;

use super::bundle::BundleFile;
use super::document::DeploymentDocument;
use super::render::RenderedService;
use super::sums;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// A deployment that is rendered and not written yet.
#[derive(Debug, Clone)]
pub struct Staging {
    /// `deployment.json`
    pub document: DeploymentDocument,
    /// `release.json`, byte for byte as it was signed.
    pub release: Vec<u8>,
    /// `node.toml`
    pub node: String,
    /// Its services by name.
    pub services: BTreeMap<String, RenderedService>,
}

/// Writes the deployment. When this returns it is complete and durable; before that it has no name.
///
/// # Errors
/// No space, the disk refused a write, or a service could not be launched from what was rendered; nothing is left
/// behind then.
pub fn stage(roots: &Roots, _lock: &Locked, staging: &Staging) -> Result<()> {
    let directory = roots.deployments();
    durable::create_directories(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
    remove_unfinished(roots)?;
    let temporary = directory.join(format!(".staging-{}", staging.document.seq));
    let written = write_all(&temporary, staging)
        .and_then(|()| check_all(&temporary, staging))
        .and_then(|()| publish(roots, &temporary, staging));
    if written.is_err() {
        // The first error is the one to report; what is left has no deployment's name and goes next time.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// Removes what an interrupted staging, or an interrupted removal of a deployment, left behind.
///
/// # Errors
/// It can't be listed or removed.
pub fn remove_unfinished(roots: &Roots) -> Result<()> {
    let directory = roots.deployments();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(AgentError::io("list", &directory, e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| AgentError::io("list", &directory, e))?.path();
        let unfinished = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(".staging-"));
        if unfinished {
            fs::remove_dir_all(&path).map_err(|e| AgentError::io("remove", &path, e))?;
        }
    }
    Ok(())
}

fn publish(roots: &Roots, temporary: &Path, staging: &Staging) -> Result<()> {
    let target = roots.deployment(staging.document.seq);
    let failed = |e| AgentError::from_leaf(Kind::Other, "can't make the deployment durable", e);
    durable::sync_filesystem(temporary).map_err(failed)?;
    durable::rename_dir(temporary, &target).map_err(failed)
}

fn write_all(directory: &Path, staging: &Staging) -> Result<()> {
    make_directory(directory)?;
    let document = serde_json::to_vec_pretty(&staging.document)
        .map_err(|e| AgentError::other("can't write deployment.json").because(e))?;
    write_file(&directory.join("deployment.json"), &BundleFile::plain(document))?;
    write_file(
        &directory.join("release.json"),
        &BundleFile::plain(staging.release.clone()),
    )?;
    write_file(
        &directory.join("node.toml"),
        &BundleFile::plain(staging.node.clone()),
    )?;
    let units = directory.join("units");
    let services = directory.join("services");
    make_directory(&units)?;
    make_directory(&services)?;
    for (name, service) in &staging.services {
        write_file(
            &units.join(&service.deployed.unit),
            &BundleFile::plain(service.unit.text.clone()),
        )?;
        write_bundle(&services.join(name), service)?;
    }
    let sums = BundleFile::plain(sums::of(directory)?);
    write_file(&directory.join(sums::NAME), &sums)
}

fn write_bundle(directory: &Path, service: &RenderedService) -> Result<()> {
    make_directory(directory)?;
    make_directory(&directory.join("files"))?;
    for (path, file) in &service.bundle.files {
        write_file(&directory.join(path), file)?;
    }
    let digest = format!("{}\n", service.deployed.digest);
    write_file(&directory.join("digest"), &BundleFile::plain(digest))
}

/// What would keep a service from being launched shows before anything is touched.
fn check_all(directory: &Path, staging: &Staging) -> Result<()> {
    for name in staging.services.keys() {
        node_runtime::check::check(&directory.join("services").join(name)).map_err(|e| {
            AgentError::verification(format!("service {name} can't be started from its image")).because(e)
        })?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| AgentError::io("create", path, e))
}

/// Plain write; durability comes from the one barrier before the rename.
fn write_file(path: &Path, file: &BundleFile) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut handle = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        handle.write_all(&file.bytes)?;
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        if owner != (file.uid, file.gid) {
            chown(path, Some(file.uid), Some(file.gid))?;
        }
        handle.set_permissions(fs::Permissions::from_mode(file.mode))
    };
    write().map_err(|e| AgentError::io("write", path, e))
}
