//! From a release and the node's configuration to a deployment that could be, and a plan.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::config::Settings;
use crate::definition::{Definition, Requires};
use crate::deployment::{
    DeployedService, Deployment, DeploymentDocument, FORMAT, ImageFacts, NodeInputs, Reason, Seq, Staging,
    current, list, next_seq, render_service,
};
use crate::error::{AgentError, Kind, Result};
use crate::parameters::{self, ParameterError};
use crate::plan;
use crate::ports::TrustedRelease;
use crate::release::{Probation, Wanted, select};
use crate::{history, newest, rejected};

/// Space that stays free for the way back and for logs, in bytes.
const RESERVE: u64 = 64 << 20;

/// Everything that is known about a move before anything is fetched.
#[derive(Debug)]
pub(super) struct Considered {
    pub release: TrustedRelease,
    pub settings: Settings,
    pub services: Vec<String>,
    pub parameters: BTreeMap<String, serde_json::Value>,
    pub present: Option<Deployment>,
}

impl Considered {
    /// Names of the images that the chosen services use.
    pub fn images(&self) -> BTreeSet<&str> {
        self.release
            .document
            .images_of(self.services.iter().map(String::as_str))
    }

    fn requires(&self) -> Requires {
        let mut all = Requires::default();
        for definition in self
            .services
            .iter()
            .filter_map(|s| self.release.document.services.get(s))
        {
            let one = &definition.requires;
            all.kernel_modules.extend(one.kernel_modules.iter().cloned());
            all.optional_kernel_modules
                .extend(one.optional_kernel_modules.iter().cloned());
            all.commands.extend(one.commands.iter().cloned());
            all.devices.extend(one.devices.iter().cloned());
            all.dbus_names.extend(one.dbus_names.iter().cloned());
        }
        all
    }

    /// How the new deployment is watched.
    pub fn probation(&self) -> Probation {
        self.settings.probation(&self.release.document.probation)
    }
}

impl Engine {
    /// Looks at a release in the light of this node's configuration.
    pub(super) fn consider(&self, release: TrustedRelease, settings: Settings) -> Result<Considered> {
        let services = chosen_services(&release, &settings)?;
        let parameters = resolve_parameters(&release, &services, &settings)?;
        let present = match current(&self.roots)? {
            Some(seq) => Some(Deployment::load(&self.roots, seq)?),
            None => None,
        };
        Ok(Considered {
            release,
            settings,
            services,
            parameters,
            present,
        })
    }

    /// Refuses a release that failed here before.
    pub(super) fn check_rejected(&self, release: &TrustedRelease) -> Result<()> {
        match rejected::all(&self.roots)?.get(&release.info.digest) {
            None => Ok(()),
            Some(reason) => Err(AgentError::vetoed(format!(
                "release {} {} failed on this node before: {reason}",
                release.info.name, release.info.version
            ))
            .hint("--force tries it again")),
        }
    }

    /// Refuses a release that is older than one this node has run.
    pub(super) fn check_age(&self, considered: &Considered) -> Result<()> {
        let present = considered.present.as_ref().map(|p| &p.document.release);
        newest::check(&self.roots, &considered.release.info, present)
    }

    /// Refuses what this host can't run or hold. Returns warnings.
    pub(super) async fn check_host(&self, considered: &Considered, store: u64) -> Result<Vec<String>> {
        let lacking = self.ports.host.lacking(&considered.requires()).await?;
        if !lacking.required.is_empty() {
            let text = format!(
                "this host lacks what the release needs: {}",
                lacking.required.join("; ")
            );
            return Err(AgentError::verification(text));
        }
        let free = self.ports.host.free_space(&self.roots.state)?;
        if free < store.saturating_add(RESERVE) {
            let needed = store.saturating_add(RESERVE);
            let text = format!(
                "not enough space under {}: {needed} bytes are needed (with a reserve for the way back), {free} are free",
                self.roots.state.display()
            );
            return Err(AgentError::new(Kind::CannotWrite, text).hint("`nodectl gc` may give some back"));
        }
        Ok(lacking.optional)
    }

    /// What is wrong with the way back to a deployment; empty if it is open.
    pub(super) fn way_back(&self, present: Option<&Deployment>) -> Result<Vec<String>> {
        let Some(present) = present else {
            return Ok(Vec::new());
        };
        let lacks = self.lacks(present)?;
        Ok(lacks.into_iter().map(|(_, note)| note).collect())
    }

    /// What a deployment needs and is not there, with the service that needs it.
    pub(super) fn lacks(&self, deployment: &Deployment) -> Result<Vec<(String, String)>> {
        let mut lacks = Vec::new();
        for (name, service) in &deployment.document.services {
            if self.ports.images.facts(&service.manifest)?.is_none() {
                let note = format!("image {} of service {name} is not in the store", service.manifest);
                lacks.push((name.clone(), note));
            }
            let digest = deployment.bundle(name).join("digest");
            let text = std::fs::read_to_string(&digest).unwrap_or_default();
            if text.trim() != service.digest {
                lacks.push((name.clone(), format!("{} is damaged", digest.display())));
            }
        }
        Ok(lacks)
    }

