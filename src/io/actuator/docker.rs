//! I/O: replicas are the containers of one Docker engine that carry the service's label, or belong
//! to one service of a Compose project.
//!
//! A new replica is a clone of a container that the user started: of the oldest such, also if it is
//! stopped. Clones carry one label more ([`template::CLONE_LABEL`]) and are removed when they are
//! stopped; the user's own containers are only stopped. Of a Compose service the user's own are
//! removed, too, as `up --scale` does, except for the last one, which is what a later clone is made
//! from. Other containers are never touched. All state is in the labels, so a restarted Foresail
//! goes on where it was.
//!
//! Known limits: the template's image must still be on the engine. Clones get addresses and volumes
//! of their own where the template has none that its user named; files that Compose has copied into
//! a container are not in its clone. A change of the template reaches later clones only.

mod compose;
mod readiness;
mod selection;
mod start;
mod template;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum as State};
use bollard::query_parameters::{
    InspectContainerOptions, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use chrono::Utc;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Actuator, ActuatorError};
use crate::config::{ComposeTarget, DockerTarget};
use crate::fleet::{ReplicaId, ReplicaReport};
use crate::io::docker::inventory::Inventory;
use crate::io::docker::{CHANGE_PATIENCE, Engine, EngineError, PATIENCE};

use self::readiness::Readiness;
use self::selection::Container;
pub use self::selection::Selection;
pub use self::template::{CLONE_LABEL, cpu_limit, is_running};

/// Containers that are asked at the same time.
const CONCURRENCY: usize = 16;

