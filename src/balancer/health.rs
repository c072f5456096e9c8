//! Pure: who is healthy: active checks with rise and fall, and ejection by what requests met.
//!
//! A replica is ejected for errors in a row, or at the end of an interval in which its share of
//! successes was further below that of all others than chance explains. It stays out for the base
//! time × how often that has happened, capped; each whole interval in which it was in counts one
//! back. Never more than a share of the ready replicas is out, the worst first (Envoy's outlier
//! detection).
//!
//! Health is looked at in steps, so an ejection comes up to one step late; what is decided is not
//! who is chosen, but what the next [`super::Snapshot`] says of its targets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Target;
use super::histogram::Counts;
use crate::fleet::ReplicaId;

/// When requests eject a replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Ejection {
    /// Errors in a row; zero: never for that.
    pub consecutive_errors: u32,
    /// Time over which successes are compared.
    pub interval: Duration,
    pub base_time: Duration,
    pub max_time: Duration,
    /// Most of the ready replicas, as a share rounded down; zero: never.
    pub max_ejected: f64,
    /// Least difference of shares of successes.
    pub margin: f64,
    /// Fewer requests in an interval say nothing.
    pub min_requests: u32,
}

impl Default for Ejection {
    fn default() -> Ejection {
        Ejection {
            consecutive_errors: 5,
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            max_ejected: 0.5,
            margin: 0.2,
            min_requests: 20,
        }
    }
}

/// Active checks: every replica is asked, whether or not requests come.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Of an HTTP GET that must answer 200 to 399; a TCP connect without it.
    pub path: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Checks in a row that must pass before a failing replica is healthy again.
    pub rise: u32,
    /// Checks in a row that must fail before a healthy one is not.
    pub fall: u32,
}

/// The health of all replicas of a service.
#[derive(Debug)]
pub struct Health {
    ejection: Ejection,
    check: Option<Check>,
    replicas: BTreeMap<ReplicaId, Watch>,
    interval_ends: Option<Duration>,
}

/// One replica; healthy until something speaks against it, for it has just become ready.
#[derive(Debug, Default)]
struct Watch {
    ejected_until: Option<Duration>,
    /// Times the base time, unless it is ejected again after clean intervals.
    multiplier: u32,
    ejections: u64,
    /// Ejected at some time in this interval.
    was_out: bool,
    /// Requests that had ended when the interval began, and errors among them.
    before: (u64, u64),
    /// Latencies at the last two ends of intervals, the older one first.
    latencies: [Counts; 2],
    fails_checks: bool,
    /// Checks in a row that speak against what is believed.
    contrary: u32,
}

/// What is known of one replica's health.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HealthView {
    pub ejected_until: Option<Duration>,
    /// Since it was first seen.
    pub ejections: u64,
    /// `None` without active checks.
    pub passes_checks: Option<bool>,
}

impl Health {
    pub fn new(ejection: Ejection, check: Option<Check>) -> Health {
        Health { ejection, check, replicas: BTreeMap::new(), interval_ends: None }
    }

    /// Takes in what the counters of all replicas say; whether anybody's health changed.
    pub fn step(&mut self, now: Duration, targets: &[Target]) -> bool {
        let known: BTreeSet<&ReplicaId> = targets.iter().map(|target| &target.id).collect();
        self.replicas.retain(|id, _| known.contains(id));
        for target in targets {
            if !self.replicas.contains_key(&target.id) {
                let watch = Watch { before: target.counters.ended(), ..Watch::default() };
                self.replicas.insert(target.id.clone(), watch);
            }
        }
        let mut changed = false;
        for target in targets {
            let Some(watch) = self.replicas.get_mut(&target.id) else { continue };
            if watch.ejected_until.take_if(|until| *until <= now).is_some() {
                target.counters.forgive();
                watch.before = target.counters.ended();
                changed = true;
            }
        }
        let ready: Vec<&Target> = targets.iter().filter(|target| target.ready).collect();
        let mut suspects = self.in_a_row(&ready);
        if now >= *self.interval_ends.get_or_insert(now + self.ejection.interval) {
            suspects.extend(self.by_success(&ready));
            self.end_interval(now, targets);
        }
        suspects.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let most = (self.ejection.max_ejected * ready.len() as f64).floor() as usize;
        for (id, _) in suspects {
            let out = ready.iter().filter(|target| self.is_ejected(&target.id)).count();
            if out < most && !self.is_ejected(&id) {
                self.eject(&id, now);
                changed = true;
            }
        }
        changed
    }

