//! Choices: services of a release that stand in for each other. A node runs one option of each choice.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of which a node takes exactly one. Services that are in no choice run on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The option of a node that does not choose.
    pub default: String,
    /// Option → its services; none for an option that does without.
    pub options: BTreeMap<String, Vec<String>>,
}

/// What a node's configuration says about services.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Choice → option.
    pub choices: &'a BTreeMap<String, String>,
    /// The services to run; all that the choices leave if absent.
    pub services: Option<&'a [String]>,
}

/// A node asks for services that the release can't give it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The release has no such service.
    #[error("service {0} is not in the release")]
    UnknownService(String),
    /// The release has no such choice.
    #[error("choice {name} is not in the release, which has {known}")]
    UnknownChoice {
        /// Its name.
        name: String,
        /// The release's choices, for people.
        known: String,
    },
    /// The choice has no such option.
    #[error("{choice} has no option {option}; its options are {known}")]
    UnknownOption {
        /// The choice.
        choice: String,
        /// The option that was asked for.
        option: String,
        /// The options there are, for people.
        known: String,
    },
    /// A service of an option that the node does not take.
    #[error("service {service} is not part of {choice} = {option}")]
    Excluded {
        /// The service.
        service: String,
        /// The choice that it belongs to.
        choice: String,
        /// The option that the node takes.
        option: String,
    },
}

impl SelectionError {
    /// The key of the configuration that is wrong.
    pub fn key(&self) -> String {
        match self {
            SelectionError::UnknownService(_) | SelectionError::Excluded { .. } => "services".to_owned(),
            SelectionError::UnknownChoice { name: choice, .. }
            | SelectionError::UnknownOption { choice, .. } => {
                format!("choices.{choice}")
            }
        }
    }
}

/// The services that a node runs: those of no choice and those of the options it takes, of these the ones it names.
///
/// # Errors
/// The node names something that the release does not have, or a service of an option that it does not take.
pub fn select<'a>(
    services: impl Iterator<Item = &'a String>,
    choices: &BTreeMap<String, Choice>,
    wanted: Wanted<'_>,
) -> Result<BTreeSet<String>, SelectionError> {
    let all: BTreeSet<&String> = services.collect();
    if let Some(unknown) = wanted
        .services
        .iter()
        .copied()
        .flatten()
        .find(|s| !all.contains(s))
    {
        return Err(SelectionError::UnknownService(unknown.clone()));
    }
    if let Some(name) = wanted.choices.keys().find(|name| !choices.contains_key(*name)) {
        return Err(SelectionError::UnknownChoice {
            name: name.clone(),
            known: list(choices.keys()),
        });
    }
    let mut chosen: BTreeSet<String> = all.into_iter().cloned().collect();
    for (name, choice) in choices {
        let option = wanted.choices.get(name).unwrap_or(&choice.default);
        let Some(taken) = choice.options.get(option) else {
            return Err(SelectionError::UnknownOption {
                choice: name.clone(),
                option: option.clone(),
                known: list(choice.options.keys()),
            });
        };
        for service in choice.services().filter(|service| !taken.contains(service)) {
            if wanted.services.is_some_and(|listed| listed.contains(service)) {
                return Err(SelectionError::Excluded {
                    service: service.clone(),
                    choice: name.clone(),
                    option: option.clone(),
                });
            }
            chosen.remove(service);
        }
    }
    if let Some(listed) = wanted.services {
        chosen.retain(|service| listed.contains(service));
    }
    Ok(chosen)
}

impl Choice {
    /// The services of all its options; one that several options share comes more than once.
    fn services(&self) -> impl Iterator<Item = &String> {
        self.options.values().flatten()
    }
}

