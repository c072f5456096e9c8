//! I/O: reads what every replica uses, and turns counters into samples.

pub mod docker;
pub mod meter;
pub mod process;

use futures_util::future::BoxFuture;

use crate::fleet::{Replica, ReplicaId};
use crate::series::Time;

/// Cumulative counters of one replica at one instant. Rates are made by differencing, so a missed
/// reading loses nothing and a counter that falls is a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub replica: ReplicaId,
    pub time: Time,
    /// CPU seconds used since the replica started.
    pub cpu_seconds_total: f64,
    pub memory_bytes: u64,
    /// Cores the replica may use, where a limit is set.
    pub cpu_limit: Option<f64>,
}

/// What one replica did over one sample interval that ends at `time`; a row of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub time: Time,
    pub replica: ReplicaId,
    /// CPU seconds per second.
    pub cpu_cores: f64,
    pub memory_bytes: u64,
    /// Requests answered in the interval.
    pub requests: u64,
    pub in_flight: u32,
}

/// Why readings failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetricsError {
    /// The whole source is gone (engine stopped, socket missing): nothing is known of any replica.
    #[error("{0}")]
    Unavailable(String),
}

/// Where readings come from. A trait because its implementations are real and several: processes,
/// Docker, …
pub trait MetricsSource: Send + Sync {
    /// Readings of the replicas that could be read; one unreadable replica is left out, never an
    /// error.
    fn read<'a>(
        &'a self,
        replicas: &'a [Replica],
    ) -> BoxFuture<'a, Result<Vec<Reading>, MetricsError>>;
}