    /// Takes in one active check; whether the replica's health changed.
    pub fn checked(&mut self, id: &str, passed: bool) -> bool {
        let (Some(watch), Some(check)) = (self.replicas.get_mut(id), &self.check) else {
            return false;
        };
        if passed != watch.fails_checks {
            watch.contrary = 0;
            return false;
        }
        watch.contrary += 1;
        let needed = if passed { check.rise } else { check.fall };
        let flips = watch.contrary >= needed;
        if flips {
            (watch.fails_checks, watch.contrary) = (!passed, 0);
        }
        flips
    }

    /// Neither ejected nor failing its checks.
    pub fn is_healthy(&self, id: &str) -> bool {
        self.replicas.get(id).is_none_or(|w| w.ejected_until.is_none() && !w.fails_checks)
    }

    pub fn view(&self, id: &str) -> HealthView {
        let passes = |fails: bool| self.check.is_some().then_some(!fails);
        match self.replicas.get(id) {
            Some(watch) => HealthView {
                ejected_until: watch.ejected_until,
                ejections: watch.ejections,
                passes_checks: passes(watch.fails_checks),
            },
            None => HealthView { passes_checks: passes(false), ..HealthView::default() },
        }
    }

    /// Median and 99th percentile of latency in seconds, over one to two intervals.
    pub(super) fn quantiles(&self, target: &Target) -> Option<[f64; 2]> {
        let before = self.replicas.get(&target.id).map_or(&[][..], |watch| &watch.latencies[0]);
        target.counters.histogram.quantiles(before, [0.5, 0.99])
    }

    /// Those with too many errors in a row, the number says how bad it is: always worse than a low
    /// share of successes.
    fn in_a_row(&self, ready: &[&Target]) -> Vec<(ReplicaId, f64)> {
        let limit = self.ejection.consecutive_errors;
        let suspect = |target: &&Target| {
            let row = target.counters.take_longest_row();
            (limit > 0 && row >= limit).then(|| (target.id.clone(), 1.0 + f64::from(row)))
        };
        ready.iter().filter_map(suspect).collect()
    }

    /// Those with a share of successes further below that of the others together than the margin
    /// and three standard errors.
    fn by_success(&self, ready: &[&Target]) -> Vec<(ReplicaId, f64)> {
        let counts = ready.iter().filter_map(|target| {
            let (before, ended) = (self.replicas.get(&target.id)?.before, target.counters.ended());
            let count = |now: u64, then: u64| now.saturating_sub(then) as f64;
            let (requests, errors) = (count(ended.0, before.0), count(ended.1, before.1));
            let enough = requests >= f64::from(self.ejection.min_requests.max(1));
            enough.then_some((target.id.clone(), requests, errors))
        });
        let counts: Vec<(ReplicaId, f64, f64)> = counts.collect();
        let total = |f: fn(&(ReplicaId, f64, f64)) -> f64| counts.iter().map(f).sum::<f64>();
        let (requests, errors) = (total(|c| c.1), total(|c| c.2));
        let suspect = |(id, own_requests, own_errors): &(ReplicaId, f64, f64)| {
            let others = requests - own_requests;
            let mean = (errors - own_errors) / others;
            let standard_error = (mean * (1.0 - mean) / own_requests).sqrt();
            let excess = own_errors / own_requests - mean;
            let suspicious =
                others > 0.0 && excess > (3.0 * standard_error).max(self.ejection.margin);
            suspicious.then(|| (id.clone(), excess))
        };
        counts.iter().filter_map(suspect).collect()
    }

    fn end_interval(&mut self, now: Duration, targets: &[Target]) {
        self.interval_ends = Some(now + self.ejection.interval);
        for target in targets {
            let Some(watch) = self.replicas.get_mut(&target.id) else { continue };
            watch.before = target.counters.ended();
            watch.latencies.rotate_left(1);
            watch.latencies[1] = target.counters.histogram.counts();
            if !watch.was_out {
                watch.multiplier = watch.multiplier.saturating_sub(1);
            }
            watch.was_out = watch.ejected_until.is_some();
        }
    }

    fn is_ejected(&self, id: &str) -> bool {
        self.replicas.get(id).is_some_and(|watch| watch.ejected_until.is_some())
    }

    fn eject(&mut self, id: &str, now: Duration) {
        let Ejection { base_time, max_time, .. } = self.ejection;
        let Some(watch) = self.replicas.get_mut(id) else { return };
        // Counting on past the cap would make the way back longer than the way there.
        if base_time.saturating_mul(watch.multiplier) < max_time {
            watch.multiplier += 1;
        }
        let time = base_time.saturating_mul(watch.multiplier).min(max_time);
        watch.ejected_until = Some(now + time);
        watch.ejections += 1;
        watch.was_out = true;
    }
}

#[cfg(test)]
mod tests;
