//! Pure: the life cycle of replicas, and the commands that bring a fleet to its desired size.
//!
//! starting ▸ warming ▸ ready ▸ draining ▸ gone. [`Fleet::observe`] takes in what the actuator saw,
//! [`Fleet::reconcile`] answers with commands and performs none. A replica that leaves is first
//! drained, for at least one reconciliation, so that the balancer has stopped choosing it before it
//! is told to stop; if load returns meanwhile it is taken back instead of starting another.

mod leftovers;
mod reconcile;
mod replica;
mod trial;
pub mod yielding;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::series::Time;
use leftovers::Leftovers;
use replica::Member;
pub use replica::{Phase, Replica, ReplicaId, ReplicaReport, short};
pub use trial::{End, Failure};
use trial::{Trial, Verdict};

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
    /// So long the count is left alone after somebody else has changed it.
    pub yield_for: Duration,
}

/// All replicas of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    settings: FleetSettings,
    members: BTreeMap<ReplicaId, Member>,
    /// When each start was ordered whose replica has no name yet, oldest first.
    ordered: Vec<Time>,
    leftovers: Leftovers,
    /// Since when the target could be read without a break.
    in_sight: Option<Time>,
    startup_delays: Vec<Duration>,
    failures: Vec<(ReplicaId, Failure)>,
    changes: Vec<String>,
}

/// So long after a replica that was told to stop has to be gone, it is.
const MARGIN: Duration = Duration::from_secs(5);

/// And so long at least nobody knows what was under way: Docker gives a container 10 s to stop.
const CLEAR_AFTER: Duration = Duration::from_secs(15);

/// A target may list a replica that it has just started a little late.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

