//! Pure: chooses the replica for a request among those that are ready.
//!
//! Readers hold one immutable [`Snapshot`]; a writer swaps it whole. What changes with every
//! request (in flight, latency, turns) is in atomics, carried over when the snapshot is replaced,
//! so nobody waits for anybody. Time is the time since any fixed start on a clock that never goes
//! back.
//!
//! Draining is exact if the choice is made and counted ([`Snapshot::take`], or [`Target::begin`])
//! while the shared snapshot is borrowed: once the writer has published a snapshot in which a
//! replica is not ready, no request can reach that replica which its `in_flight` does not already
//! show. Then `in_flight == 0` means drained.

mod choice;
mod consistent_hash;
mod counters;
mod explain;
mod health;
mod histogram;
mod key;
mod latency;
mod least_request;
mod peak_ewma;
mod random;
mod retry_budget;
mod room;
mod routes;
mod slow_start;
mod smooth;
mod standing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

pub use self::counters::{Counters, InFlight, Offered, Outcome, OutcomeKind, Waiting};
pub use self::explain::{Because, Candidate, Explanation, PassedOver};
pub use self::health::{Check, Ejection, Health, HealthView};
pub use self::key::{Key, KeySource, Session, cookie};
pub use self::random::{STRIDE, hash, mix};
pub use self::retry_budget::RetryBudget;
pub use self::routes::{Route, RouteError, Routes};
pub use self::slow_start::slow_start_weight;
pub use self::standing::Standing;

use self::consistent_hash::Table;
use self::random::Weights;
use self::room::{Place, Places, Room};
use self::smooth::Smooth;
use crate::fleet::ReplicaId;

/// How a replica is chosen. Closed: a new algorithm is a new variant and a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// One after the other, whatever their weights.
    RoundRobin,
    /// Smooth weighted round robin, as nginx does.
    WeightedRoundRobin,
    /// The one with fewer requests in flight of two picked at random, by weight.
    #[default]
    LeastRequest,
    /// The one with the lower latency × (requests in flight + 1) of two picked at random, by
    /// weight.
    PeakEwma,
    /// The first one that has room, whatever the weights, so that the last ones fall idle.
    FirstFit,
    /// The same client reaches the same replica while that one is ready.
    IpHash,
    /// The same key reaches the same replica while that one is ready.
    KeyHash,
    /// At random, by weight.
    Random,
}

/// What holds for all choices of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub algorithm: Algorithm,
    /// Most requests in flight at one replica.
    pub max_in_flight: Option<u32>,
    /// If less than this share of the ready replicas is healthy, health is ignored: better all of
    /// them with errors than the few healthy ones crushed.
    pub panic_threshold: f64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::from(Algorithm::default())
    }
}

impl From<Algorithm> for Rules {
    fn from(algorithm: Algorithm) -> Rules {
        Rules { algorithm, max_in_flight: None, panic_threshold: 0.5 }
    }
}

/// The replicas at one instant.
#[derive(Debug)]
pub struct Snapshot {
    rules: Rules,
    /// The eligible ones first, then the ready ones.
    targets: Vec<Target>,
    eligible: usize,
    /// Of the eligible ones, what choices look at, close together.
    loads: Box<[Load]>,
    weights: Weights,
    /// Of the hashes alone.
    table: Option<Arc<Table>>,
    /// Of smooth weighted round robin alone.
    smooth: Smooth,
    turn: AtomicU64,
    /// Latency of the slowest one in seconds, at least 0.1: by it an error is dear.
    slowest: f32,
    room: Arc<Room>,
    places: Places,
    /// Index of each eligible target, by its session.
    sessions: Vec<(Session, u32)>,
    offered: Arc<Offered>,
}

