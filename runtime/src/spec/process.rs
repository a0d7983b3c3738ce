//! The process of the OCI configuration: command, environment, user.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Config;
use oci_spec::runtime::{Process, ProcessBuilder, User, UserBuilder};

use super::users::{Accounts, Identity};
use super::{Resolved, SpecError, absolute, capabilities, oci};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn render(r: &Resolved<'_>, accounts: &Accounts) -> Result<Process, SpecError> {
    let image = r.image_config.config().as_ref();
    let identity = identity(r, image, accounts)?;
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .args(command(&r.container.process.args, image)?)
        .env(environment(&r.container.process.env, image, &identity)?)
        .cwd(working_directory(r, image)?)
        .user(user(r, &identity)?)
        .capabilities(capabilities::render(r.container, identity.uid)?)
        .no_new_privileges(r.container.process.no_new_privileges)
        .build()
        .map_err(oci("process"))?;
    // The builder's defaults; limits are inherited from node-run.
    process.set_rlimits(None);
    Ok(process)
}

fn identity(r: &Resolved<'_>, image: Option<&Config>, accounts: &Accounts) -> Result<Identity, SpecError> {
    let process = &r.container.process;
    let image_user = image.and_then(|config| config.user().as_deref());
    let user = process.user.as_deref().or(image_user).unwrap_or_default();
    accounts
        .identity(user, &process.groups)
        .map_err(|source| SpecError::Account {
            section: "process.user".to_owned(),
            source,
        })
}

fn user(r: &Resolved<'_>, identity: &Identity) -> Result<User, SpecError> {
    let umask = r.container.process.umask.map_or(0o022, |mode| mode.bits());
    UserBuilder::default()
        .uid(identity.uid)
        .gid(identity.gid)
        .umask(umask)
        .additional_gids(identity.groups.clone())
        .build()
        .map_err(oci("user"))
}

fn command(args: &[String], image: Option<&Config>) -> Result<Vec<String>, SpecError> {
    let of_image = image
        .into_iter()
        .flat_map(|config| [config.entrypoint(), config.cmd()]);
    let command: Vec<String> = match args {
        [] => of_image.flatten().flatten().cloned().collect(),
        own => own.to_vec(),
    };
    if command.is_empty() {
        return Err(SpecError::NoCommand);
    }
    executable("process.args", &command)?;
    Ok(command)
}

/// Whether execve(2) can be given this command.
pub(crate) fn executable(section: &str, command: &[String]) -> Result<(), SpecError> {
    let no_program = command.first().is_none_or(String::is_empty);
    if no_program || command.iter().any(|word| word.contains('\0')) {
        let reason = format!("{command:?} cannot be executed");
        return Err(SpecError::invalid(section, reason));
    }
    Ok(())
}

fn environment(
    own: &BTreeMap<String, String>,
    image: Option<&Config>,
    identity: &Identity,
) -> Result<Vec<String>, SpecError> {
    let mut all = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    if let Some(home) = &identity.home {
        all.insert("HOME".to_owned(), home.clone());
    }
    for entry in image
        .and_then(|config| config.env().as_ref())
        .into_iter()
        .flatten()
    {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        all.insert(key.to_owned(), value.to_owned());
    }
    all.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    for (key, value) in &all {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(SpecError::invalid(
                "process.env",
                format!("`{key}` cannot be passed on"),
            ));
        }
    }
    Ok(all
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect())
}

fn working_directory(r: &Resolved<'_>, image: Option<&Config>) -> Result<PathBuf, SpecError> {
    let of_image = image.and_then(|config| config.working_dir().as_deref());
    let of_image = of_image.filter(|text| !text.is_empty()).map(PathBuf::from);
    let cwd = r
        .container
        .process
        .cwd
        .clone()
        .or(of_image)
        .unwrap_or_else(|| "/".into());
    absolute(&|| "process.cwd".to_owned(), &cwd)
}
