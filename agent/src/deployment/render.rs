//! One service, rendered for this node. Pure: image, parameters and facts come in as values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_images::digest::Digest;
use node_runtime::launch::{CredentialFile, launch_document};
use node_runtime::seccomp;
use node_runtime::spec::seccomp::Seccomp;
use node_runtime::spec::{self, Resolved, users::Accounts};
use node_systemd::value::SignalName;
use node_systemd::{RenderedUnit, ServiceExec};
use oci_spec::image::ImageConfiguration;
use serde_json::Value;

use super::bundle::{Bundle, BundleFile};
use super::document::DeployedService;
use crate::config::Settings;
use crate::definition::{Definition, Handover, HandoverKind, SecretFile};
use crate::error::{AgentError, Result};
use crate::facts::Facts;
use crate::release::SeccompProfiles;
use crate::render;
use crate::root::Roots;

/// Where the command line is installed.
const NODECTL: &str = "/usr/bin/nodectl";

/// What rendering needs to know about an image.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfiguration,
    /// Its tree, absolute.
    pub tree: PathBuf,
    /// Text of its `/etc/passwd`.
    pub passwd: String,
    /// Text of its `/etc/group`.
    pub group: String,
}

/// What rendering needs to know about the node and the release; the same for all services.
#[derive(Debug, Clone, Copy)]
pub struct NodeInputs<'a> {
    /// Where everything is.
    pub roots: &'a Roots,
    /// The operator's configuration.
    pub settings: &'a Settings,
    /// Resolved parameters.
    pub parameters: &'a BTreeMap<String, Value>,
    /// What the node knows about itself.
    pub facts: &'a Facts,
    /// System call filters of the release.
    pub profiles: &'a SeccompProfiles,
}

/// One service, ready to be written.
#[derive(Debug, Clone)]
pub struct RenderedService {
    /// Its bundle.
    pub bundle: Bundle,
    /// Its unit.
    pub unit: RenderedUnit,
    /// Its entry in `deployment.json`.
    pub deployed: DeployedService,
}

/// Renders one service.
///
/// # Errors
/// Whatever in the definition, the image or the configuration does not fit; the error names the
/// service and the file or key.
pub fn render_service(
    definition: &Definition,
    image: &ImageFacts,
    node: &NodeInputs<'_>,
) -> Result<RenderedService> {
    let name = &definition.name;
    let wrong = || AgentError::config(format!("service {name} can't be rendered"));
    let mut bundle = Bundle::default();
    let accounts = Accounts::parse(&image.passwd, &image.group);
    let files = render_files(definition, &accounts, node, &mut bundle)?;
    let seccomp = add_seccomp(definition, node.profiles, &mut bundle)?;
    let resolved = Resolved {
        service: name,
        container: &definition.container,
        image_config: &image.config,
        rootfs: &image.tree,
        passwd: &image.passwd,
        group: &image.group,
        files: &files,
        hostname: None,
        seccomp,
    };
    let config = spec::oci_spec(&resolved).map_err(|e| wrong().because(e))?;
    let config = spec::document::document(&config).map_err(|e| wrong().because(e))?;
    add_json(&mut bundle, "config.json", &config, &wrong)?;
    let credentials = credential_files(definition, &accounts)?;
    let timeout = readiness_timeout(definition.unit.timeout_start_sec.duration().as_secs());
    let launch = launch_document(&resolved, definition.readiness.clone(), timeout, credentials)
        .map_err(|e| wrong().because(e))?;
    add_json(&mut bundle, "launch.json", &launch, &wrong)?;

    let digest = bundle.digest();
    let unit = render_unit(definition, &image.config, &digest, node)?;
    let deployed = DeployedService {
        image: definition.image.clone(),
        manifest: image.manifest,
        digest,
        unit: unit.name.to_string(),
    };
    Ok(RenderedService {
        bundle,
        unit,
        deployed,
    })
}

/// Seconds for readiness within systemd's own limit: the launcher gives up a little earlier, because it can
/// say what it waited for.
fn readiness_timeout(timeout_start_sec: u64) -> u64 {
    (timeout_start_sec - timeout_start_sec / 10).max(1)
}

fn add_json<T: serde::Serialize>(
    bundle: &mut Bundle,
    path: &str,
    document: &T,
    wrong: &dyn Fn() -> AgentError,
) -> Result<()> {
    let value = serde_json::to_value(document).map_err(|e| wrong().because(e))?;
    let bytes = serde_json::to_vec_pretty(&value).map_err(|e| wrong().because(e))?;
    bundle.files.insert(path.into(), BundleFile::plain(bytes));
    Ok(())
}

