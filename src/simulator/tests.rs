//! Pure: the offline world by hand, and seeded simulations: nothing bad under faults, then calm
//! that stays.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::report::DayReport;
use super::workload::{Shape, Workload};
use super::*;
use crate::forecast::events::Event;
use crate::series::Time;

const STEP: Duration = Duration::from_secs(300);

fn series(values: &[f64]) -> Series {
    Series::new(Time::UNIX_EPOCH, STEP, values.to_vec())
}

fn contenders(specs: &str) -> Vec<Contender> {
    contender::parse(&[specs], &[]).expect("valid")
}

fn replayed(load: &Series, specs: &str, options: &CompareOptions) -> Result<TraceReport, String> {
    compare("load", load, &contenders(specs), options)
}

fn options() -> CompareOptions {
    CompareOptions { capacity: Some(1.0), warmup: Some(Duration::ZERO), ..Default::default() }
}

/// Days of 48 steps, so that a test sees many.
fn workload(shape: Shape, days: usize) -> Workload {
    Workload { shape, step: STEP, day: 48, days, level: 10.0, noise: 0.05 }
}

/// `series` with holes of up to 9 steps at random places.
fn with_gaps(series: &Series, seed: u64) -> Series {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut hole = 0;
    let values = series.values().iter().map(|&v| {
        if rng.random::<f64>() < 0.02 {
            hole = rng.random_range(1..10);
        }
        hole = usize::saturating_sub(hole, 1);
        if hole > 0 { f64::NAN } else { v }
    });
    Series::new(series.start(), series.step(), values.collect())
}

#[test]
fn a_world_worked_out_by_hand() {
    // Initially ceil(0.5 / 0.7) = 1 replica; the delay of 5 min is one step. Utilization: 0.5 keep;
    // 0.9 to 2 (ready for step 2); 2.5 / 2 = 1.25 to 3; a gap holds; 0.3 / 3 = 0.1 to 2; 0.3 / 2 =
    // 0.15 to 1.
    let load = series(&[0.5, 0.9, 2.5, f64::NAN, 0.3, 0.3]);
    let report = replayed(&load, "threshold,oracle", &options()).expect("valid");
    assert_eq!((report.scored_steps, report.step_seconds, report.capacity), (5, 300.0, 1.0));
    let [threshold, oracle] = &report.policies[..] else { panic!("two policies") };
    // Ready 1, 1, 2, (3), 3, 2 against demanded 1, 1, 3, (3), 1, 1.
    let check = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    check(threshold.overload_share, 1.0 / 5.0);
    check(threshold.unserved_share, 0.5 / 4.5);
    check(threshold.replica_hours, 9.0 / 12.0);
    check(threshold.oracle_ratio, 9.0 / 7.0);
    check(threshold.theta_u, 100.0 / 5.0 * (1.0 / 3.0));
    check(threshold.theta_o, 100.0 / 5.0 * (2.0 + 1.0));
    check(threshold.tau_u, 20.0);
    check(threshold.tau_o, 40.0);
    // Desired 1, 2, 3, 3, 2, 1.
    assert_eq!(threshold.scaling_events, 4);
    // Ready changes 0, +, (+), 0, -; demanded 0, +, (0), -, 0: two of five differ.
    check(threshold.upsilon, 40.0);
    check(oracle.overload_share, 0.0);
    check(oracle.oracle_ratio, 1.0);
}

#[test]
fn days_are_those_of_the_calendar_and_add_up() {
    // Steps of 6 hours from 18:00 on 1970-01-01, a gap on the second day, the first of all a
    // warmup that leaves nothing of its day.
    let step = Duration::from_secs(6 * 3_600);
    let load = [1.0, 3.0, f64::NAN, 1.0, 1.0, 2.0];
    let load = Series::new(Time::UNIX_EPOCH + step * 3, step, load.to_vec());
    let options = CompareOptions { warmup: Some(step), ..options() };
    let report = replayed(&load, "static:replicas=2", &options).expect("valid");
    let [fixed] = &report.policies[..] else { panic!("one policy") };
    // Initially 2 replicas, as 1 / 0.7 rounds up; of 1970-01-02 three steps are scored.
    let day = |day: &str, overload_share: f64, replica_hours: f64| DayReport {
        day: day.into(),
        overload_share,
        replica_hours,
    };
    let want = [day("1970-01-02", 1.0 / 3.0, 36.0), day("1970-01-03", 0.0, 12.0)];
    assert_eq!(fixed.days, want);
    assert_eq!((fixed.overload_share, fixed.replica_hours), (0.25, 48.0));
}

