//! Pure: how far the newest sample of demand can be relied on.
//!
//! What cannot be demand counts as missing, and so does a sample older than one seen before: late
//! news must not undo what newer news led to.
//!
//! A broken source may answer exactly 0 with every sign of health. Real load seldom ends between
//! two samples, so a 0 right after load that would have kept the replicas is doubted: it holds,
//! until 0 was told for the fallback's window, and for one interval at least. It is recorded as it
//! was measured, for mostly it is true. Known limit: a source that says 0 for longer is believed.

use super::{Observation, Settings, elapsed};
use crate::planner::{Signal, threshold::Threshold};
use crate::series::{IMPOSSIBLE, Time};

/// What was seen of the source of demand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    newest: Option<Time>,
    /// The last demand above 0 would have kept the replicas.
    loaded: bool,
    /// First sample of the zeros that are told now.
    zero_since: Option<Time>,
}

impl Source {
    /// The signal at `now`; `rule` says which load keeps replicas.
    pub fn judge(
        &mut self,
        now: Time,
        observation: &Observation,
        settings: &Settings,
        rule: &Threshold,
    ) -> Signal {
        let Some(sample) = observation.demand else { return Signal::Missing };
        let interval = settings.evaluation_interval;
        let possible = (0.0..IMPOSSIBLE).contains(&sample.demand);
        // At least 0 is what every demand is.
        let says_nothing = sample.lower_bound && sample.demand == 0.0;
        if !possible
            || says_nothing
            || elapsed(now, sample.time) > interval
            || self.newest.is_some_and(|newest| sample.time < newest)
        {
            return Signal::Missing;
        }
        self.newest = Some(sample.time);
        let age = elapsed(sample.time, now);
        let age_ms = age.as_millis() as u64;
        if age > settings.max_staleness {
            return Signal::Stale { age_ms };
        }
        if sample.demand > 0.0 {
            self.zero_since = None;
            self.loaded = sample.demand > rule.down * observation.supply();
        } else if self.loaded {
            let since = *self.zero_since.get_or_insert(sample.time);
            let zero = elapsed(since, sample.time);
            if zero < rule.window.max(interval) {
                return Signal::Doubted { zero_ms: zero.as_millis() as u64 };
            }
            self.loaded = false;
        }
        Signal::Fresh { demand: sample.demand, lower_bound: sample.lower_bound, age_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Autoscaler, DemandSample, TrainingSchedule};
    use super::*;
    use crate::planner::target_tracking::{SignalKind, TargetTracking};
    use crate::planner::{Behavior, Policy};

    const STEP: Duration = Duration::from_secs(15);

    /// Desired counts of a service that tracks its target with no limit at all, told `demands` at
    /// 15, 30, … s, as it obeys.
    fn check(window: Duration, demands: &[f64], want: &[u32]) {
        let mut autoscaler = Autoscaler::new(Settings {
            policy: Policy::TargetTracking(TargetTracking {
                target_utilization: 0.5,
                signal: SignalKind::Demand,
            }),
            fallback: Threshold { window, ..Threshold::default() },
            behavior: Behavior::unlimited(),
            evaluation_interval: STEP,
            max_staleness: STEP,
            training: TrainingSchedule::default(),
            startup_delay: STEP,
            max_startup_delay: STEP,
        });
        let (mut now, mut replicas) = (Time::UNIX_EPOCH, 4);
        let got = demands.iter().map(|&demand| {
            now += STEP;
            let sample = DemandSample { time: now, demand, lower_bound: false };
            let observation = Observation {
                demand: Some(sample),
                capacity: 1.0,
                ready_replicas: replicas,
                current_replicas: replicas,
                startup_delays: vec![],
            };
            replicas = autoscaler.step(now, &observation).desired_replicas;
            replicas
        });
        assert_eq!(got.collect::<Vec<_>>(), want, "{window:?} {demands:?}");
    }

    #[test]
    fn a_sudden_zero_is_doubted_for_the_window() {
        let minute = Duration::from_secs(60);
        // 2 at 4 replicas are 50 %. The first 0 is told at 30 s, and is 60 s old at 90 s.
        check(minute, &[2.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[4, 4, 4, 4, 4, 1]);
        // Load that comes back begins the doubt anew.
        check(minute, &[2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0], &[4; 7]);
        // A window shorter than a step still asks for a second 0.
        check(Duration::ZERO, &[2.0, 0.0, 0.0], &[4, 4, 1]);
        check(Duration::ZERO, &[2.0, -0.0, -0.0], &[4, 4, 1]);
        // 0.7 is less than 20 % of 4: it would have scaled down by itself. Nothing was before.
        check(minute, &[0.7, 0.0], &[2, 2]);
        check(minute, &[0.3, 0.0], &[1, 1]);
        check(minute, &[0.0], &[1]);
        // What is nearly 0 is no sign of a broken source.
        check(minute, &[2.0, 1e-9], &[4, 1]);
    }
}