/// Renders the files of a service into its bundle.
fn render_files(
    definition: &Definition,
    accounts: &Accounts,
    node: &NodeInputs<'_>,
    bundle: &mut Bundle,
) -> Result<Vec<spec::RenderedFile>> {
    let name = &definition.name;
    let overrides = node.settings.overrides.get(name);
    if let Some(target) = overrides
        .iter()
        .flat_map(|o| o.keys())
        .find(|t| !definition.files.iter().any(|f| f.target == **t))
    {
        let text = format!(
            "override for {} of service {name}: the service has no such file",
            target.display()
        );
        return Err(AgentError::config(text));
    }
    let inputs = render::Inputs {
        parameters: node.parameters,
        facts: node.facts,
    };
    let mut files = Vec::new();
    for (index, file) in definition.files.iter().enumerate() {
        let wrong = || {
            AgentError::config(format!(
                "file {} of service {name} can't be rendered",
                file.target.display()
            ))
        };
        let over = overrides.and_then(|o| o.get(&file.target));
        let text = render::render(file, &inputs, over).map_err(|e| wrong().because(e))?;
        let path = bundle_path(index, &file.target);
        let file_in_bundle = BundleFile {
            mode: file.mode.bits(),
            uid: accounts.uid(&file.user).map_err(|e| wrong().because(e))?,
            gid: accounts.gid(&file.group).map_err(|e| wrong().because(e))?,
            bytes: text.into_bytes(),
        };
        bundle.files.insert(path.clone(), file_in_bundle);
        files.push(spec::RenderedFile {
            bundle_relative: path,
            target: file.target.clone(),
        });
    }
    Ok(files)
}

/// A readable, unique path for a rendered file.
fn bundle_path(index: usize, target: &Path) -> String {
    let name = target
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("files/{index}-{name}")
}

/// Compiles the system call filter; whether there is one.
fn add_seccomp(definition: &Definition, profiles: &SeccompProfiles, bundle: &mut Bundle) -> Result<bool> {
    let name = &definition.name;
    let filter = match &definition.container.seccomp {
        Seccomp::Unconfined { .. } => return Ok(false),
        Seccomp::Default => seccomp::compile(seccomp::DEFAULT_PROFILE),
        Seccomp::Profile { name: profile } => profiles
            .get(profile)
            .ok_or_else(|| {
                let text = format!("service {name}: seccomp profile {profile} is not in the release");
                AgentError::config(text)
            })?
            .compile(),
    };
    let filter = filter.map_err(|e| {
        AgentError::other(format!("can't compile the seccomp filter of service {name}")).because(e)
    })?;
    bundle
        .files
        .insert("seccomp.bpf".into(), BundleFile::plain(filter));
    Ok(true)
}

fn credential_files(definition: &Definition, accounts: &Accounts) -> Result<Vec<CredentialFile>> {
    let one = |file: &SecretFile| -> Result<CredentialFile> {
        let wrong = || {
            let (target, name) = (file.target.display(), &definition.name);
            AgentError::config(format!(
                "secret file {target} of service {name} can't be rendered"
            ))
        };
        let keys = |keys: &BTreeMap<String, crate::definition::SecretValue>| {
            keys.iter()
                .map(|(key, value)| (key.clone(), value.secret.clone()))
                .collect()
        };
        Ok(CredentialFile {
            target: file.target.clone(),
            uid: accounts.uid(&file.user).map_err(|e| wrong().because(e))?,
            gid: accounts.gid(&file.group).map_err(|e| wrong().because(e))?,
            mode: file.mode,
            ini: file
                .content
                .iter()
                .map(|(section, k)| (section.clone(), keys(k)))
                .collect(),
        })
    };
    definition.secret_files.iter().map(one).collect()
}