/// What is wrong with a release's choices, given its services.
pub(super) fn contradiction<V>(
    choices: &BTreeMap<String, Choice>,
    services: &BTreeMap<String, V>,
) -> Option<String> {
    let mut owners: BTreeMap<&String, &String> = BTreeMap::new();
    for (name, choice) in choices {
        if !choice.options.contains_key(&choice.default) {
            return Some(format!(
                "default {} of choice {name} is no option of it",
                choice.default
            ));
        }
        for service in choice.services() {
            if !services.contains_key(service) {
                return Some(format!(
                    "service {service} of choice {name} is not in the release"
                ));
            }
            if let Some(other) = owners.insert(service, name).filter(|other| *other != name) {
                return Some(format!("service {service} is in the choices {other} and {name}"));
            }
        }
    }
    None
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Choice and option.
    type Made = &'static [(&'static str, &'static str)];
    type Listed = Option<&'static [&'static str]>;

    fn services() -> BTreeMap<String, ()> {
        ["libvirtd", "ovs-agent", "ovn-controller", "ovn-metadata"]
            .map(|name| (name.to_owned(), ()))
            .into()
    }

    fn choices() -> BTreeMap<String, Choice> {
        let option = |name: &str, services: &[&str]| {
            (
                name.to_owned(),
                services.iter().map(ToString::to_string).collect(),
            )
        };
        let networking = Choice {
            description: String::new(),
            default: "ovs".to_owned(),
            options: [
                option("ovs", &["ovs-agent"]),
                option("ovn", &["ovn-controller", "ovn-metadata"]),
                option("none", &[]),
            ]
            .into(),
        };
        [("networking".to_owned(), networking)].into()
    }

    fn selected(made: Made, listed: Listed) -> Result<Vec<String>, SelectionError> {
        let made = made
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let listed: Option<Vec<String>> = listed.map(|l| l.iter().map(ToString::to_string).collect());
        let wanted = Wanted {
            choices: &made,
            services: listed.as_deref(),
        };
        select(services().keys(), &choices(), wanted).map(|set| set.into_iter().collect())
    }

    #[test]
    fn a_node_runs_one_option_of_each_choice() {
        let table: [(Made, Listed, &[&str]); 6] = [
            (&[], None, &["libvirtd", "ovs-agent"]),
            (
                &[("networking", "ovn")],
                None,
                &["libvirtd", "ovn-controller", "ovn-metadata"],
            ),
            (&[("networking", "none")], None, &["libvirtd"]),
            (&[], Some(&["libvirtd"]), &["libvirtd"]),
            (&[], Some(&["ovs-agent"]), &["ovs-agent"]),
            (
                &[("networking", "ovn")],
                Some(&["ovn-controller"]),
                &["ovn-controller"],
            ),
        ];
        for (made, listed, expected) in table {
            assert_eq!(selected(made, listed).unwrap(), expected, "{made:?} {listed:?}");
        }
    }

    #[test]
    fn what_the_release_does_not_offer_is_named_with_its_key() {
        let table: [(Made, Listed, &str, &str); 4] = [
            (
                &[],
                Some(&["gone"]),
                "service gone is not in the release",
                "services",
            ),
            (
                &[("network", "ovn")],
                None,
                "choice network is not in the release, which has networking",
                "choices.network",
            ),
            (
                &[("networking", "linuxbridge")],
                None,
                "networking has no option linuxbridge; its options are none, ovn, ovs",
                "choices.networking",
            ),
            (
                &[],
                Some(&["libvirtd", "ovn-controller"]),
                "service ovn-controller is not part of networking = ovs",
                "services",
            ),
        ];
        for (made, listed, message, key) in table {
            let error = selected(made, listed).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.key().as_str()), (message, key));
        }
    }

    #[test]
    fn contradictions_are_named() {
        assert_eq!(contradiction(&choices(), &services()), None);
        let with = |change: &dyn Fn(&mut BTreeMap<String, Choice>)| {
            let mut choices = choices();
            change(&mut choices);
            contradiction(&choices, &services()).unwrap()
        };
        assert_eq!(
            with(&|c| c.get_mut("networking").unwrap().default = "x".into()),
            "default x of choice networking is no option of it"
        );
        assert_eq!(
            with(&|c| {
                let options = &mut c.get_mut("networking").unwrap().options;
                options.insert("more".into(), vec!["gone".into()]);
            }),
            "service gone of choice networking is not in the release"
        );
        assert_eq!(
            with(&|c| {
                let twice = c["networking"].clone();
                c.insert("twice".into(), twice);
            }),
            "service ovn-controller is in the choices networking and twice"
        );
    }
}