/// What the measured delays are for: a service whose starts vary is planned for a slow one.
#[test]
fn startup_delays_are_drawn_for_each_order_and_told() {
    let load = workload(Shape::Daily, 12).series(2);
    let overload = |startup_delay: StartupDelay| {
        let options = CompareOptions { startup_delay, ..CompareOptions::default() };
        let report = replayed(&load, "predictive,target_tracking:signal=demand", &options);
        let policies = report.expect("valid").policies;
        [policies[1].overload_share, policies[0].overload_share]
    };
    let [quick, drawn, slow] = [
        StartupDelay::fixed(STEP),
        StartupDelay::Between(STEP, STEP * 8),
        StartupDelay::fixed(STEP * 8),
    ]
    .map(overload);
    assert!(quick[0] < drawn[0] && drawn[0] < slow[0], "{quick:?} {drawn:?} {slow:?}");
    assert!(drawn[1] < drawn[0] / 2.0, "{drawn:?}");
}

/// An hour's promotion every second of these days, which last four hours, doubles the load.
#[test]
fn events_that_are_known_beforehand_are_met_by_the_forecast() {
    let promotion = |n: u32| {
        let from = Time::UNIX_EPOCH + STEP * (96 * n + [5, 30, 12, 20][n as usize % 4]);
        Event { kind: "sale".into(), from, to: from + STEP * 12 }
    };
    let promotions = Events::new((0..9).map(promotion));
    let calm = workload(Shape::Daily, 18).series(3);
    let promoted = |t: usize| {
        let time = calm.time_at(t);
        let within = |(_, from, to): (&str, Time, Time)| from <= time && time < to;
        calm.values()[t] * if promotions.spans().any(within) { 2.0 } else { 1.0 }
    };
    let load = Series::new(calm.start(), STEP, (0..calm.len()).map(promoted).collect());
    let unserved = |events: Events| {
        let startup_delay = StartupDelay::fixed(STEP * 4);
        let options = CompareOptions { startup_delay, events, ..CompareOptions::default() };
        let report = replayed(&load, "predictive", &options).expect("valid");
        report.policies[0].unserved_share
    };
    // The share of overloaded steps is steered to the budget either way.
    let (known, unknown) = (unserved(promotions.clone()), unserved(Events::default()));
    assert!(known < unknown / 4.0, "{known} {unknown}");
}

#[test]
fn capacity_and_warmup_default_as_documented() {
    // Of 0..=100 the 99th percentile is 99; half of 101 steps is warmup, as 7 days are longer.
    let load = series(&(0..=100).map(f64::from).collect::<Vec<_>>());
    let report = replayed(&load, "oracle", &CompareOptions::default()).expect("valid");
    assert_eq!((report.capacity, report.scored_steps), (9.9, 51));
    // Between 7 and 8 of the ranks 0..=8: 7 + 0.92.
    assert!((percentile((0..9).map(f64::from).collect(), 0.99) - 7.92).abs() < 1e-12);
}

#[test]
fn what_cannot_be_replayed_is_refused_with_a_sentence() {
    let check = |values: &[f64], options: CompareOptions, want: &str| {
        let error = replayed(&series(values), contender::USUAL, &options).expect_err(want);
        assert!(error.contains(want), "{error}");
    };
    check(&[], options(), "no values");
    check(&[f64::NAN], options(), "no values");
    check(&[1.0, -1.0], options(), "negative");
    check(&[0.0; 9], CompareOptions { capacity: None, ..options() }, "state the capacity");
    check(&[1.0; 9], CompareOptions { capacity: Some(f64::NAN), ..options() }, "capacity");
    check(&[1.0; 9], CompareOptions { min_replicas: 9, max_replicas: 2, ..options() }, "minimum");
    check(&[1.0; 9], CompareOptions { warmup: Some(STEP * 9), ..options() }, "nothing is left");
    check(&[1.0; 9], CompareOptions { warmup: Some(Duration::MAX), ..options() }, "nothing");
    replayed(&series(&[1.0]), contender::USUAL, &options()).expect("one step can be replayed");
    let slow = StartupDelay::fixed(Duration::MAX);
    let slow = CompareOptions { startup_delay: slow, ..options() };
    replayed(&series(&[1.0; 9]), contender::USUAL, &slow).expect("a start may take for ever");
}

