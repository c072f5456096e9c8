//! Pure: which containers of an engine are a service's, and in which order they come and go.
//!
//! A redeploy shows in the configuration hash that Compose writes on what it makes: the newest
//! container that Foresail did not start tells which hash is wanted now. Clones are made from that
//! hash, and others are outdated. While containers of two hashes exist and the newest is young, the
//! user's tool is at work, and whoever starts or stops something then only gets in its way.

use std::collections::HashMap;
use std::fmt;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State};

use super::compose;
use super::template::CLONE_LABEL;
use crate::config::ComposeTarget;
use crate::io::docker::LOCK_LABEL;
use crate::series::Time;

/// So long after the last container of a redeploy nothing is started or stopped.
const SETTLES_SECONDS: i64 = 30;

/// How a service's containers are told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `key=value`, or a key with any value.
    Label(String),
    /// One service of a Compose project.
    Compose { project: String, service: String },
}

impl Selection {
    /// Labels that all of the service's containers carry, as `key=value` or `key`; at least one.
    pub fn labels(&self) -> Vec<String> {
        match self {
            Selection::Label(label) => vec![label.clone()],
            Selection::Compose { project, service } => vec![
                format!("{}={project}", compose::PROJECT),
                format!("{}={service}", compose::SERVICE),
            ],
        }
    }

    /// Whether a container with these labels is one of the service's.
    pub fn includes(&self, labels: Option<&HashMap<String, String>>) -> bool {
        let Some(labels) = labels else { return false };
        // What Compose has run for a single command, and what Foresail keeps as a lock.
        let is_one_off = labels.get(compose::ONE_OFF).is_some_and(|value| value == "True");
        if is_one_off || labels.contains_key(LOCK_LABEL) {
            return false;
        }
        let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
        match self {
            Selection::Label(label) => match label.split_once('=') {
                Some((key, value)) => is(key, value),
                None => labels.contains_key(label),
            },
            Selection::Compose { project, service } => {
                is(compose::PROJECT, project) && is(compose::SERVICE, service)
            }
        }
    }

    /// A listed container; `None` if it is not one of the service's.
    pub fn container(&self, summary: ContainerSummary) -> Option<Container> {
        let labels = summary.labels.filter(|labels| self.includes(Some(labels)))?;
        let name = summary.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
        // Outside its own project what Compose has noted means nothing.
        let noted = |key| labels.get(key).filter(|_| matches!(self, Selection::Compose { .. }));
        Some(Container {
            id: summary.id?,
            name: name.trim_start_matches('/').to_owned(),
            state: summary.state?,
            created: summary.created.unwrap_or(0),
            clone: labels.contains_key(CLONE_LABEL),
            number: noted(compose::NUMBER).and_then(|number| number.parse().ok()),
            config_hash: noted(compose::CONFIG_HASH).cloned(),
        })
    }

    /// What the names of replicas begin with, before their number; `name` is the service's in
    /// Foresail.
    ///
    /// # Errors
    /// Why the template's name allows no second one.
    pub fn name_prefix(&self, name: &str, template: &Container) -> Result<String, String> {
        match self {
            Selection::Label(_) => Ok(format!("{name}-foresail-")),
            Selection::Compose { project, service } => {
                compose::name_prefix(project, service, &template.name)
            }
        }
    }

    /// What stands in the way of a first clone.
    pub fn nothing_to_clone(&self) -> String {
        match self {
            Selection::Label(label) => format!(
                "no container carries the label {label}: start one by hand, and it can be cloned"
            ),
            Selection::Compose { service, .. } => {
                format!("{self} has no container: `docker-compose up -d {service}` makes one")
            }
        }
    }
}

impl From<&ComposeTarget> for Selection {
    fn from(target: &ComposeTarget) -> Selection {
        let ComposeTarget { project, service, .. } = target.clone();
        Selection::Compose { project, service }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::Label(label) => write!(f, "the label {label}"),
            Selection::Compose { project, service } => {
                write!(f, "service {service} of Compose project {project}")
            }
        }
    }
}

/// A container of the service, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub state: State,
    /// Seconds since 1970.
    pub created: i64,
    /// Made by Foresail.
    pub clone: bool,
    /// Compose's number of the replica and hash of its configuration.
    pub number: Option<u32>,
    pub config_hash: Option<String>,
}

/// What clones are made from: the oldest of the user's own containers of the newest configuration,
/// else the oldest clone of it. `containers` come oldest first, here and below.
pub fn template_of(containers: &[Container]) -> Option<&Container> {
    let mut current = containers.iter().filter(|it| !is_outdated(containers, it));
    current.clone().find(|container| !container.clone).or_else(|| current.next())
}

/// Whether the user has replaced the container's configuration by another.
pub fn is_outdated(containers: &[Container], container: &Container) -> bool {
    newest(containers).is_some_and(|newest| newest.config_hash != container.config_hash)
}

/// A clone may come later than the redeploy that it knows nothing of: the user's own count more.
fn newest(containers: &[Container]) -> Option<&Container> {
    containers.iter().rfind(|container| !container.clone).or_else(|| containers.last())
}

/// Whether the user's tool seems to be replacing containers at `now`.
pub fn is_redeploying(containers: &[Container], now: Time) -> bool {
    let two = |it: &Container| is_outdated(containers, it) || compose::is_temporary(&it.name);
    let age = |it: &Container| now.timestamp().saturating_sub(it.created);
    // Clocks differ: an engine's may be ahead of ours, but not for ever.
    let young = |it: &Container| (-SETTLES_SECONDS..SETTLES_SECONDS).contains(&age(it));
    containers.iter().any(two) && newest(containers).is_some_and(young)
}

/// Whether another container of the newest configuration is left for later clones.
pub fn can_be_spared(containers: &[Container], id: &str) -> bool {
    containers.iter().any(|other| other.id != id && !is_outdated(containers, other))
}

/// A stopped container of the user's is no replica: it may be stopped for a reason.
pub fn is_replica(container: &Container) -> bool {
    match container.state {
        State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING => true,
        State::CREATED | State::EXITED | State::DEAD => container.clone,
        State::REMOVING | State::EMPTY => false,
    }
}

#[cfg(test)]
mod tests;
