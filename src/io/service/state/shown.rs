//! Pure: what others see of a service: its snapshot, its notes, its replicas as balancer targets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::Snapshot;
use super::super::back_off::BackOff;
use super::State;
use crate::balancer::{self, Standing};
use crate::config::Mode;
use crate::fleet::{Phase, Replica, ReplicaId};
use crate::io::artifact::catalog::ModelInfo;
use crate::series::Time;

impl State {
    pub fn notes(&self, now: Time) -> Vec<String> {
        let next_try = |what: &str, back_off: &BackOff| {
            let (reason, until) = back_off.failure()?;
            Some(format!("{what} (next try {}): {reason}", until.format("%H:%M:%S")))
        };
        let unread = next_try("replicas cannot be read", &self.reads);
        let unstarted = next_try("starts fail", &self.starts);
        let failed = unread.into_iter().chain(unstarted).chain(self.calendar.error.clone());
        let held_back = self.held_back.iter().filter(|_| self.mode == Mode::Act).cloned();
        let failed = failed.chain(self.startup_delays_refused.clone()).chain(held_back);
        let yielded = self.held(now).map(|(_, reason)| reason);
        let target = failed.chain(yielded).chain(self.actuator_notes.iter().cloned());
        target.chain(self.model_notes()).chain(self.mode_note.clone()).collect()
    }

    /// `act` only while no other Foresail does.
    pub fn effective_mode(&self) -> Mode {
        if self.held_back.is_some() { Mode::Observe } else { self.mode }
    }

    pub fn snapshot(
        &self,
        now: Time,
        balancer: &balancer::Snapshot,
        standings: BTreeMap<ReplicaId, Standing>,
    ) -> Snapshot {
        let counters = |f: fn(&balancer::Counters) -> &AtomicU64| {
            let load = |t: &balancer::Target| f(&t.counters).load(Ordering::Relaxed);
            balancer.targets().iter().map(load).sum()
        };
        let notes = self.autoscaler.notes();
        let offered = balancer.offered();
        Snapshot {
            time: now,
            mode: self.effective_mode(),
            demand: self.last.demand.map(|d| d.demand),
            capacity: self.capacity,
            replicas: self.fleet.replicas().cloned().collect(),
            decisions: self.decisions.iter().cloned().collect(),
            forecast: self.autoscaler.last_forecast().cloned().map(Arc::new),
            model: self.model.clone().map(|model| ModelInfo { notes: notes.clone(), ..model }),
            learning: self.autoscaler.learning(),
            startup_delay: self.autoscaler.startup_delay(),
            override_: self.override_.clone().filter(|o| now < o.until),
            counters: self.counters.clone(),
            notes: notes.into_iter().chain(self.notes(now)).collect(),
            standings,
            arrivals_total: offered.arrived.load(Ordering::Relaxed),
            waiting: offered.waiting.load(Ordering::Relaxed),
            refused_total: offered.refused.load(Ordering::Relaxed),
            retries_total: offered.retried.load(Ordering::Relaxed),
            retries_refused_total: offered.retries_refused.load(Ordering::Relaxed),
            requests_total: counters(|c| &c.requests),
            request_failures_total: counters(|c| &c.failures),
        }
    }

    /// The replicas as the balancer should see them.
    pub fn targets(&self, now: Time) -> Vec<balancer::Target> {
        let window = self.config.fleet.slow_start;
        let target = |r: &Replica| {
            let age = now.signed_duration_since(r.since).to_std().unwrap_or_default();
            let warming = r.phase == Phase::Warming;
            let ramp = if warming { balancer::slow_start_weight(age, window) } else { 1.0 };
            let weight = ramp * self.weights.get(&r.id).copied().unwrap_or(1.0);
            let target = balancer::Target::new(r.id.clone(), r.address?);
            Some(balancer::Target { weight, ready: r.serves(), ..target })
        };
        self.fleet.replicas().filter_map(target).collect()
    }
}

#[cfg(test)]
mod tests;
