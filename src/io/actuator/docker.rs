//! I/O: replicas are the containers of one Docker engine that carry the service's label.
//!
//! A new replica is a clone of a container that the user started: of the oldest such, also if it is
//! stopped. Clones carry one label more ([`template::CLONE_LABEL`]) and are removed when they are
//! stopped; the user's own containers are only stopped. Containers without the service's label are
//! never touched. All state is in the labels, so a restarted Foresail goes on where it was.
//!
//! Known limits: the template's image must still be on the engine. Clones get addresses and volumes
//! of their own where the template has none that its user named. A change of the template reaches
//! later clones only.

mod readiness;
mod template;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum as State,
    NetworkConnectRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder,
    StartContainerOptions, StopContainerOptionsBuilder,
};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Actuator, ActuatorError};
use crate::config::DockerTarget;
use crate::fleet::{ReplicaId, ReplicaReport};
use crate::io::docker::inventory::Inventory;
use crate::io::docker::{CHANGE_PATIENCE, Engine, EngineError, LOCK_LABEL, PATIENCE};

use readiness::Readiness;
pub use template::{CLONE_LABEL, cpu_limit, is_running};

/// Containers that are asked at the same time.
const CONCURRENCY: usize = 16;

/// The containers of one service.
#[derive(Debug)]
pub struct DockerActuator {
    service: String,
    target: DockerTarget,
    engine: Engine,
    inventory: Inventory,
    readiness: Readiness,
    notes: Mutex<Vec<String>>,
}

/// A labelled container, as a listing shows it.
#[derive(Debug, Clone)]
struct Container {
    id: String,
    name: String,
    state: State,
    /// Seconds since 1970.
    created: i64,
    /// Made by Foresail.
    clone: bool,
}

impl DockerActuator {
    /// Connects lazily: an engine that is away is found by the first call, and sought again by each
    /// later one.
    ///
    /// # Errors
    /// [`ActuatorError::Refused`] if the target's label or engine address is malformed.
    pub fn connect(service: &str, target: &DockerTarget) -> Result<DockerActuator, ActuatorError> {
        let engine = Engine::new(target.host.as_deref()).map_err(ActuatorError::Refused)?;
        DockerActuator::on(Inventory::follow(engine), service, target)
    }

    /// As [`DockerActuator::connect`], but shares what others know of the engine's containers.
    ///
    /// # Errors
    /// [`ActuatorError::Refused`] if the target's label is malformed.
    pub fn on(
        inventory: Inventory,
        service: &str,
        target: &DockerTarget,
    ) -> Result<DockerActuator, ActuatorError> {
        if target.label.split('=').next().is_none_or(str::is_empty) {
            let reason = format!("`{}` is no container label: write `key=value`", target.label);
            return Err(ActuatorError::Refused(reason));
        }
        let (service, target) = (service.to_owned(), target.clone());
        let (engine, readiness) = (inventory.engine().clone(), Readiness::default());
        Ok(DockerActuator {
            service,
            target,
            engine,
            inventory,
            readiness,
            notes: Mutex::default(),
        })
    }

    /// Every container with the label, in any state; oldest first.
    async fn labelled(&self) -> Result<Vec<Container>, EngineError> {
        let found = self.inventory.labelled(&self.target.label).await?;
        let mut containers = found
            .into_iter()
            .filter(|summary| self.carries_label(summary.labels.as_ref()))
            .filter_map(container)
            .collect::<Vec<_>>();
        // Within one second the numbers of the names tell; a longer number is a higher one.
        let age = |c: &Container| (c.created, c.name.len(), c.name.clone());
        containers.sort_by_cached_key(age);
        Ok(containers)
    }