/// The containers of one service.
#[derive(Debug)]
pub struct DockerActuator {
    /// What the names of clones begin with, unless Compose has its own.
    service: String,
    selection: Selection,
    port: Option<u16>,
    stop_timeout: Option<Duration>,
    engine: Engine,
    inventory: Inventory,
    readiness: Readiness,
    notes: Mutex<Vec<String>>,
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
        let selection = Selection::Label(target.label.clone());
        let DockerTarget { port, stop_timeout, .. } = target;
        Ok(DockerActuator::new(inventory, service, selection, *port, *stop_timeout))
    }

    /// The replicas of one service of a Compose project.
    pub fn compose(inventory: Inventory, target: &ComposeTarget) -> DockerActuator {
        let ComposeTarget { service, port, stop_timeout, .. } = target;
        DockerActuator::new(inventory, service, target.into(), *port, *stop_timeout)
    }

    fn new(
        inventory: Inventory,
        service: &str,
        selection: Selection,
        port: Option<u16>,
        stop_timeout: Option<Duration>,
    ) -> DockerActuator {
        DockerActuator {
            service: service.to_owned(),
            selection,
            port,
            stop_timeout,
            engine: inventory.engine().clone(),
            inventory,
            readiness: Readiness::default(),
            notes: Mutex::default(),
        }
    }

    /// Every container of the service, in any state; oldest first.
    async fn selected(&self) -> Result<Vec<Container>, EngineError> {
        let found = self.inventory.labelled(&self.selection.labels()[0]).await?;
        let mut containers = found
            .into_iter()
            .filter_map(|summary| self.selection.container(summary))
            .collect::<Vec<_>>();
        // Within one second the numbers of the names tell; a longer number is a higher one.
        let age = |c: &Container| (c.created, c.name.len(), c.name.clone());
        containers.sort_by_cached_key(age);
        Ok(containers)
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        let docker = self.engine.docker()?;
        let request = docker.inspect_container(id, None::<InspectContainerOptions>);
        self.engine.call(PATIENCE, request).await
    }

    async fn reports(&self) -> Result<Vec<ReplicaReport>, EngineError> {
        let containers = self.selected().await?;
        let mut notes = match selection::template_of(&containers) {
            Some(template) => match self.inventory.inspect(&template.id).await {
                Ok(seen) => {
                    let obstacle = self.selection.name_prefix(&self.service, template).err();
                    obstacle.into_iter().chain(template::notes(&seen, self.port)).collect()
                }
                Err(EngineError::Unavailable(reason)) => {
                    return Err(EngineError::Unavailable(reason));
                }
                // It is being removed; the next listing shows what is left.
                Err(_) => Vec::new(),
            },
            None => vec![self.selection.nothing_to_clone()],
        };
        let redeploying = selection::is_redeploying(&containers, Utc::now());
        let old = |container: &Container| selection::is_outdated(&containers, container);
        let count = containers.iter().filter(|it| old(it)).count();
        notes.extend(compose::notes(&self.selection, redeploying, count));
        // Who is about to be replaced by its user is not replaced by us.
        let outdated = |container: &Container| !redeploying && old(container);
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;

        self.readiness.retain(|id| containers.iter().any(|container| container.id == *id));
        let published_on = self.engine.published_on().await;
        let replicas = containers.iter().filter(|container| selection::is_replica(container));
        let reports = replicas.map(|it| self.report(it, outdated(it), published_on));
        // Collected first: the compiler cannot prove a lazy chain of them to be `Send`.
        let reports = stream::iter(reports.collect::<Vec<_>>());
        let reports = reports.buffered(CONCURRENCY).try_collect::<Vec<_>>().await?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// `None` if the container has gone since it was listed.
    async fn report(
        &self,
        container: &Container,
        outdated: bool,
        published_on: IpAddr,
    ) -> Result<Option<ReplicaReport>, EngineError> {
        let (id, managed) = (container.id.clone(), container.clone);
        let unready = ReplicaReport { id, managed, outdated, ..ReplicaReport::default() };
        if container.state == State::CREATED {
            return Ok(Some(ReplicaReport { created: true, ..unready }));
        }
        let seen = match self.inventory.inspect(&unready.id).await {
            Ok(seen) => seen,
            Err(EngineError::Missing(_)) => return Ok(None),
            Err(EngineError::Unavailable(reason)) => return Err(EngineError::Unavailable(reason)),
            Err(_) => return Ok(Some(unready)),
        };
        let (restarts, end) = (template::restarts(&seen), template::end(&seen));
        let stop_grace = self.stop_grace(&seen);
        let unready = ReplicaReport { restarts, end, stop_grace, ..unready };
        if matches!(container.state, State::EXITED | State::DEAD) {
            return Ok(Some(ReplicaReport { exited: true, ..unready }));
        }
        let published = template::address(&seen, self.port, published_on);
        // Another machine's containers may have the addresses of ours.
        let own = template::own_address(&seen, self.port).filter(|_| published_on.is_loopback());
        let health = template::healthy(&seen);
        let running = template::is_running(&seen);
        let answering = match published.filter(|_| running && health != Some(false)) {
            Some(published) => self.readiness.of(&seen, published, own).await,
            None => None,
        };
        // Nothing to connect to: a worker without a port is as ready as it gets.
        let serves = answering.is_some() || template::port(&seen, self.port).is_none();
        let (ready, address) = (running && health.unwrap_or(serves), answering.or(published));
        Ok(Some(ReplicaReport { ready, address, ..unready }))
    }

    /// Removes a container, and its anonymous `volumes`; one that is gone, or going, is no error.
    async fn remove(&self, id: &str, volumes: bool) -> Result<(), EngineError> {
        let docker = self.engine.docker()?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(volumes).build();
        match self.engine.call(CHANGE_PATIENCE, docker.remove_container(id, Some(options))).await {
            Err(EngineError::Missing(_) | EngineError::Conflict(_)) => Ok(()),
            result => result,
        }
    }

    async fn stop_container(&self, id: &str) -> Result<(), ActuatorError> {
        let _turn = self.engine.turn_to_stop().await;
        let seen = match self.inspect(id).await {
            Err(EngineError::Missing(_)) => return Ok(()),
            seen => seen?,
        };
        let labels = seen.config.as_ref().and_then(|config| config.labels.as_ref());
        if !self.selection.includes(labels) {
            let (name, selection) = (template::name(&seen), &self.selection);
            let reason = format!("container {name} does not belong to {selection}: left alone");
            return Err(ActuatorError::Refused(reason));
        }
        let clone = labels.is_some_and(|labels| labels.contains_key(template::CLONE_LABEL));
        let goes = match self.selection {
            Selection::Label(_) => clone,
            Selection::Compose { .. } => {
                let containers = self.selected().await?;
                self.check_settled(&containers)?;
                selection::can_be_spared(&containers, id)
            }
        };

        let grace = self.stop_grace(&seen);
        let mut options = StopContainerOptionsBuilder::new();
        // Without a grace of ours the engine knows the container's own.
        if self.stop_timeout.is_some() {
            options = options.t(grace.as_secs() as i32);
        }
        let docker = self.engine.docker()?;
        let patience = CHANGE_PATIENCE + grace;
        match self.engine.call(patience, docker.stop_container(id, Some(options.build()))).await {
            Ok(()) | Err(EngineError::Missing(_) | EngineError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if goes {
            // What the user's own container has in its volumes is the user's.
            self.remove(id, clone).await?;
        }
        Ok(())
    }

    /// Time between its stop signal and SIGKILL: ours, else the container's own. Whole seconds,
    /// rounded up: with 0 the engine would kill at once.
    fn stop_grace(&self, seen: &ContainerInspectResponse) -> Duration {
        let Some(grace) = self.stop_timeout else { return template::stop_timeout(seen) };
        Duration::from_secs(grace.as_millis().div_ceil(1000).clamp(1, 86_400) as u64)
    }

    fn check_settled(&self, containers: &[Container]) -> Result<(), ActuatorError> {
        match selection::is_redeploying(containers, Utc::now()) {
            true => Err(ActuatorError::Unavailable(compose::under_way(&self.selection))),
            false => Ok(()),
        }
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
