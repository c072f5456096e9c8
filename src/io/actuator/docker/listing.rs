//! I/O: what can be seen of a service's containers: which are replicas, and which of them are ready.

use std::net::IpAddr;
use std::sync::PoisonError;

use bollard::models::ContainerSummaryStateEnum as State;
use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::selection::{self, Container};
use super::{DockerActuator, compose, template};
use crate::fleet::ReplicaReport;
use crate::io::docker::EngineError;

/// Containers that are asked at the same time.
const CONCURRENCY: usize = 16;

impl DockerActuator {
    /// Every replica, with readiness checked; takes note of what stands in the way of more.
    pub(super) async fn reports(&self) -> Result<Vec<ReplicaReport>, EngineError> {
        let containers = self.selected().await?;
        let mut notes = match selection::template_of(&containers) {
            Some(template) => match self.inventory.inspect(&template.id).await {
                Ok(seen) => {
                    let obstacle = self.name_prefix(template).err();
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
        let outdated = |container: &Container| selection::is_outdated(&containers, container);
        let redeploying = selection::is_redeploying(&containers, Utc::now());
        let count = containers.iter().filter(|it| outdated(it)).count();
        notes.extend(compose::notes(&self.selection, redeploying, count));
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;

        self.readiness.retain(|id| containers.iter().any(|container| container.id == *id));
        let published_on = self.engine.published_on().await;
        let replicas = containers.iter().filter(|container| selection::is_replica(container));
        let reports =
            replicas.map(|container| self.report(container, outdated(container), published_on));
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
        let (ready, address, exited) = (false, None, false);
        let unready = ReplicaReport { id, ready, address, exited, managed, outdated };
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
        let published = template::address(&seen, self.port, published_on);
        // Another machine's containers may have the addresses of ours.
        let own = template::own_address(&seen, self.port).filter(|_| published_on.is_loopback());
        let health = template::healthy(&seen);
        let running = template::is_running(&seen);
        let answering = match published.filter(|_| running && health != Some(false)) {
            Some(published) => self.readiness.answering(&seen, published, own).await,
            None => None,
        };
        // Nothing to connect to: a worker without a port is as ready as it gets.
        let serves = answering.is_some() || template::port(&seen, self.port).is_none();
        let (ready, address) = (running && health.unwrap_or(serves), answering.or(published));
        Ok(Some(ReplicaReport { ready, address, ..unready }))
    }
}
