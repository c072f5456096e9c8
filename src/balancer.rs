//! Pure: chooses the replica for a request among those that are ready.
//!
//! Readers hold one immutable [`Snapshot`]; a writer swaps it whole. What changes with every
//! request (in flight, rotation) are counters inside it, carried over when the snapshot is
//! replaced.
//!
//! Draining is exact if the choice is made and counted ([`Target::begin`]) while the shared
//! snapshot is borrowed: once the writer has published a snapshot in which a replica is not ready,
//! no request can reach that replica which its `in_flight` does not already show. Then `in_flight
//! == 0` means drained.

mod ip_hash;
mod least_request;
mod random;
mod round_robin;
mod slow_start;
mod weighted_round_robin;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use self::ip_hash::Hashes;
use self::random::Weights;
pub use self::random::mix;
use self::round_robin::Rotation;
pub use self::slow_start::slow_start_weight;
use self::weighted_round_robin::Smooth;
use crate::fleet::ReplicaId;

/// How a replica is chosen. Closed: a new algorithm is a new variant and a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// One after the other; the only one that ignores weights.
    RoundRobin,
    /// Smooth weighted round robin, as nginx does.
    WeightedRoundRobin,
    /// The one with fewer requests in flight of two picked at random, by weight.
    #[default]
    LeastRequest,
    /// The same client reaches the same replica while that one is ready.
    IpHash,
    /// At random, by weight.
    Random,
}

/// The replicas at one instant, and the rotation among them.
#[derive(Debug)]
pub struct Snapshot {
    algorithm: Algorithm,
    /// The ready ones first.
    targets: Vec<Target>,
    ready: usize,
    weights: Weights,
    hashes: Hashes,
    rotation: Rotation,
    smooth: Smooth,
    offered: Arc<Offered>,
}

impl Snapshot {
    /// Counters and smooth weights are taken over from `before` by replica id, rotation and
    /// [`Offered`] as they are. A choice made on `before` after this call still counts its
    /// requests; only its turn is forgotten.
    pub fn new(
        algorithm: Algorithm,
        mut targets: Vec<Target>,
        before: Option<&Snapshot>,
    ) -> Snapshot {
        let known = |id: &ReplicaId| before?.targets.iter().find(|target| target.id == *id);
        for target in &mut targets {
            if let Some(known) = known(&target.id) {
                target.counters = Arc::clone(&known.counters);
            }
        }
        targets.sort_by_key(|target| !target.ready);
        let ready = targets.partition_point(|target| target.ready);
        Snapshot {
            algorithm,
            ready,
            weights: Weights::new(&targets[..ready]),
            hashes: Hashes::new(&targets[..ready]),
            rotation: before.map(|before| before.rotation.clone()).unwrap_or_default(),
            smooth: Smooth::new(&targets, before.map(|old| (&old.smooth, &old.targets[..]))),
            offered: before.map(|before| Arc::clone(&before.offered)).unwrap_or_default(),
            targets,
        }
    }

    /// The replica for one request; `random` is a fresh uniform draw. `None` if none is ready.
    pub fn pick(&self, key: Key, random: u64) -> Option<&Target> {
        let ready = self.ready();
        if ready.is_empty() {
            return None;
        }
        let index = match (self.algorithm, key.client) {
            (Algorithm::RoundRobin, _) => self.rotation.pick(ready.len()),
            (Algorithm::WeightedRoundRobin, _) => self.smooth.pick(ready),
            (Algorithm::LeastRequest, _) => least_request::pick(ready, &self.weights, random),
            (Algorithm::IpHash, Some(client)) => self.hashes.pick(ready, client),
            (Algorithm::IpHash, None) | (Algorithm::Random, _) => self.weights.draw(random),
        };
        ready.get(index)
    }

    /// A second choice for a request that failed at `failed`: any other ready replica, at random by
    /// weight. `None` if there is no other.
    pub fn pick_other(&self, failed: SocketAddr, random: u64) -> Option<&Target> {
        let ready = self.ready();
        match ready.iter().position(|target| target.address == failed) {
            Some(index) => ready.get(self.weights.draw_other(index, random)?),
            None => ready.get(self.weights.draw(random)),
        }
    }

    /// All replicas, the ready ones first.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Those that may take new requests.
    pub fn ready(&self) -> &[Target] {
        &self.targets[..self.ready]
    }

    /// The load that reached the balancer, whatever became of it.
    pub fn offered(&self) -> &Arc<Offered> {
        &self.offered
    }
}

/// One replica as the balancer sees it. Cheap to clone; clones share the counters.
#[derive(Debug, Clone)]
pub struct Target {
    pub id: ReplicaId,
    pub address: SocketAddr,
    /// 0.0 to 1.0; below 1.0 in slow start. Only ratios matter.
    pub weight: f64,
    /// Ready and not draining: may take new requests.
    pub ready: bool,
    pub counters: Arc<Counters>,
}

/// No weight is taken as smaller or larger than this, so that no sum of weights overflows and a
/// ready replica is never starved for good; whom to send nothing is said by `ready`. NaN counts as
/// the smallest.
const WEIGHTS: (f64, f64) = (1e-3, 1e6);

impl Target {
    /// Counts a request as in flight until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        self.counters.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(&self.counters))
    }

    fn share(&self) -> f64 {
        self.weight.max(WEIGHTS.0).min(WEIGHTS.1)
    }
}

/// What changes with every request.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests sent and unanswered; one counts until the last byte of its answer is passed on.
    pub in_flight: AtomicU32,
    /// Requests answered since the start.
    pub requests: AtomicU64,
    /// Requests that failed at the replica: not reached, broken off or too late. An answer with a
    /// status of 500 and above is an answer, not a failure.
    pub failures: AtomicU64,
}

/// One request in flight, from [`Target::begin`] to its drop.
#[derive(Debug)]
pub struct InFlight(Arc<Counters>);

impl InFlight {
    pub fn counters(&self) -> &Counters {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Load that reached the balancer, whatever became of it: demand that the replicas' CPU cannot show
/// once they are saturated or none is ready.
#[derive(Debug, Default)]
pub struct Offered {
    /// Requests that arrived since the start.
    pub arrived: AtomicU64,
    /// Requests that wait now for a ready replica.
    pub waiting: AtomicU32,
    /// Requests refused since the start because no replica became ready in time.
    pub refused: AtomicU64,
}

/// One request that waits for a ready replica, until dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Offered>);

impl Waiting {
    pub fn begin(offered: &Arc<Offered>) -> Waiting {
        offered.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(Arc::clone(offered))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the choice may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Key {
    pub client: Option<IpAddr>,
}

#[cfg(test)]
mod tests;
