//! I/O: starts a replica: a clone of the template, under a name and in networks as of its siblings.

use bollard::models::{
    ContainerInspectResponse, ContainerSummaryStateEnum as State, NetworkConnectRequest,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};

use super::selection::{self, Container, Selection};
use super::{DockerActuator, compose, template};
use crate::fleet::ReplicaId;
use crate::io::actuator::ActuatorError;
use crate::io::docker::{CHANGE_PATIENCE, EngineError, PATIENCE};

impl DockerActuator {
    pub(super) async fn start_clone(&self) -> Result<ReplicaId, ActuatorError> {
        let _turn = self.engine.turn_to_start().await;
        let containers = self.selected().await?;
        self.check_settled(&containers)?;
        let template = selection::template_of(&containers)
            .ok_or_else(|| ActuatorError::Refused(self.selection.nothing_to_clone()))?;
        let prefix = self.selection.name_prefix(&self.service, template);
        let prefix = prefix.map_err(ActuatorError::Refused)?;
        let seen = self.inspect(&template.id).await?;
        let image = self.image_of(&seen).await?;
        let blueprint = template::blueprint(&seen, &image).map_err(ActuatorError::Refused)?;
        self.remove_exited(&containers).await?;
        let (id, name) = self.create(&blueprint, &prefix, &containers).await?;

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

    /// Makes the container under the first free name, prefix and number; gives id and name.
    async fn create(
        &self,
        blueprint: &template::Blueprint,
        prefix: &str,
        siblings: &[Container],
    ) -> Result<(String, String), EngineError> {
        // A name can be taken by a foreign container, or by a start at the same moment.
        const ATTEMPTS: u32 = 20;
        let is_compose = matches!(self.selection, Selection::Compose { .. });
        let named = |sibling: &Container| sibling.name.strip_prefix(prefix)?.parse::<u32>().ok();
        let next = match is_compose {
            true => compose::next_number(siblings),
            false => siblings.iter().filter_map(named).max().unwrap_or(0).saturating_add(1),
        };
        let docker = self.engine.docker()?;
        let mut attempt = 0;
        loop {
            // In growing steps, past many that others may have taken.
            let number = next.saturating_add((1_u32 << attempt) - 1);
            let name = format!("{prefix}{number}");
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let mut body = blueprint.body.clone();
            if is_compose {
                compose::number(&mut body, number);
            }
            let request = docker.create_container(Some(options), body);
            match self.engine.call(CHANGE_PATIENCE, request).await {
                Ok(created) => return Ok((created.id, name)),
                Err(EngineError::Conflict(_)) if attempt + 1 < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a clone that did not start, and says why it did not.
    async fn give_up(&self, id: &str, name: &str, error: EngineError) -> ActuatorError {
        let removed = self.remove(id, true).await;
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
            self.remove(&container.id, true).await?;
        }
        Ok(())
    }
}
