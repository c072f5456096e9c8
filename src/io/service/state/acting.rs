//! Pure: from the planner's decision to commands: who overrules it, what holds starts back, and
//! what came of the commands.

use std::time::Duration;

use super::State;
use crate::config::{Mode, Target};
use crate::fleet::{Command, short};
use crate::io::actuator::ActuatorError;
use crate::planner::{Decision, Limit, LimitApplied};
use crate::series::Time;

impl State {
    /// An operator's override is the newest word. Else the count is left alone for a while after
    /// somebody else has changed it.
    pub(super) fn overrule(&self, now: Time, decision: &mut Decision) {
        let before = decision.desired_replicas;
        let (limit, after, reason) = if let Some(override_) = self.standing_override(now) {
            let reason = format!("override until {}: {}", override_.until, override_.reason);
            (Limit::Override, override_.replicas, reason)
        } else if let Some((held, reason)) = self.held(now) {
            (Limit::Yielded, held, reason)
        } else {
            return;
        };
        decision.desired_replicas = after;
        decision.reason = format!("{reason}; without it {before}: {}", decision.reason);
        decision.limits.push(LimitApplied { limit, before, after, reason });
    }

    fn standing_override(&self, now: Time) -> Option<&super::Override> {
        self.override_.as_ref().filter(|override_| now < override_.until)
    }

    /// The count that somebody else left, while it is left alone, and why.
    pub(super) fn held(&self, now: Time) -> Option<(u32, String)> {
        let min = self.config.settings.behavior.min_replicas;
        let counts = (self.fleet.current_replicas(), min);
        self.yielding.holds(now.max(self.looked), self.config.fleet.yield_for, counts)
    }

    /// What happened to replicas that Foresail did not ask for.
    pub(super) fn judge_changes(&mut self, now: Time) {
        for (id, failure) in self.fleet.take_failures() {
            self.start_failed(now, failure.reason(), format!("replica {} {failure}", short(&id)));
        }
        let changes = self.fleet.take_changes();
        let Some(last) = changes.last().filter(|_| self.effective_mode() == Mode::Act) else {
            return;
        };
        for change in &changes {
            tracing::warn!(service = self.config.name, change, "yielding");
        }
        self.yielding.begin(now, last.clone(), self.fleet.current_replicas());
    }

    /// Those measured since the last call. A start that became ready has worked.
    pub(super) fn startup_delays(&mut self, now: Time) -> Vec<Duration> {
        let delays = self.fleet.take_startup_delays();
        if !delays.is_empty() {
            self.startup_delays_unsaved = true;
            self.starts.succeeded(now);
        }
        delays
    }

    pub(super) fn commands(&mut self, now: Time, desired: u32) -> Vec<Command> {
        if self.effective_mode() == Mode::Observe || self.reads.failure().is_some() {
            return Vec::new();
        }
        // Without room for one more the outdated ones stay until the load falls.
        let room = self.config.settings.behavior.max_replicas.saturating_sub(desired);
        let desired = desired + self.fleet.surge(desired).min(room);
        // While starts have to wait, a draining replica can still be taken back.
        let without_start = self.fleet.current_replicas() + self.fleet.recoverable_replicas();
        let waits = self.starts.waits(now.max(self.looked));
        let desired = if waits { desired.min(without_start) } else { desired };
        // A Foresail that was killed may have told the engine to stop what is still seen to run.
        let inherits = !matches!(self.config.target, Target::Process(_));
        let unclear = inherits && !self.fleet.sees_clearly(now.max(self.looked));
        let desired = if unclear { desired.max(self.fleet.current_replicas()) } else { desired };
        self.fleet.reconcile(now, desired)
    }

    /// A start that was ordered at `ordered` has an outcome.
    pub fn started(&mut self, ordered: Time, now: Time, outcome: Result<String, ActuatorError>) {
        match outcome {
            Ok(id) => {
                self.counters.starts += 1;
                self.fleet.started(ordered, now, id);
            }
            Err(error) => {
                self.start_failed(now, error.reason(), error.to_string());
                self.fleet.start_failed(ordered);
            }
        }
    }

    fn start_failed(&mut self, now: Time, reason: &'static str, message: String) {
        *self.counters.command_failures.entry(reason).or_default() += 1;
        tracing::warn!(service = self.config.name, message, "start failed");
        self.starts.failed(now, message);
    }

    pub fn stopped(&mut self, id: &str, now: Time, outcome: Result<(), ActuatorError>) {
        match outcome {
            Ok(()) => self.counters.stops += 1,
            Err(error) => {
                *self.counters.command_failures.entry("not_stopped").or_default() += 1;
                tracing::warn!(service = self.config.name, replica = id, %error, "not stopped");
                self.fleet.stop_failed(id, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
