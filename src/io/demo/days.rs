//! Pure: what was measured, day by day, and the days of the threshold rule against those of the
//! forecast.

use std::time::Duration;

use serde::Serialize;

/// One request as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// When it was due, from the start of the load. Latency counts from here, also if it was sent
    /// late.
    pub at: Duration,
    pub latency: Duration,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// 503 or 504: the wait was too long. What overload does.
    Refused,
    /// Any other end: a broken connection, an error, no answer. Must never happen.
    Failed,
}

/// What Foresail did at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// End of the step, from the start of the load.
    pub at: Duration,
    pub ready_replicas: u32,
    /// All that were paid for: starting, ready and draining ones.
    pub running_replicas: u32,
    /// The last decision rested on the forecast.
    pub forecast_acts: bool,
}

/// What was set up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    pub day: Duration,
    /// Between steps.
    pub step: Duration,
    /// Requests per second that one ready replica carries.
    pub capacity_rps: f64,
    /// A longer latency is slow.
    pub slow: Duration,
}

/// Which rule had a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    Threshold,
    /// The forecast began to act in the middle of it; not compared.
    Both,
    Forecast,
}

/// One day, or several taken together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    pub days: usize,
    pub requests: usize,
    /// Share of the steps in which more was asked than the ready replicas carry.
    pub overload_share: f64,
    pub latency_ms_p50: f64,
    pub latency_ms_p99: f64,
    pub slow_requests: usize,
    pub refused_requests: usize,
    pub failed_requests: usize,
    /// Per day.
    pub replica_seconds: f64,
    /// Share of the steps in which the forecast acted.
    pub forecast_share: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Day {
    /// From 1.
    pub day: usize,
    pub rule: Rule,
    #[serde(flatten)]
    pub measures: Measures,
}

/// The complete days, and the two kinds side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Days {
    pub days: Vec<Day>,
    pub threshold: Option<Measures>,
    pub forecast: Option<Measures>,
}

impl Days {
    /// `until`: the end of the load; a day that is not over by then is left out. Every day after
    /// the one in which the forecast first acted is the forecast's, also where it lost trust again:
    /// a choice would flatter it.
    pub fn new(requests: &[Request], steps: &[Step], terms: &Terms, until: Duration) -> Days {
        let day_of = |at: Duration| (at.as_nanos() / terms.day.as_nanos().max(1)) as usize;
        let complete = day_of(until);
        let first_forecast = steps.iter().find(|s| s.forecast_acts).map(|s| day_of(s.at));
        let rule = |day: usize| match first_forecast {
            Some(first) if day > first => Rule::Forecast,
            Some(first) if day == first => Rule::Both,
            _ => Rule::Threshold,
        };
        let measure = |wanted: &dyn Fn(usize) -> bool| {
            let requests = requests.iter().filter(|r| wanted(day_of(r.at))).collect();
            // A step ends at `at`: the one that ends with a day belongs to it.
            let within = |s: &&Step| wanted(day_of(s.at.saturating_sub(Duration::from_nanos(1))));
            let steps = steps.iter().filter(within).collect();
            Measures::of(requests, steps, terms, (0..complete).filter(|&d| wanted(d)).count())
        };
        let kind = |kind: Rule| {
            let measures = measure(&|day| day < complete && rule(day) == kind);
            (measures.days > 0).then_some(measures)
        };
        Days {
            days: (0..complete)
                .map(|day| Day { day: day + 1, rule: rule(day), measures: measure(&|d| d == day) })
                .collect(),
            threshold: kind(Rule::Threshold),
            forecast: kind(Rule::Forecast),
        }
    }
}

impl Measures {
    fn of(requests: Vec<&Request>, steps: Vec<&Step>, terms: &Terms, days: usize) -> Measures {
        let mut latencies: Vec<Duration> = requests.iter().map(|r| r.latency).collect();
        latencies.sort_unstable();
        let count = |outcome| requests.iter().filter(|r| r.outcome == outcome).count();
        let share = |n: usize| if steps.is_empty() { 0.0 } else { n as f64 / steps.len() as f64 };
        let running: u32 = steps.iter().map(|s| s.running_replicas).sum();
        Measures {
            days,
            requests: requests.len(),
            overload_share: share(overloaded(&requests, &steps, terms)),
            latency_ms_p50: percentile_ms(&latencies, 0.5),
            latency_ms_p99: percentile_ms(&latencies, 0.99),
            slow_requests: latencies.iter().filter(|&&latency| latency > terms.slow).count(),
            refused_requests: count(Outcome::Refused),
            failed_requests: count(Outcome::Failed),
            replica_seconds: f64::from(running) * terms.step.as_secs_f64() / days.max(1) as f64,
            forecast_share: share(steps.iter().filter(|s| s.forecast_acts).count()),
        }
    }
}