fn render_unit(
    definition: &Definition,
    image: &ImageConfiguration,
    digest: &str,
    node: &NodeInputs<'_>,
) -> Result<RenderedUnit> {
    let mut exec = ServiceExec::new(digest);
    exec.state_root = node.roots.state.clone();
    exec.run_root = node.roots.run.clone();
    for secret in definition.secrets() {
        exec.credentials
            .push((secret.to_owned(), secret_path(secret, node)?));
    }
    if let Some(handover) = definition.handover {
        exec.start_pre = handover_command(handover, "hold", definition, node);
        exec.stop = handover_command(handover, "save", definition, node);
        exec.start_post = handover_command(handover, "finish", definition, node);
    }
    let mut unit = definition.unit.clone();
    if unit.description.is_empty() {
        unit.description.clone_from(&definition.description);
    }
    unit.kill_signal = kill_signal(definition, image)?;
    node_systemd::render_service(&definition.name, &unit, &exec).map_err(|e| {
        AgentError::config(format!("unit of service {} can't be rendered", definition.name)).because(e)
    })
}

/// What asks the service to stop: what its definition says, or else its image (`StopSignal` of the OCI image
/// specification, config.md), as other launchers of containers do.
fn kill_signal(definition: &Definition, image: &ImageConfiguration) -> Result<Option<SignalName>> {
    let of_image = image
        .config()
        .as_ref()
        .and_then(|config| config.stop_signal().as_deref())
        .filter(|text| !text.is_empty());
    match (definition.unit.kill_signal, of_image) {
        (Some(own), _) => Ok(Some(own)),
        (None, None) => Ok(None),
        (None, Some(text)) => text.parse().map(Some).map_err(|e| {
            let what = format!(
                "StopSignal of image {} can't be the KillSignal= of service {}",
                definition.image, definition.name
            );
            AgentError::config(what)
                .because(e)
                .hint("set kill_signal in the [unit] section of the service's definition")
        }),
    }
}

/// One part of a handover. The command looks at the definition no more: which kind it is stands in its words.
fn handover_command(
    handover: Handover,
    step: &str,
    definition: &Definition,
    node: &NodeInputs<'_>,
) -> Vec<String> {
    let kind = match handover.kind {
        HandoverKind::OvsDataplane => "ovs-dataplane",
    };
    let mut command = vec![NODECTL.to_owned()];
    let ordinary = Roots::default();
    for (option, path, ordinary) in [
        ("--state-root", &node.roots.state, ordinary.state),
        ("--run-root", &node.roots.run, ordinary.run),
    ] {
        if *path != ordinary {
            command.push(format!("{option}={}", path.display()));
        }
    }
    command.extend(["handover", kind, step, &definition.name].map(str::to_owned));
    command
}

/// Where a secret is; it has to be there.
fn secret_path(secret: &str, node: &NodeInputs<'_>) -> Result<PathBuf> {
    let path = match node.settings.secrets.get(secret) {
        Some(path) => path.clone(),
        None => node.roots.secrets().join(secret),
    };
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Ok(path),
        Ok(_) => Err(AgentError::config(format!(
            "secret {secret}: {} is not a file",
            path.display()
        ))),
        Err(e) => Err(AgentError::config(format!(
            "secret {secret} is missing: can't read {}",
            path.display()
        ))
        .because(e)
        .hint(format!(
            "put it there with mode 0600, or name its path in [secrets] of {}",
            node.roots.node_toml().display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oci_spec::image::ConfigBuilder;

    use super::*;

    fn asked(unit: &str, of_image: Option<&str>) -> Result<Option<String>> {
        let text = format!("format = 1\nname = \"s\"\ndescription = \"\"\nimage = \"i\"\n[unit]\n{unit}");
        let definition = Definition::parse(&text, Path::new("s.toml")).unwrap();
        let mut image = ImageConfiguration::default();
        if let Some(signal) = of_image {
            let config = ConfigBuilder::default().stop_signal(signal).build().unwrap();
            image.set_config(Some(config));
        }
        kill_signal(&definition, &image).map(|signal| signal.map(|name| name.to_string()))
    }

    #[test]
    fn a_service_is_stopped_as_its_definition_or_else_its_image_says() {
        let own = "kill_signal = \"SIGINT\"";
        for (unit, of_image, expected) in [
            ("", None, None),
            ("", Some(""), None),
            ("", Some("SIGQUIT"), Some("SIGQUIT")),
            (own, None, Some("SIGINT")),
            (own, Some("SIGQUIT"), Some("SIGINT")),
            (own, Some("SIGRTMIN+3"), Some("SIGINT")),
        ] {
            let got = asked(unit, of_image).unwrap();
            assert_eq!(got.as_deref(), expected, "{unit} {of_image:?}");
        }
        let refused = asked("", Some("SIGRTMIN+3")).unwrap_err().chain();
        assert!(
            refused.contains("image i") && refused.contains("SIGRTMIN+3"),
            "{refused}"
        );
    }
}