    /// Renders the deployment. All images have to be in the store.
    pub(super) fn render(&self, considered: &Considered, reason: Reason) -> Result<Staging> {
        let mut services = BTreeMap::new();
        for name in &considered.services {
            let Some(image) = self.image_of(considered, name)? else {
                return Err(AgentError::other(format!(
                    "the image of service {name} is not in the store"
                )));
            };
            services.insert(name.clone(), self.render_one(considered, name, &image)?);
        }
        let used = history::read(&self.roots)?.into_iter().filter_map(|e| e.to);
        let document = DeploymentDocument {
            format: FORMAT,
            seq: next_seq(&self.roots, used)?,
            release: considered.release.info.clone(),
            created: self.ports.clock.now(),
            previous: considered.present.as_ref().map(|p| p.seq),
            reason,
            services: services
                .iter()
                .map(|(name, s)| (name.clone(), s.deployed.clone()))
                .collect(),
            parameters: considered.parameters.clone(),
            operator: considered.settings.parameters.clone(),
        };
        let node = considered.settings.document.to_string();
        Ok(Staging {
            document,
            release: considered.release.bytes.clone(),
            node,
            services,
        })
    }

    pub(super) fn render_one(
        &self,
        considered: &Considered,
        name: &str,
        image: &ImageFacts,
    ) -> Result<crate::deployment::RenderedService> {
        let Some(definition) = considered.release.document.services.get(name) else {
            return Err(AgentError::config(format!(
                "service {name} is not in the release"
            )));
        };
        let facts = self.ports.host.facts()?;
        let inputs = NodeInputs {
            roots: &self.roots,
            settings: &considered.settings,
            parameters: &considered.parameters,
            facts: &facts,
            profiles: &considered.release.document.seccomp_profiles,
        };
        render_service(definition, image, &inputs)
    }

    pub(super) fn image_of(&self, considered: &Considered, service: &str) -> Result<Option<ImageFacts>> {
        let document = &considered.release.document;
        let binding = document
            .services
            .get(service)
            .and_then(|d| document.images.get(&d.image));
        match binding {
            Some(binding) => self.ports.images.facts(&binding.digest),
            None => Ok(None),
        }
    }

    /// A deployment with this content that was staged earlier and not run yet.
    pub(super) fn staged_before(&self, staging: &Staging, present: Option<Seq>) -> Result<Option<Seq>> {
        let Some(seq) = list(&self.roots)?.pop().filter(|seq| Some(*seq) > present) else {
            return Ok(None);
        };
        let Ok(found) = Deployment::load(&self.roots, seq) else {
            return Ok(None);
        };
        let same = found.document.release.digest == staging.document.release.digest
            && found.document.services == staging.document.services
            && found.document.parameters == staging.document.parameters
            && found.document.previous == staging.document.previous
            && staging
                .services
                .iter()
                .all(|(name, s)| found.units.get(name) == Some(&s.unit.text));
        Ok(same.then_some(seq))
    }
}

/// The services that this node runs, in start order.
fn chosen_services(release: &TrustedRelease, settings: &Settings) -> Result<Vec<String>> {
    let all = &release.document.services;
    let origin = |key: &str| {
        settings
            .origin(key)
            .map(|p| format!(" (set in {})", p.display()))
            .unwrap_or_default()
    };
    let wanted = Wanted {
        choices: &settings.choices,
        services: settings.services.as_deref(),
    };
    let names = select(all.keys(), &release.document.choices, wanted)
        .map_err(|e| AgentError::config(format!("{e}{}", origin(&e.key()))))?;
    if let Some(unknown) = settings.overrides.keys().find(|s| !all.contains_key(*s)) {
        return Err(AgentError::config(format!(
            "overrides.{unknown}: the release has no such service"
        )));
    }
    let chosen = all
        .iter()
        .filter(|(name, _)| names.contains(*name))
        .map(|(name, d)| (name.clone(), d.clone()))
        .collect();
    plan::start_order(&chosen)
        .map_err(|e| AgentError::config("the services can't be put in order").because(e))
}

fn resolve_parameters(
    release: &TrustedRelease,
    services: &[String],
    settings: &Settings,
) -> Result<BTreeMap<String, serde_json::Value>> {
    let definitions = services.iter().filter_map(|s| release.document.services.get(s));
    let used = definitions.flat_map(Definition::parameters).collect();
    let specs = &release.document.parameters;
    parameters::resolve(specs, &settings.parameters, &used).map_err(|errors| {
        let origin = |e: &ParameterError| match e {
            ParameterError::Unknown { name, .. } | ParameterError::Type { name, .. } => settings
                .origin(&format!("parameters.{name}"))
                .map(|p| format!(" (set in {})", p.display()))
                .unwrap_or_default(),
            ParameterError::Missing { .. } => String::new(),
        };
        let lines: Vec<String> = errors.iter().map(|e| format!("{e}{}", origin(e))).collect();
        AgentError::config(lines.join("; ")).hint("`nodectl set NAME=VALUE` sets a parameter")
    })
}

/// The images of all deployments that a set of numbers names.
pub(super) fn images_of(deployments: &[Deployment]) -> BTreeSet<node_images::digest::Digest> {
    deployments
        .iter()
        .flat_map(|d| d.document.services.values())
        .map(|s: &DeployedService| s.manifest)
        .collect()
}
