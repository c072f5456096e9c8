//! Pure: the life cycle of replicas, and the commands that bring a fleet to its desired size.
//!
//! starting ▸ warming ▸ ready ▸ draining ▸ gone. [`Fleet::observe`] takes in what the actuator saw,
//! [`Fleet::reconcile`] answers with commands and performs none. A replica that leaves is first
//! drained, for at least one reconciliation, so that the balancer has stopped choosing it before it
//! is told to stop; if load returns meanwhile it is taken back instead of starting another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

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
}

impl Replica {
    /// Ready for requests, at full weight or on the way to it.
    pub fn serves(&self) -> bool {
        matches!(self.phase, Phase::Warming | Phase::Ready)
    }

    /// Counts towards the desired replicas.
    fn counts(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Warming | Phase::Ready)
    }

    fn enter(&mut self, phase: Phase, now: Time) {
        (self.phase, self.since) = (phase, now);
    }

    fn age(&self, now: Time) -> Duration {
        elapsed(self.since, now)
    }
}

/// What the actuator sees of one replica.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaReport {
    pub id: ReplicaId,
    pub ready: bool,
    pub address: Option<SocketAddr>,
    /// Seen to be stopping or stopped on its own.
    pub exited: bool,
    /// Started by Foresail.
    pub managed: bool,
}

/// One thing for the actuator to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    Start {
        count: u32,
    },
    /// Stop now: drained, or never became ready.
    Stop {
        replica: ReplicaId,
    },
}

/// Limits of the life cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetSettings {
    /// Balancing weight rises to 100 % over this time after ready.
    pub slow_start: Duration,
    /// Longest wait for requests in flight before a draining replica is stopped anyway.
    pub drain_timeout: Duration,
    /// A replica that is not ready this long after its start is stopped and replaced.
    pub start_timeout: Duration,
}

/// All replicas of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    settings: FleetSettings,
    replicas: BTreeMap<ReplicaId, Replica>,
    /// When each start was ordered whose replica has no name yet, oldest first.
    ordered: Vec<Time>,
    /// Those whose time to ready is still to be measured.
    measuring: BTreeSet<ReplicaId>,
    startup_delays: Vec<Duration>,
}

impl Fleet {
    pub fn new(settings: FleetSettings) -> Fleet {
        Fleet {
            settings,
            replicas: BTreeMap::new(),
            ordered: Vec::new(),
            measuring: BTreeSet::new(),
            startup_delays: Vec::new(),
        }
    }

    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    /// Replicas that serve: warming and ready.
    pub fn ready_replicas(&self) -> u32 {
        self.replicas.values().filter(|r| r.serves()).count() as u32
    }

    /// Ordered, starting, warming and ready.
    pub fn current_replicas(&self) -> u32 {
        (self.replicas.values().filter(|r| r.counts()).count() + self.ordered.len()) as u32
    }