impl Snapshot {
    /// Counters are taken over from `before` by replica id, turns, [`Offered`] and the limit of
    /// requests in flight as they are. A choice made on `before` after this call still counts its
    /// requests; only its turn is forgotten.
    pub fn new(
        rules: impl Into<Rules>,
        mut targets: Vec<Target>,
        before: Option<&Snapshot>,
    ) -> Snapshot {
        let rules = rules.into();
        let room = before.map(|before| Arc::clone(&before.room));
        let room = room.unwrap_or_else(|| Room::new(rules.max_in_flight));
        take_over(&mut targets, before.map(|before| &before.targets[..]), &room);

        let healthy = targets.iter().filter(|t| t.ready && t.healthy).count();
        let ready = targets.iter().filter(|target| target.ready).count();
        let panic = (healthy as f64) < rules.panic_threshold * ready as f64;
        let eligible = |target: &Target| target.ready && (target.healthy || panic);
        targets.sort_by_key(|target| (!eligible(target), !target.ready));
        let count = targets.iter().filter(|target| eligible(target)).count();

        let chosen = &targets[..count];
        let hashes = matches!(rules.algorithm, Algorithm::IpHash | Algorithm::KeyHash);
        let table =
            hashes.then(|| Table::new(chosen, before.and_then(|before| before.table.as_ref())));
        let smooth = if rules.algorithm == Algorithm::WeightedRoundRobin {
            Smooth::new(chosen, before.map(|before| &before.smooth))
        } else {
            Smooth::default()
        };
        let turn = before.map_or(0, |before| before.turn.load(Ordering::Relaxed));
        let session = |(i, target): (usize, &Target)| (target.session(), i as u32);
        let mut sessions: Vec<(Session, u32)> = chosen.iter().enumerate().map(session).collect();
        sessions.sort_unstable();
        Snapshot {
            rules,
            eligible: count,
            loads: chosen.iter().map(Load::new).collect(),
            weights: Weights::new(chosen),
            table,
            smooth,
            turn: AtomicU64::new(turn),
            slowest: chosen.iter().map(|t| t.counters.latency.last()).fold(0.1, f32::max),
            places: Places::new(chosen),
            room,
            sessions,
            offered: before.map(|before| Arc::clone(&before.offered)).unwrap_or_default(),
            targets,
        }
    }

    /// All replicas, those that may be chosen first.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Those that may be chosen for new requests, room or not.
    pub fn ready(&self) -> &[Target] {
        &self.targets[..self.eligible]
    }

    /// Whether so few are healthy that health is ignored.
    pub fn panics(&self) -> bool {
        self.ready().iter().any(|target| !target.healthy)
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The load that reached the balancer, whatever became of it.
    pub fn offered(&self) -> &Arc<Offered> {
        &self.offered
    }
}

/// Gives every target its counters: those of the same replica in `before`, else new ones in the
/// lowest free place.
fn take_over(targets: &mut [Target], before: Option<&[Target]>, room: &Arc<Room>) {
    let before: std::collections::HashMap<&ReplicaId, &Target> =
        before.unwrap_or_default().iter().map(|target| (&target.id, target)).collect();
    let mut taken = std::collections::BTreeSet::new();
    let mut new = Vec::new();
    for target in targets {
        match before.get(&target.id) {
            Some(known) => {
                target.counters = Arc::clone(&known.counters);
                taken.insert(known.counters.place.number());
            }
            None => new.push(target),
        }
    }
    let mut places = (0..).filter(|place| !taken.contains(place));
    for target in new {
        let place = places.next().map(|number| Place::new(room, number)).unwrap_or_default();
        target.counters = Arc::new(Counters::at(place));
    }
}

/// One replica as the balancer sees it. Cheap to clone; clones share the counters.
#[derive(Debug, Clone)]
pub struct Target {
    pub id: ReplicaId,
    pub address: SocketAddr,
    /// Above 0; less in slow start. Only ratios matter.
    pub weight: f64,
    /// Started and not draining: may take new requests.
    pub ready: bool,
    /// Neither ejected nor failing its checks.
    pub healthy: bool,
    /// Given by [`Snapshot::new`].
    pub counters: Arc<Counters>,
}

/// What choices look at.
#[derive(Debug)]
struct Load {
    counters: Arc<Counters>,
    inverse_share: f64,
}

impl Load {
    fn new(target: &Target) -> Load {
        Load { counters: Arc::clone(&target.counters), inverse_share: 1.0 / target.share() }
    }

    fn in_flight(&self) -> u32 {
        self.counters.in_flight.load(Ordering::Acquire)
    }
}

/// No weight is taken as smaller or larger than this, so that no sum of weights overflows and a
/// ready replica is never starved for good; whom to send nothing is said by `ready`. NaN counts as
/// the smallest.
const WEIGHTS: (f64, f64) = (1e-3, 1e6);

impl Target {
    /// Ready and healthy, at full weight, without counters.
    pub fn new(id: impl Into<ReplicaId>, address: SocketAddr) -> Target {
        Target {
            id: id.into(),
            address,
            weight: 1.0,
            ready: true,
            healthy: true,
            counters: Arc::default(),
        }
    }

    /// Counts a request as in flight until the guard is dropped, whatever the limit.
    pub fn begin(&self) -> InFlight {
        InFlight::begin(&self.counters)
    }

    /// Names this replica in a client's cookie.
    pub fn session(&self) -> Session {
        Session::of(&self.id)
    }

    fn share(&self) -> f64 {
        self.weight.max(WEIGHTS.0).min(WEIGHTS.1)
    }
}

#[cfg(test)]
mod tests;
