//! I/O: starts and stops replicas.

pub mod docker;
pub mod process;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::fleet::{ReplicaId, ReplicaReport};

/// Why a command failed, and whether trying again may help.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActuatorError {
    /// The engine does not answer; try again with back-off.
    #[error("{0}")]
    Unavailable(String),
    /// The engine refused this command; the same command will be refused again until somebody
    /// changes something.
    #[error("{0}")]
    Refused(String),
}

impl ActuatorError {
    /// One word, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            ActuatorError::Unavailable(_) => "unavailable",
            ActuatorError::Refused(_) => "refused",
        }
    }
}

/// What runs replicas. A trait because its implementations are real and several: processes, Docker,
/// …
pub trait Actuator: Send + Sync {
    /// Every replica of the service, with readiness checked.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ReplicaReport>, ActuatorError>>;
    /// Starts one replica and gives its id; does not wait for ready.
    fn start(&self) -> BoxFuture<'_, Result<ReplicaId, ActuatorError>>;
    /// Stops one replica: asks, waits the service's stop timeout, then kills; a replica that is
    /// gone is no error.
    fn stop<'a>(&'a self, replica: &'a ReplicaId) -> BoxFuture<'a, Result<(), ActuatorError>>;
    /// Notes for decisions, for instance that a container has no CPU limit. Empty if all is well.
    fn notes(&self) -> Vec<String>;
    /// Stops everything that this process started and must not outlive it, within `grace`.
    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, ()>;
}
