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

impl Observation {
    /// 0 if it is not known: no replica carries nothing, or a multiple of any load.
    pub(super) fn known_capacity(&self) -> f64 {
        let known = (1.0 / IMPOSSIBLE..IMPOSSIBLE).contains(&self.capacity);
        if known { self.capacity } else { 0.0 }
    }

    /// Demand that the ready replicas carry.
    pub(super) fn supply(&self) -> f64 {
        f64::from(self.ready_replicas) * self.known_capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::super::{Autoscaler, DemandSample, TrainingSchedule};
    use super::*;
    use crate::planner::target_tracking::{SignalKind, TargetTracking};
    use crate::planner::{Behavior, Policy};

    const STEP: Duration = Duration::from_secs(15);
    const MINUTE: Duration = Duration::from_secs(60);

    fn tracking() -> Policy {
        let signal = SignalKind::Demand;
        Policy::TargetTracking(TargetTracking { target_utilization: 0.5, signal })
    }

    /// Desired counts of an obedient service without any limit that is shown samples
    /// `(age in steps, demand)` at 15, 30, … s.
    fn check(policy: Policy, window: Duration, samples: &[(i32, f64)], want: &[u32]) {
        let mut autoscaler = Autoscaler::new(Settings {
            policy,
            fallback: Threshold { window, ..Threshold::default() },
            behavior: Behavior::unlimited(),
            evaluation_interval: STEP,
            max_staleness: STEP * 5,
            training: TrainingSchedule::default(),
            startup_delay: STEP,
            max_startup_delay: STEP,
        });
        let (mut now, mut replicas) = (Time::UNIX_EPOCH, 4);
        let got = samples.iter().map(|&(age, demand)| {
            now += STEP;
            let time = now - TimeDelta::from_std(STEP).expect("short") * age;
            let observation = Observation {
                demand: Some(DemandSample { time, demand, lower_bound: false }),
                capacity: 1.0,
                ready_replicas: replicas,
                missing_metrics: 0,
                current_replicas: replicas,
                startup_delays: vec![],
            };
            replicas = autoscaler.step(now, &observation).desired_replicas;
            replicas
        });
        assert_eq!(got.collect::<Vec<_>>(), want, "{window:?} {samples:?}");
    }

    #[test]
    fn a_sudden_zero_is_doubted_for_the_window() {
        let zero = |window, demands: &[f64], want: &[u32]| {
            let samples: Vec<_> = demands.iter().map(|&demand| (0, demand)).collect();
            check(tracking(), window, &samples, want);
        };
        // 2 at 4 replicas are 50 %. The first 0 is told at 30 s, and is 60 s old at 90 s.
        zero(MINUTE, &[2.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[4, 4, 4, 4, 4, 1]);
        // Load that comes back begins the doubt anew.
        zero(MINUTE, &[2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0], &[4; 7]);
        // A window shorter than a step still asks for a second 0.
        zero(Duration::ZERO, &[2.0, 0.0, 0.0], &[4, 4, 1]);
        zero(Duration::ZERO, &[2.0, -0.0, -0.0], &[4, 4, 1]);
        // 0.7 is less than 20 % of 4: the rule would have scaled down on it.
        zero(MINUTE, &[0.7, 0.0], &[2, 1]);
        zero(MINUTE, &[0.0], &[1]);
        // What is nearly 0 is no sign of a broken source.
        zero(MINUTE, &[2.0, 1e-9], &[4, 1]);
    }

    #[test]
    fn a_doubted_zero_does_not_weigh_on_the_mean_of_the_rule() {
        let rule = Threshold { window: MINUTE, ..Threshold::default() };
        // Were the zeros counted, the mean of the last four would be 0.5 / 4 = 12 %.
        let demands = [2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 2.0];
        let samples = demands.map(|demand| (0, demand));
        check(Policy::Threshold(rule), MINUTE, &samples, &[4; 8]);
    }

    #[test]
    fn late_news_does_not_undo_newer() {
        // The second sample is older than the first, the third is the first again.
        check(tracking(), MINUTE, &[(0, 2.0), (2, 0.5), (2, 2.0), (0, 0.5)], &[4, 4, 4, 1]);
    }

    #[test]
    fn a_capacity_that_is_none_is_not_known() {
        for capacity in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
            let observation = Observation { capacity, ready_replicas: 2, ..Default::default() };
            assert_eq!((observation.known_capacity(), observation.supply()), (0.0, 0.0));
        }
    }
}