impl Fleet {
    pub fn new(settings: FleetSettings) -> Fleet {
        Fleet {
            settings,
            members: BTreeMap::new(),
            ordered: Vec::new(),
            leftovers: Leftovers::default(),
            in_sight: None,
            startup_delays: Vec::new(),
            failures: Vec::new(),
            changes: Vec::new(),
        }
    }

    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.members.values().map(|member| &member.replica)
    }

    /// Replicas that serve: warming and ready.
    pub fn ready_replicas(&self) -> u32 {
        self.replicas().filter(|r| r.serves()).count() as u32
    }

    /// Ordered, starting, warming and ready.
    pub fn current_replicas(&self) -> u32 {
        (self.replicas().filter(|r| r.counts()).count() + self.ordered.len()) as u32
    }

    /// Draining replicas that could be taken back.
    pub fn recoverable_replicas(&self) -> u32 {
        self.members.values().filter(|member| member.recoverable()).count() as u32
    }

    /// Times from order to ready, measured since the last call.
    pub fn take_startup_delays(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.startup_delays)
    }

    /// Starts that came to nothing after all, since the last call.
    pub fn take_failures(&mut self) -> Vec<(ReplicaId, Failure)> {
        std::mem::take(&mut self.failures)
    }

    /// What somebody else did to the count since the last call, one sentence each.
    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }

    /// The target cannot be read. What will have changed when it can is nobody's doing that we
    /// could tell: an engine that restarts stops its containers.
    pub fn lose_sight(&mut self) {
        self.in_sight = None;
    }

    /// Whether all that was under way when Foresail was killed, or its target went away, has come
    /// to its end, so that what changes now is somebody else's doing if it is not ours.
    pub fn sees_clearly(&self, now: Time) -> bool {
        let graces = self.members.values().map(|member| member.stop_grace);
        let clear_after = graces.max().map_or(CLEAR_AFTER, |grace| CLEAR_AFTER.max(grace + MARGIN));
        self.in_sight.is_some_and(|since| elapsed(since, now) >= clear_after)
    }

    /// Takes in what the actuator sees. `in_flight` tells the requests in flight of a replica.
    pub fn observe(
        &mut self,
        now: Time,
        reports: &[ReplicaReport],
        in_flight: impl Fn(&str) -> u32,
    ) {
        self.forget_unlisted(now, reports);
        for report in reports {
            let id = &report.id;
            if report.exited {
                self.bury(now, report);
            } else if report.created && !self.members.contains_key(id) {
                self.pass_over(report);
            } else if !self.leftovers.were_told(id) {
                self.look_at(now, report, in_flight(id));
            }
        }
        self.in_sight.get_or_insert(now);
    }

    fn forget_unlisted(&mut self, now: Time, reports: &[ReplicaReport]) {
        let listed: BTreeSet<&str> = reports.iter().map(|r| r.id.as_str()).collect();
        self.leftovers.retain(&listed);
        let unlisted = |id: &ReplicaId, member: &mut Member| {
            let awaited = !member.listed && member.replica.age(now) < LISTED_WITHIN;
            !awaited && !listed.contains(id.as_str())
        };
        let gone: Vec<_> = self.members.extract_if(.., unlisted).collect();
        for (_, member) in gone {
            let verdict = member.trial.removed();
            self.lose(now, &member, verdict, "removed");
        }
    }

    /// A replica has ended.
    fn bury(&mut self, now: Time, report: &ReplicaReport) {
        let stopped = report.end.is_some_and(End::may_be_asked_for);
        if report.managed && stopped && !self.sees_clearly(now) {
            self.leftovers.add(report);
        }
        if let Some(member) = self.members.remove(&report.id) {
            let verdict = member.trial.ended(report.end);
            self.lose(now, &member, verdict, "stopped");
        }
    }

    /// A replica is gone. If Foresail did not ask for that, it means something; but a Foresail that
    /// was killed may have asked for it.
    fn lose(&mut self, now: Time, member: &Member, verdict: Verdict, how: &str) {
        let (id, clear) = (&member.replica.id, self.sees_clearly(now));
        if self.in_sight.is_none() || !member.replica.counts() {
            return;
        }
        match verdict {
            Verdict::Stopped if clear => {
                self.changes.push(format!("replica {} was {how} by somebody else", short(id)));
            }
            Verdict::Failed(failure) if member.replica.managed && (clear || member.measuring) => {
                self.failures.push((id.clone(), failure));
            }
            _ => {}
        }
    }

    /// A container that waits to be started belongs to a start of ours that is under way, or to
    /// nobody.
    fn pass_over(&mut self, report: &ReplicaReport) {
        if report.managed && self.ordered.is_empty() {
            self.leftovers.add(report);
        }
    }

    fn look_at(&mut self, now: Time, report: &ReplicaReport, in_flight: u32) {
        if !self.members.contains_key(&report.id) {
            self.meet(now, report);
        }
        let Some(member) = self.members.get_mut(&report.id) else { return };
        (member.listed, member.ready) = (true, report.ready);
        member.stop_grace = report.stop_grace;
        member.trial.observe(now, report.ready, report.restarts);
        let replica = &mut member.replica;
        (replica.address, replica.in_flight) = (report.address, in_flight);
        replica.outdated = report.outdated;
        match (replica.phase, report.ready) {
            (Phase::Starting, true) => {
                if std::mem::take(&mut member.measuring) {
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
        self.judge(now, &report.id);
    }

    /// Replicas of ours that do not become ready, or are restarted without end, have failed.
    fn judge(&mut self, now: Time, id: &str) {
        let within = self.settings.start_timeout;
        let Some(member) = self.members.get_mut(id) else { return };
        let (replica, loops) = (&member.replica, member.trial.loops());
        let overdue = replica.phase == Phase::Starting && replica.age(now) >= within;
        if member.failing || !replica.managed || !(overdue || loops) {
            return;
        }
        member.failing = true;
        if loops {
            self.failures.push((id.to_owned(), Failure::RestartLoop));
        } else if !member.trial.has_served() {
            self.failures.push((id.to_owned(), Failure::NotReady { within }));
        }
    }

    /// A replica seen for the first time: one that was ordered, or one that was there before us, or
    /// one that somebody else has started.
    fn meet(&mut self, now: Time, report: &ReplicaReport) {
        let half_done = self.leftovers.remove(&report.id);
        let awaited = report.managed && !half_done && !self.ordered.is_empty();
        let ordered = awaited.then(|| self.ordered.remove(0));
        if self.sees_clearly(now) && !half_done && ordered.is_none() {
            let id = short(&report.id);
            self.changes.push(format!("replica {id} was started by somebody else"));
        }
        let (ready, measuring) = (report.ready && ordered.is_none(), ordered.is_some());
        let replica = Replica {
            id: report.id.clone(),
            phase: if ready { Phase::Ready } else { Phase::Starting },
            since: now,
            created: ordered.unwrap_or(now),
            address: report.address,
            in_flight: 0,
            managed: report.managed,
            outdated: report.outdated,
        };
        let trial = if measuring { Trial::default() } else { Trial::met(ready, report.restarts) };
        let stop_grace = report.stop_grace;
        let member =
            Member { replica, measuring, listed: true, ready, trial, failing: false, stop_grace };
        self.members.insert(report.id.clone(), member);
    }

    /// The actuator gave a name to the start ordered at `ordered`.
    pub fn started(&mut self, ordered: Time, now: Time, id: ReplicaId) {
        if self.members.contains_key(&id) {
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
            outdated: false,
        };
        let member = Member {
            replica,
            measuring: true,
            listed: false,
            ready: false,
            trial: Trial::default(),
            failing: false,
            stop_grace: Duration::ZERO,
        };
        self.members.insert(id, member);
    }

    /// The start ordered at `ordered` came to nothing.
    pub fn start_failed(&mut self, ordered: Time) {
        if let Some(i) = self.ordered.iter().position(|&t| t == ordered) {
            self.ordered.remove(i);
        }
    }

    /// The stop of `id` failed: it is tried again at the next reconciliation.
    pub fn stop_failed(&mut self, id: &str, now: Time) {
        if let Some(member) = self.members.get_mut(id) {
            member.replica.enter(Phase::Draining, now);
        }
        self.leftovers.stop_failed(id);
    }
}

/// Time from `from` to `to`, zero if it is negative (a clock that was set back).
fn elapsed(from: Time, to: Time) -> Duration {
    to.signed_duration_since(from).max(TimeDelta::zero()).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests;