/// Gaps, slow starts and narrow bounds: nothing bad may happen, whatever the policy.
#[test]
fn safety_under_faults() {
    for seed in 0..3u64 {
        let shape = [Shape::Daily, Shape::Spiky, Shape::Bursty][seed as usize];
        let load = with_gaps(&workload(shape, 5).series(seed), seed);
        let options = CompareOptions {
            min_replicas: 2,
            max_replicas: 12,
            startup_delay: StartupDelay::Between(STEP, STEP * (seed as u32 * 2 + 1)),
            seed,
            capacity: Some(1.0),
            ..CompareOptions::default()
        };
        let stage = Stage::new(&load, &options).expect("valid");
        for contender in contenders("threshold,target_tracking,predictive") {
            let trail = stage.replay(&contender);
            for t in 0..load.len() {
                let say = || format!("{} at step {t} of seed {seed}", contender.label);
                assert!((2..=12).contains(&trail.desired[t]), "{}", say());
                if load.get(t).is_none() && t > 0 {
                    assert!(trail.desired[t] >= trail.desired[t - 1], "{}", say());
                }
            }
        }
    }
}

/// After the last change of the load the count settles and stays.
#[test]
fn liveness_once_the_load_is_calm() {
    for seed in 0..3u64 {
        let mut values = workload(Shape::Bursty, 8).series(seed).values().to_vec();
        values.extend([30.0; 48]);
        values.extend([6.0; 144]);
        let (load, options) = (series(&values), options());
        let stage = Stage::new(&load, &options).expect("valid");
        let trail = stage.replay(&contenders("target_tracking")[0]);
        let last = &trail.desired[values.len() - 96..];
        // 6 / 0.7 = 8.6; the tolerance leaves 9 or 10.
        assert!(last.iter().all(|&n| n == last[0] && (8..=10).contains(&n)), "{seed}: {last:?}");
    }
}

/// After a day of three times the usual load the count comes down again. Not at once to what is
/// needed: the surge is a seventh of all errors that the interval knows, and its overload is repaid
/// from the budget first.
#[test]
fn liveness_after_a_surge() {
    let seed = 2;
    let usual = workload(Shape::Daily, 10).series(seed);
    let surge = |(t, &v): (usize, &f64)| if t / 48 == 6 { 3.0 * v } else { v };
    let load = series(&usual.values().iter().enumerate().map(surge).collect::<Vec<_>>());
    let options = options();
    let stage = Stage::new(&load, &options).expect("valid");
    let trail = stage.replay(&contenders("predictive")[0]);
    let highest = trail.desired.iter().max().copied().expect("not empty");
    let lowest = trail.desired[load.len() - 48..].iter().min().copied().expect("not empty");
    assert!(lowest * 3 < highest, "seed {seed}: {lowest} after {highest}");
}

#[test]
fn a_replay_is_deterministic() {
    let load = with_gaps(&workload(Shape::Daily, 4).series(5), 5);
    let delays = StartupDelay::OneOf(vec![STEP, STEP * 2, STEP * 5]);
    let run = |seed| {
        let options = CompareOptions { startup_delay: delays.clone(), seed, ..options() };
        replayed(&load, contender::USUAL, &options).expect("valid")
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).policies[1], run(4).policies[1]);
}

/// What the forecast is for: on a steep daily load with slow starts, at a similar or lower cost,
/// far less overload.
#[test]
fn predictive_beats_the_reactive_rules_on_a_daily_load() {
    let load = workload(Shape::Spiky, 12).series(1);
    let startup_delay = StartupDelay::fixed(STEP * 3);
    let options = CompareOptions { startup_delay, ..CompareOptions::default() };
    let report = replayed(&load, contender::USUAL, &options).expect("valid");
    let [threshold, tracking, predictive, _] = &report.policies[..] else { panic!("four") };
    assert!(predictive.overload_share < 0.04, "{predictive:#?}");
    assert!(predictive.overload_share < 0.5 * threshold.overload_share, "{report:#?}");
    assert!(predictive.overload_share < 0.5 * tracking.overload_share, "{report:#?}");
}
