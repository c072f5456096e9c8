//! Pure: one replica, as the fleet knows it and as its actuator sees it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::elapsed;
use super::trial::{End, Trial};
use crate::series::Time;

/// Names one replica, as the actuator does (container id, process label).
pub type ReplicaId = String;

/// Where a replica is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Ordered, or not ready for another reason.
    Starting,
    /// Ready, its balancing weight still rising.
    Warming,
    Ready,
    /// Takes no new requests, finishes those in flight, then stops.
    Draining,
    /// Told to stop, not yet seen to have stopped.
    Gone,
}

/// One serving process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replica {
    #[schema(value_type = String)]
    pub id: ReplicaId,
    pub phase: Phase,
    /// Since when in this phase.
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    /// First seen, or ordered.
    #[schema(value_type = String, format = DateTime)]
    pub created: Time,
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    pub in_flight: u32,
    /// Started by Foresail; others are stopped last.
    pub managed: bool,
    /// Runs what its user has meanwhile replaced; the first to leave.
    #[serde(default)]
    pub outdated: bool,
}

impl Replica {
    /// Ready for requests, at full weight or on the way to it.
    pub fn serves(&self) -> bool {
        matches!(self.phase, Phase::Warming | Phase::Ready)
    }

    /// Counts towards the desired replicas.
    pub(super) fn counts(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Warming | Phase::Ready)
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Time) {
        (self.phase, self.since) = (phase, now);
    }

    pub(super) fn age(&self, now: Time) -> Duration {
        elapsed(self.since, now)
    }
}

/// What the actuator sees of one replica.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplicaReport {
    pub id: ReplicaId,
    pub ready: bool,
    pub address: Option<SocketAddr>,
    /// Made, but not started.
    pub created: bool,
    /// Seen to be stopping or stopped on its own.
    pub exited: bool,
    /// How it ended, where it has and the target tells.
    pub end: Option<End>,
    /// How often the target has restarted it.
    pub restarts: u32,
    /// How long it may take from being told to stop until it is killed.
    pub stop_grace: Duration,
    /// Started by Foresail.
    pub managed: bool,
    /// Of an older configuration than the newest that its user has deployed.
    pub outdated: bool,
}

/// A replica, and what only the fleet needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub replica: Replica,
    /// Its time to ready is still to be measured.
    pub measuring: bool,
    /// The target has listed it.
    pub listed: bool,
    /// As last reported.
    pub ready: bool,
    pub trial: Trial,
    /// It makes room for another try.
    pub failing: bool,
    /// As last reported.
    pub stop_grace: Duration,
}

impl Member {
    /// Draining, ready to serve again at once, and worth it: what is outdated is replaced instead.
    pub fn recoverable(&self) -> bool {
        let Replica { phase, outdated, .. } = self.replica;
        phase == Phase::Draining && self.ready && !self.failing && !outdated
    }
}

/// As people write container ids.
pub fn short(id: &str) -> &str {
    id.get(..12).filter(|_| id.len() == 64).unwrap_or(id)
}
