//! Pure: turns cumulative readings into samples by differencing.
//!
//! A counter that falls is a restart: what it shows was used since then. A repeated time is merged,
//! a time that goes back and a value that is NaN, infinite or negative are refused; both are
//! counted by reason.

use std::collections::{BTreeMap, HashMap};

use super::{Reading, Sample};
use crate::fleet::ReplicaId;
use crate::series::Time;

/// What the balancer counted for a replica so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    pub answered_total: u64,
    pub in_flight: u32,
}

/// Last readings of every replica, and totals of what was refused.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    last: HashMap<ReplicaId, (Reading, u64)>,
    pub refused: BTreeMap<&'static str, u64>,
    pub merged: u64,
}

impl Meter {
    /// Samples since the previous readings, at `now`; the first reading of a replica gives none.
    /// Replicas that `readings` leaves out are forgotten once they are not `known` any more.
    pub fn samples(
        &mut self,
        readings: &[Reading],
        requests: impl Fn(&str) -> Requests,
        known: impl Fn(&str) -> bool,
    ) -> Vec<Sample> {
        self.last.retain(|id, _| known(id));
        readings
            .iter()
            .filter_map(|reading| self.sample(reading, requests(&reading.replica)))
            .collect()
    }

    fn sample(&mut self, reading: &Reading, requests: Requests) -> Option<Sample> {
        let cpu = reading.cpu_seconds_total;
        if let Some(reason) = refusal(cpu) {
            *self.refused.entry(reason).or_default() += 1;
            return None;
        }
        let before = self.last.get(&reading.replica);
        if let Some((before, _)) = before {
            if reading.time == before.time {
                self.merged += 1;
                return None;
            }
            if reading.time < before.time {
                *self.refused.entry("out_of_order").or_default() += 1;
                return None;
            }
        }
        let (before, answered) = self
            .last
            .insert(reading.replica.clone(), (reading.clone(), requests.answered_total))?;
        let used =
            if cpu >= before.cpu_seconds_total { cpu - before.cpu_seconds_total } else { cpu };
        Some(Sample {
            time: reading.time,
            replica: reading.replica.clone(),
            cpu_cores: used / seconds(before.time, reading.time),
            memory_bytes: reading.memory_bytes,
            requests: requests.answered_total.saturating_sub(answered),
            in_flight: requests.in_flight,
        })
    }
}

fn refusal(cpu_seconds: f64) -> Option<&'static str> {
    if cpu_seconds.is_nan() {
        Some("nan")
    } else if cpu_seconds.is_infinite() {
        Some("infinite")
    } else if cpu_seconds < 0.0 {
        Some("negative")
    } else {
        None
    }
}

fn seconds(from: Time, to: Time) -> f64 {
    to.signed_duration_since(from).num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn reading(ms: i64, cpu_seconds_total: f64) -> Reading {
        Reading {
            replica: "a".into(),
            time: DateTime::from_timestamp_millis(ms).expect("in range"),
            cpu_seconds_total,
            memory_bytes: 1,
            cpu_limit: None,
        }
    }

    /// Feeds (ms, CPU seconds) one after the other; gives the cores of each sample.
    fn check(feed: &[(i64, f64)], want: &[Option<f64>]) -> Meter {
        let mut meter = Meter::default();
        let mut got = Vec::new();
        for &(ms, cpu) in feed {
            let samples = meter.samples(&[reading(ms, cpu)], |_| Requests::default(), |_| true);
            got.push(samples.first().map(|s| s.cpu_cores));
        }
        assert_eq!(got, want);
        meter
    }

    #[test]
    fn cpu_is_the_difference_over_the_time_between() {
        check(&[(0, 1.0), (1_000, 1.5), (3_000, 2.5)], &[None, Some(0.5), Some(0.5)]);
    }

    #[test]
    fn a_counter_that_falls_is_a_restart() {
        check(&[(0, 9.0), (1_000, 0.25)], &[None, Some(0.25)]);
    }

    #[test]
    fn bad_readings_are_refused_or_merged_and_the_next_good_one_spans_them() {
        let feed = [
            (0, 0.0),
            (1_000, f64::NAN),
            (1_000, -1.0),
            (1_000, f64::INFINITY),
            (2_000, 1.0),
            (2_000, 1.0),
            (1_500, 1.2),
            (4_000, 2.0),
        ];
        let cores = [None, None, None, None, Some(0.5), None, None, Some(0.5)];
        let meter = check(&feed, &cores);
        let reasons = [("infinite", 1), ("nan", 1), ("negative", 1), ("out_of_order", 1)];
        assert_eq!(meter.refused, reasons.into());
        assert_eq!(meter.merged, 1);
    }

    #[test]
    fn requests_are_differenced_and_gone_replicas_forgotten() {
        let mut meter = Meter::default();
        let requests = |n| move |_: &str| Requests { answered_total: n, in_flight: 3 };
        meter.samples(&[reading(0, 0.0)], requests(10), |_| true);
        let samples = meter.samples(&[reading(1_000, 0.0)], requests(17), |_| true);
        assert_eq!((samples[0].requests, samples[0].in_flight), (7, 3));
        meter.samples(&[], requests(0), |_| false);
        assert_eq!(meter.samples(&[reading(2_000, 0.0)], requests(20), |_| true), []);
    }
}
