//! Pure: look-back over recommendations.
//!
//! The history keeps recommendations *before* stabilization. Were it to keep the outcome, its
//! window would hold its own maximum for ever and the service would never scale down.

use std::collections::VecDeque;
use std::time::Duration;

use super::PlanInput;
use crate::series::Time;

/// Recommendations before stabilization, and changes of the current count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    recommendations: VecDeque<(Time, u32)>,
    changes: VecDeque<(Time, i64)>,
    last: Option<(Time, u32)>,
    desired: u32,
}

impl History {
    /// Notes how many replicas there are now. A change is dated back to the step before, which
    /// ordered it.
    pub fn observe(&mut self, now: Time, current_replicas: u32) {
        if let Some((then, before)) = self.last.replace((now, current_replicas)) {
            let change = i64::from(current_replicas) - i64::from(before);
            if change != 0 {
                self.changes.push_back((then, change));
            }
        }
    }

    /// Notes what was desired in the end: what a hold keeps.
    pub fn decided(&mut self, desired: u32) {
        self.desired = desired;
    }

    /// What was desired last; 0 before the first decision.
    pub fn desired(&self) -> u32 {
        self.desired
    }

    /// Adds a recommendation and forgets what is older than `keep`.
    pub fn record(&mut self, now: Time, recommendation: u32, keep: Duration) {
        self.recommendations.push_back((now, recommendation));
        let expired = |time: Time| !within(now, time, keep);
        while self.recommendations.front().is_some_and(|&(t, _)| expired(t)) {
            self.recommendations.pop_front();
        }
        while self.changes.front().is_some_and(|&(t, _)| expired(t)) {
            self.changes.pop_front();
        }
    }

    /// Replicas added and removed within `period` before `now`.
    pub fn changed(&self, now: Time, period: Duration) -> (i64, i64) {
        let recent = self.changes.iter().rev().take_while(|&&(t, _)| within(now, t, period));
        recent.fold((0, 0), |(added, removed), &(_, change)| {
            (added + change.max(0), removed + (-change).max(0))
        })
    }

    fn recommended(&self, now: Time, window: Duration) -> impl Iterator<Item = u32> {
        let recent =
            self.recommendations.iter().rev().take_while(move |&&(t, _)| within(now, t, window));
        recent.map(|&(_, replicas)| replicas)
    }
}

/// The start of a window does not belong to it, as in the HPA.
fn within(now: Time, time: Time, window: Duration) -> bool {
    (now - time).num_milliseconds() < window.as_millis() as i64
}

/// Up to the lowest recommendation of the up window, down to the highest of the down window, else
/// as it is.
pub fn stabilize(recommendation: u32, input: &PlanInput) -> u32 {
    let windows = &input.behavior.stabilization_window;
    let current = input.current_replicas;
    let past = |window| input.history.recommended(input.now, window);
    let up = past(windows.up).fold(recommendation, u32::min);
    let down = past(windows.down).fold(recommendation, u32::max);
    if current < up {
        up
    } else if current > down {
        down
    } else {
        current
    }
}