/// Steps in which more requests arrived than the replicas that were ready carry.
fn overloaded(requests: &[&Request], steps: &[&Step], terms: &Terms) -> usize {
    let mut arrivals: Vec<Duration> = requests.iter().map(|r| r.at).collect();
    arrivals.sort_unstable();
    let before = |at: Duration| arrivals.partition_point(|&arrival| arrival < at);
    let carried = terms.capacity_rps * terms.step.as_secs_f64();
    let overloaded = |step: &&&Step| {
        let arrived = before(step.at) - before(step.at.saturating_sub(terms.step));
        arrived as f64 > f64::from(step.ready_replicas) * carried
    };
    steps.iter().filter(overloaded).count()
}

/// Nearest rank; 0 without requests.
fn percentile_ms(sorted: &[Duration], q: f64) -> f64 {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        day: Duration::from_secs(2),
        step: Duration::from_secs(1),
        capacity_rps: 2.0,
        slow: Duration::from_millis(500),
    };

    fn request(at_ms: u64, latency_ms: u64, outcome: Outcome) -> Request {
        let ms = Duration::from_millis;
        Request { at: ms(at_ms), latency: ms(latency_ms), outcome }
    }

    fn step(at_s: u64, ready_replicas: u32, forecast_acts: bool) -> Step {
        let running_replicas = ready_replicas + 1;
        Step { at: Duration::from_secs(at_s), ready_replicas, running_replicas, forecast_acts }
    }

    #[test]
    fn a_day_is_measured_by_what_its_clients_and_its_steps_saw() {
        let requests = [
            request(0, 10, Outcome::Answered),
            request(100, 20, Outcome::Answered),
            // Third in a second in which one replica carries two.
            request(200, 501, Outcome::Answered),
            request(1_900, 5_000, Outcome::Refused),
            request(2_000, 1, Outcome::Failed), // The next day.
        ];
        let steps = [step(1, 1, false), step(2, 3, false), step(3, 1, false)];
        let days = Days::new(&requests, &steps, &TERMS, Duration::from_secs(3));
        let want = Measures {
            days: 1,
            requests: 4,
            overload_share: 0.5,
            latency_ms_p50: 20.0,
            latency_ms_p99: 5_000.0,
            slow_requests: 2,
            refused_requests: 1,
            failed_requests: 0,
            replica_seconds: 6.0, // 2 replicas in the first second, 4 in the second.
            forecast_share: 0.0,
        };
        assert_eq!(days.days, [Day { day: 1, rule: Rule::Threshold, measures: want.clone() }]);
        assert_eq!((days.threshold, days.forecast), (Some(want), None));
    }

    /// Each row: for each step of 6 days of one step each, whether the forecast acts; and the rules
    /// expected.
    #[test]
    fn all_days_after_the_first_of_the_forecast_are_its_days() {
        use Rule::{Both, Forecast, Threshold};
        let terms = Terms { day: TERMS.step, ..TERMS };
        for (acts, rules) in [
            ([false; 6], [Threshold; 6]),
            (
                [false, false, true, true, false, true],
                [Threshold, Threshold, Both, Forecast, Forecast, Forecast],
            ),
            ([true; 6], [Both, Forecast, Forecast, Forecast, Forecast, Forecast]),
        ] {
            // In the middle of its day, so that no boundary matters.
            let at = |i| Duration::from_millis(1_000 * i as u64 + 500);
            let steps: Vec<Step> = acts
                .iter()
                .enumerate()
                .map(|(i, &acts)| Step { at: at(i), ..step(0, 1, acts) })
                .collect();
            let days = Days::new(&[], &steps, &terms, Duration::from_secs(6));
            assert_eq!(days.days.iter().map(|d| d.rule).collect::<Vec<_>>(), rules);
            let counted = |m: Option<Measures>| m.map_or(0, |m| m.days);
            let of = |rule| rules.iter().filter(|&&r| r == rule).count();
            assert_eq!(counted(days.threshold), of(Threshold));
            assert_eq!(counted(days.forecast), of(Forecast));
        }
    }

    #[test]
    fn nothing_measured_gives_no_days_and_no_numbers_that_are_not() {
        let days = Days::new(&[], &[], &TERMS, Duration::from_millis(1_999));
        assert_eq!(days, Days { days: vec![], threshold: None, forecast: None });
        let empty = Days::new(&[], &[], &TERMS, Duration::from_secs(2)).threshold.unwrap();
        assert!(empty.overload_share == 0.0 && empty.latency_ms_p99 == 0.0, "{empty:?}");
    }
}