    /// Times from order to ready, measured since the last call.
    pub fn take_startup_delays(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.startup_delays)
    }

    /// Takes in what the actuator sees. `in_flight` tells the requests in flight of a replica.
    pub fn observe(
        &mut self,
        now: Time,
        reports: &[ReplicaReport],
        in_flight: impl Fn(&str) -> u32,
    ) {
        self.replicas.retain(|id, _| reports.iter().any(|r| r.id == *id && !r.exited));
        self.measuring.retain(|id| self.replicas.contains_key(id));
        for report in reports.iter().filter(|r| !r.exited) {
            if !self.replicas.contains_key(&report.id) {
                self.meet(now, report);
            }
            let Some(replica) = self.replicas.get_mut(&report.id) else { continue };
            replica.address = report.address;
            replica.in_flight = in_flight(&report.id);
            match (replica.phase, report.ready) {
                (Phase::Starting, true) => {
                    if self.measuring.remove(&report.id) {
                        self.startup_delays.push(elapsed(replica.created, now));
                    }
                    replica.enter(Phase::Warming, now);
                }
                // Lost its readiness: no requests until it is back, and its way back is no startup.
                (Phase::Warming | Phase::Ready, false) => replica.enter(Phase::Starting, now),
                _ => {}
            }
            if replica.phase == Phase::Warming && replica.age(now) >= self.settings.slow_start {
                replica.enter(Phase::Ready, now);
            }
        }
    }

    /// A replica seen for the first time: one that was ordered, or one that was there before us.
    fn meet(&mut self, now: Time, report: &ReplicaReport) {
        let ordered = (!self.ordered.is_empty()).then(|| self.ordered.remove(0));
        let replica = Replica {
            id: report.id.clone(),
            phase: if report.ready && ordered.is_none() { Phase::Ready } else { Phase::Starting },
            since: now,
            created: ordered.unwrap_or(now),
            address: report.address,
            in_flight: 0,
            managed: report.managed,
        };
        if ordered.is_some() {
            self.measuring.insert(report.id.clone());
        }
        self.replicas.insert(report.id.clone(), replica);
    }

    /// The actuator gave a name to the start ordered at `ordered`.
    pub fn started(&mut self, ordered: Time, now: Time, id: ReplicaId) {
        if self.replicas.contains_key(&id) {
            return;
        }
        self.start_failed(ordered);
        let replica = Replica {
            id: id.clone(),
            phase: Phase::Starting,
            since: now,
            created: ordered,
            address: None,
            in_flight: 0,
            managed: true,
        };
        self.measuring.insert(id.clone());
        self.replicas.insert(id, replica);
    }

    /// The start ordered at `ordered` came to nothing.
    pub fn start_failed(&mut self, ordered: Time) {
        if let Some(i) = self.ordered.iter().position(|&t| t == ordered) {
            self.ordered.remove(i);
        }
    }

    /// The stop of `id` failed: it is tried again at the next reconciliation.
    pub fn stop_failed(&mut self, id: &str, now: Time) {
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.enter(Phase::Draining, now);
        }
    }

    /// Commands that bring the fleet towards `desired` replicas. Starts are counted as ordered at
    /// `now`.
    pub fn reconcile(&mut self, now: Time, desired: u32) -> Vec<Command> {
        let mut commands = self.stop_drained(now);
        self.stop_overdue(now, &mut commands);
        let current = self.current_replicas();
        if current < desired {
            let missing = desired - current;
            let count = missing - self.take_back(now, missing);
            if count > 0 {
                self.ordered.extend(std::iter::repeat_n(now, count as usize));
                commands.push(Command::Start { count });
            }
        } else {
            self.release(now, current - desired, &mut commands);
        }
        commands
    }

    fn stop_drained(&mut self, now: Time) -> Vec<Command> {
        let timeout = self.settings.drain_timeout;
        let over = |r: &&mut Replica| {
            r.phase == Phase::Draining
                && r.since < now
                && (r.in_flight == 0 || r.age(now) >= timeout)
        };
        let stop = |r: &mut Replica| {
            r.enter(Phase::Gone, now);
            Command::Stop { replica: r.id.clone() }
        };
        self.replicas.values_mut().filter(over).map(stop).collect()
    }

    /// Replicas that we started and that never became ready make room for another try.
    fn stop_overdue(&mut self, now: Time, commands: &mut Vec<Command>) {
        let timeout = self.settings.start_timeout;
        for replica in self.replicas.values_mut() {
            let overdue = replica.phase == Phase::Starting && replica.age(now) >= timeout;
            if overdue && replica.managed {
                replica.enter(Phase::Gone, now);
                commands.push(Command::Stop { replica: replica.id.clone() });
            }
        }
    }

    /// Takes all draining replicas back into service: nobody is going to stop them.
    pub fn keep_draining(&mut self, now: Time) {
        self.take_back(now, u32::MAX);
    }

    /// Takes up to `count` draining replicas back into service, those longest in service first.
    fn take_back(&mut self, now: Time, count: u32) -> u32 {
        let mut draining: Vec<&mut Replica> =
            self.replicas.values_mut().filter(|r| r.phase == Phase::Draining).collect();
        draining.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        let taken = draining.into_iter().take(count as usize);
        taken.map(|r| r.enter(Phase::Ready, now)).count() as u32
    }

    /// Lets `count` replicas go: those still starting first (nobody waits for them), then those of
    /// ours before others', the idle before the busy, the youngest first.
    fn release(&mut self, now: Time, count: u32, commands: &mut Vec<Command>) {
        let mut leaving: Vec<&mut Replica> =
            self.replicas.values_mut().filter(|r| r.counts()).collect();
        leaving.sort_by_key(|r| {
            let age_rank = std::cmp::Reverse(r.created);
            (r.phase != Phase::Starting, !r.managed, r.in_flight, age_rank, r.id.clone())
        });
        for replica in leaving.into_iter().take(count as usize) {
            if replica.phase == Phase::Starting {
                replica.enter(Phase::Gone, now);
                commands.push(Command::Stop { replica: replica.id.clone() });
            } else {
                replica.enter(Phase::Draining, now);
            }
        }
    }
}

/// Time from `from` to `to`, zero if it is negative (a clock that was set back).
fn elapsed(from: Time, to: Time) -> Duration {
    to.signed_duration_since(from).max(TimeDelta::zero()).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests;