    fn carries_label(&self, labels: Option<&HashMap<String, String>>) -> bool {
        let Some(labels) = labels.filter(|labels| !is_foreign(labels)) else { return false };
        match self.target.label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(&self.target.label),
        }
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        let docker = self.engine.docker()?;
        let request = docker.inspect_container(id, None::<InspectContainerOptions>);
        self.engine.call(PATIENCE, request).await
    }

    async fn reports(&self) -> Result<Vec<ReplicaReport>, EngineError> {
        let containers = self.labelled().await?;
        let notes = match template_of(&containers) {
            Some(template) => match self.inventory.inspect(&template.id).await {
                Ok(template) => template::notes(&template, self.target.port),
                Err(EngineError::Unavailable(reason)) => {
                    return Err(EngineError::Unavailable(reason));
                }
                // It is being removed; the next listing shows what is left.
                Err(_) => Vec::new(),
            },
            None => vec![self.nothing_to_clone()],
        };
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;

        self.readiness.retain(|id| containers.iter().any(|container| container.id == *id));
        let published_on = self.engine.published_on().await;
        let reports = containers.into_iter().filter(is_replica);
        let reports = reports.map(|container| self.report(container, published_on));
        // Collected first: the compiler cannot prove a lazy chain of them to be `Send`.
        let reports = stream::iter(reports.collect::<Vec<_>>());
        let reports = reports.buffered(CONCURRENCY).try_collect::<Vec<_>>().await?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// `None` if the container has gone since it was listed.
    async fn report(
        &self,
        container: Container,
        published_on: IpAddr,
    ) -> Result<Option<ReplicaReport>, EngineError> {
        let (id, managed) = (container.id, container.clone);
        let unready = ReplicaReport { id, ready: false, address: None, exited: false, managed };
        match container.state {
            State::CREATED => return Ok(Some(unready)),
            State::EXITED | State::DEAD => {
                return Ok(Some(ReplicaReport { exited: true, ..unready }));
            }
            _ => {}
        }
        let seen = match self.inventory.inspect(&unready.id).await {
            Ok(seen) => seen,
            Err(EngineError::Missing(_)) => return Ok(None),
            Err(EngineError::Unavailable(reason)) => return Err(EngineError::Unavailable(reason)),
            Err(_) => return Ok(Some(unready)),
        };
        let address = template::address(&seen, self.target.port, published_on);
        // Another machine's containers may have the addresses of ours.
        let local = published_on.is_loopback();
        let own = template::own_address(&seen, self.target.port).filter(|_| local);
        let ready = template::is_running(&seen)
            && match (template::healthy(&seen), address) {
                (Some(healthy), _) => healthy,
                (None, Some(address)) => self.readiness.of(&seen, address, own).await,
                // Nothing to connect to: a worker without a port is as ready as it gets.
                (None, None) => template::port(&seen, self.target.port).is_none(),
            };
        Ok(Some(ReplicaReport { ready, address, ..unready }))
    }

    async fn start_clone(&self) -> Result<ReplicaId, ActuatorError> {
        let containers = self.labelled().await?;
        let template = template_of(&containers)
            .ok_or_else(|| ActuatorError::Refused(self.nothing_to_clone()))?;
        self.remove_exited(&containers).await?;

        let seen = self.inspect(&template.id).await?;
        let image = self.image_of(&seen).await?;
        let blueprint = template::blueprint(&seen, &image).map_err(ActuatorError::Refused)?;
        let (id, name) = self.create(&blueprint, &containers).await?;

        let docker = self.engine.docker()?;
        let started = async {
            for (network, settings) in blueprint.further_networks {
                let request = NetworkConnectRequest {
                    container: id.clone(),
                    endpoint_config: Some(settings),
                };
                self.engine
                    .call(CHANGE_PATIENCE, docker.connect_network(&network, request))
                    .await?;
            }
            let request = docker.start_container(&id, None::<StartContainerOptions>);
            self.engine.call(CHANGE_PATIENCE, request).await
        };
        match started.await {
            Ok(()) => Ok(id),
            Err(error) => Err(self.give_up(&id, &name, error).await),
        }
    }

    /// The template's image under its name, or by its id if the name now means another image or
    /// none.
    async fn image_of(&self, template: &ContainerInspectResponse) -> Result<String, EngineError> {
        let id = template.image.clone().unwrap_or_default();
        let Some(name) = template.config.as_ref().and_then(|config| config.image.clone()) else {
            return Ok(id);
        };
        let docker = self.engine.docker()?;
        match self.engine.call(PATIENCE, docker.inspect_image(&name)).await {
            Ok(image) if image.id.as_ref() == Some(&id) => Ok(name),
            Ok(_) | Err(EngineError::Missing(_)) => Ok(id),
            Err(error) => Err(error),
        }
    }

    /// Makes the container under the first free name `<service>-foresail-<number>`; gives id and
    /// name.
    async fn create(
        &self,
        blueprint: &template::Blueprint,
        siblings: &[Container],
    ) -> Result<(String, String), EngineError> {
        // A name can be taken by a container without the label, or by a start at the same moment.
        const ATTEMPTS: u32 = 8;
        let prefix = format!("{}-foresail-", self.service);
        let number = |sibling: &Container| sibling.name.strip_prefix(&prefix)?.parse::<u32>().ok();
        let next = siblings.iter().filter_map(number).max().unwrap_or(0).saturating_add(1);
        let docker = self.engine.docker()?;
        let mut attempt = 0;
        loop {
            // In growing steps, past many that others may have taken.
            let name = format!("{prefix}{}", next.saturating_add((1 << attempt) - 1));
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let request = docker.create_container(Some(options), blueprint.body.clone());
            match self.engine.call(CHANGE_PATIENCE, request).await {
                Ok(created) => return Ok((created.id, name)),
                Err(EngineError::Conflict(_)) if attempt + 1 < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a clone that did not start, and says why it did not.
    async fn give_up(&self, id: &str, name: &str, error: EngineError) -> ActuatorError {
        let removed = self.remove(id).await;
        match error {
            EngineError::Unavailable(_) => error.into(),
            EngineError::Conflict(_) | EngineError::Missing(_) if self.is_gone(id).await => {
                ActuatorError::Refused(format!("container {name} was removed while it started"))
            }
            error => ActuatorError::Refused(match removed {
                Ok(()) => format!("container {name} did not start: {error}"),
                Err(left) => format!("container {name} did not start: {error}; it is left: {left}"),
            }),
        }
    }

    async fn is_gone(&self, id: &str) -> bool {
        matches!(self.inspect(id).await, Err(EngineError::Missing(_)))
    }

    /// Removes clones that exited by themselves, except the newest: its logs may tell why.
    async fn remove_exited(&self, containers: &[Container]) -> Result<(), EngineError> {
        let exited = |container: &&Container| {
            container.clone && matches!(container.state, State::EXITED | State::DEAD)
        };
        for container in containers.iter().filter(exited).rev().skip(1) {
            self.remove(&container.id).await?;
        }
        Ok(())
    }

    /// Removes a clone and its anonymous volumes; one that is gone, or going, is no error.
    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let docker = self.engine.docker()?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.engine.call(CHANGE_PATIENCE, docker.remove_container(id, Some(options))).await {
            Err(EngineError::Missing(_) | EngineError::Conflict(_)) => Ok(()),
            result => result,
        }
    }

    async fn stop_container(&self, id: &str) -> Result<(), ActuatorError> {
        let seen = match self.inspect(id).await {
            Err(EngineError::Missing(_)) => return Ok(()),
            seen => seen?,
        };
        let labels = seen.config.as_ref().and_then(|config| config.labels.as_ref());
        if !self.carries_label(labels) {
            let (name, label) = (template::name(&seen), &self.target.label);
            let reason = format!("container {name} does not carry the label {label}: left alone");
            return Err(ActuatorError::Refused(reason));
        }
        let clone = labels.is_some_and(|labels| labels.contains_key(template::CLONE_LABEL));

        // Whole seconds, rounded up: with 0 the engine would kill at once.
        let grace = self.target.stop_timeout.as_millis().div_ceil(1000).clamp(1, 86_400);
        let options = StopContainerOptionsBuilder::new().t(grace as i32).build();
        let docker = self.engine.docker()?;
        let patience = CHANGE_PATIENCE + Duration::from_secs(grace as u64);
        match self.engine.call(patience, docker.stop_container(id, Some(options))).await {
            Ok(()) | Err(EngineError::Missing(_) | EngineError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if clone {
            self.remove(id).await?;
        }
        Ok(())
    }

    fn nothing_to_clone(&self) -> String {
        let label = &self.target.label;
        format!("no container carries the label {label}: start one by hand, and it can be cloned")
    }
}

impl Actuator for DockerActuator {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ReplicaReport>, ActuatorError>> {
        Box::pin(async { Ok(self.reports().await?) })
    }

    fn start(&self) -> BoxFuture<'_, Result<ReplicaId, ActuatorError>> {
        Box::pin(self.start_clone())
    }

    fn stop<'a>(&'a self, replica: &'a ReplicaId) -> BoxFuture<'a, Result<(), ActuatorError>> {
        Box::pin(self.stop_container(replica))
    }

    /// As of the last listing.
    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Containers outlive Foresail: the next one finds them by their labels.
    fn shutdown(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Whether a container is none of a service's whatever other labels it has: the lock, or one that
/// Compose has run for a single command.
fn is_foreign(labels: &HashMap<String, String>) -> bool {
    labels.contains_key(LOCK_LABEL)
        || labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True")
}

fn container(summary: ContainerSummary) -> Option<Container> {
    let name = summary.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
    Some(Container {
        id: summary.id?,
        name: name.trim_start_matches('/').to_owned(),
        state: summary.state?,
        created: summary.created.unwrap_or(0),
        clone: summary.labels?.contains_key(template::CLONE_LABEL),
    })
}

/// What clones are made from: the oldest of the user's own containers, else the oldest clone.
fn template_of(containers: &[Container]) -> Option<&Container> {
    containers.iter().find(|container| !container.clone).or_else(|| containers.first())
}

/// A stopped container of the user's is no replica: it may be stopped for a reason.
fn is_replica(container: &Container) -> bool {
    match container.state {
        State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING => true,
        State::CREATED | State::EXITED | State::DEAD => container.clone,
        State::REMOVING | State::EMPTY => false,
    }
}
