//! Pure: tests of the step machine: what it takes in, when it trains, and the whole road to a
//! trusted forecast.

use chrono::TimeDelta;

use super::*;
use crate::forecast::trainer::train;
use crate::planner::phpa::Phpa;
use crate::planner::predictive::Predictive;
use crate::planner::target_tracking::{SignalKind, TargetTracking};
use crate::simulator::workload::{Shape, Workload};

const STEP: Duration = Duration::from_millis(250);
const DAY: usize = 40;

fn at(ms: i64) -> Time {
    Time::UNIX_EPOCH + TimeDelta::milliseconds(ms)
}

fn settings() -> Settings {
    Settings {
        policy: Policy::Predictive(Predictive::default()),
        fallback: Threshold { window: Duration::from_secs(1), ..Threshold::default() },
        behavior: Behavior { max_replicas: 20, ..Behavior::unlimited() },
        evaluation_interval: STEP,
        max_staleness: Duration::from_secs(1),
        training: TrainingSchedule {
            min_history: STEP * 3 * DAY as u32,
            interval: STEP * DAY as u32,
            max_history: STEP * 50 * DAY as u32,
        },
        startup_delay: Duration::from_secs(2),
        max_startup_delay: Duration::from_secs(4),
    }
}

fn seen(time_ms: i64, demand: f64) -> Observation {
    Observation {
        demand: Some(DemandSample { time: at(time_ms), demand, lower_bound: false }),
        capacity: 1.0,
        ready_replicas: 2,
        missing_metrics: 0,
        current_replicas: 2,
        startup_delays: vec![],
    }
}

/// Steps at `(now, sample time, demand)` in milliseconds; compares the window, NaN for a gap.
fn check_window(steps: &[(i64, i64, f64)], want: &[f64]) {
    let mut autoscaler = Autoscaler::new(settings());
    for &(now, time, demand) in steps {
        autoscaler.step(at(now), &seen(time, demand));
    }
    let got = autoscaler.window().values();
    let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
    assert!(got.len() == want.len() && got.iter().zip(want).all(same), "{got:?} is not {want:?}");
}

const GAP: f64 = f64::NAN;

#[test]
fn samples_land_on_the_grid_whatever_their_jitter() {
    check_window(&[(250, 250, 1.0), (500, 500, 2.0), (750, 750, 3.0)], &[1.0, 2.0, 3.0]);
    check_window(&[(250, 250, 1.0), (610, 605, 2.0), (720, 720, 3.0)], &[1.0, 2.0, 3.0]);
    check_window(&[(250, 250, 1.0), (1000, 1000, 4.0)], &[1.0, GAP, GAP, 4.0]);
    // The same sample again, an older one, and one from the future change nothing.
    let odd =
        [(250, 250, 1.0), (500, 500, 2.0), (600, 500, 9.0), (650, 400, 9.0), (700, 9_000, 9.0)];
    check_window(&odd, &[1.0, 2.0]);
    // A clock that runs 20 % fast is caught by the grid.
    let fast: Vec<_> = (1..=20).map(|i| (200 * i, 200 * i, i as f64)).collect();
    let mut autoscaler = Autoscaler::new(settings());
    fast.iter().for_each(|&(now, time, demand)| {
        autoscaler.step(at(now), &seen(time, demand));
    });
    assert!((15..=17).contains(&autoscaler.window().len()), "{}", autoscaler.window().len());
}

#[test]
fn what_cannot_be_demand_is_missing_and_holds() {
    for bad in [GAP, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
        let mut autoscaler = Autoscaler::new(settings());
        let decision = autoscaler.step(at(250), &seen(250, bad));
        assert_eq!((decision.basis, decision.signal), (Basis::Hold, Signal::Missing), "{bad}");
        assert!(autoscaler.window().is_empty());
    }
    let mut autoscaler = Autoscaler::new(settings());
    autoscaler.step(at(250), &seen(250, 0.1));
    let stale = autoscaler.step(at(1_300), &seen(250, 0.1));
    assert_eq!((stale.basis, stale.desired_replicas), (Basis::Hold, 2));
    assert_eq!(stale.signal, Signal::Stale { age_ms: 1_050 });
    // The same instant again, and an earlier one.
    for now in [1_300, 900] {
        assert_eq!(autoscaler.step(at(now), &seen(now, 0.1)).basis, Basis::Hold);
    }
    // Centuries later there is one step in the window, not a hole of centuries.
    let far = 9_000_000_000_000;
    autoscaler.step(at(far), &seen(far, 0.1));
    assert_eq!(autoscaler.window().len(), 1);
}

#[test]
fn the_window_is_bounded_and_restored() {
    let mut autoscaler = Autoscaler::new(settings());
    let history = Series::new(at(0), STEP, vec![1.0; 5_000]);
    autoscaler.restore(history.clone());
    // 50 days of 40 steps.
    assert_eq!((autoscaler.window().len(), autoscaler.window().end()), (2_000, history.end()));
    assert!(autoscaler.training_due(history.end()).is_some(), "history came with the restart");
    for i in 1..=1_000 {
        let now = (5_000 + i) * 250;
        autoscaler.step(at(now), &seen(now, 1.0));
    }
    assert!((2_000..=2_250).contains(&autoscaler.window().len()));
    assert_eq!(autoscaler.training_set().0.len(), 2_000);
    // A step of half the interval is averaged, any other is passed over.
    autoscaler.restore(Series::new(at(0), STEP / 2, vec![1.0, 3.0, 5.0, 7.0]));
    assert_eq!(autoscaler.window().values(), [2.0, 6.0]);
    autoscaler.restore(Series::new(at(0), Duration::from_secs(1), vec![1.0; 9]));
    assert_eq!(autoscaler.window().values(), [2.0, 6.0]);
}

/// Steps of 300 at which a training is due.
fn due(training: TrainingSchedule, load: impl Fn(usize) -> Option<f64>) -> Vec<usize> {
    let mut autoscaler = Autoscaler::new(Settings { training, ..settings() });
    let step = |&i: &usize| {
        let now = i as i64 * 250;
        let demand =
            load(i).map(|demand| DemandSample { time: at(now), demand, lower_bound: false });
        autoscaler.step(at(now), &Observation { demand, ..seen(now, 0.0) });
        autoscaler.training_due(at(now)).is_some()
    };
    (1..=300).filter(step).collect()
}

#[test]
fn saturated_steps_are_lower_bounds_of_the_window_also_after_a_restart() {
    let mut autoscaler = Autoscaler::new(settings());
    autoscaler.restore(
        Series::new(at(0), STEP / 2, vec![1.0, 3.0, 5.0, 7.0])
            .with_lower_bounds(vec![false, true, false, false]),
    );
    // The window holds two steps of half a second; the one at 1 000 ms is missed.
    for (time, lower_bound) in [(750, true), (1_250, false), (1_500, true)] {
        let mut seen = seen(time, 4.0);
        seen.demand.as_mut().unwrap().lower_bound = lower_bound;
        autoscaler.step(at(time), &seen);
    }
    let flags = [true, false, true, false, false, true];
    assert_eq!(autoscaler.window().lower_bounds(), Some(&flags[..]));
    assert_eq!(autoscaler.training_set().0.lower_bounds(), Some(&flags[..]));
}

#[test]
fn training_is_due_at_ten_samples_at_each_doubling_and_then_at_every_interval() {
    let steady = |_| Some(1.0);
    // 120 steps are `min_history`; from then on every 40.
    assert_eq!(due(settings().training, steady), [10, 20, 40, 80, 120, 160, 200, 240, 280]);
    // The interval applies before `min_history` too, where doubling takes longer.
    let often = TrainingSchedule { interval: STEP * 30, ..settings().training };
    assert_eq!(due(often, steady)[..6], [10, 20, 40, 70, 100, 120]);
    // Gaps are no samples; the window has 120 steps with the sample after the 122nd.
    let every_third = |i: usize| i.is_multiple_of(3).then_some(1.0);
    assert_eq!(due(settings().training, every_third)[..4], [30, 60, 100, 123]);
    let never = TrainingSchedule { interval: Duration::MAX, ..settings().training };
    assert_eq!(due(never, steady), [0; 0]);
    // ceil(4 s / 0.25 s) + 1 steps ahead.
    assert_eq!(Autoscaler::new(settings()).training_set().1.horizon, 17);
}

/// A history of `len` steps, its model, and an autoscaler that has both.
fn trained(len: usize, trained_at: i64) -> (Series, Model, Autoscaler) {
    let load =
        Workload { shape: Shape::Daily, step: STEP, day: DAY, days: 20, level: 8.0, noise: 0.03 };
    let history = load.series(5).slice(0..len);
    let mut autoscaler = Autoscaler::new(settings());
    autoscaler.restore(history.clone());
    let (_, options) = autoscaler.training_set();
    let now = history.end() + TimeDelta::milliseconds(trained_at);
    let model = train(now, &history, &options).expect("enough");
    (history, model, autoscaler)
}

#[test]
fn a_stored_model_is_used_from_the_first_decision_on() {
    let (history, model, mut autoscaler) = trained(400, 0);
    autoscaler.adopt(model);
    let now = history.end() + TimeDelta::milliseconds(250);
    let decision = autoscaler.step(now, &seen(now.timestamp_millis(), 8.0));
    assert!(decision.forecast.is_some(), "{}", decision.reason);
    // It is trained again an interval after its training, not at once.
    assert!(autoscaler.training_due(now).is_none());
    assert!(autoscaler.training_due(history.end() + TimeDelta::milliseconds(40 * 250)).is_some());
    // One that a wrong clock dated in the future is replaced at once.
    let (_, model, mut autoscaler) = trained(400, 1_000_000_000);
    autoscaler.adopt(model);
    assert!(autoscaler.training_due(now).is_some());
}

#[test]
fn a_cold_start_says_so_and_does_not_act() {
    let mut young = Autoscaler::new(settings());
    let decision = young.step(at(250), &seen(250, 1.0));
    assert_eq!(decision.notes, ["no model yet: 1 of 10 samples"]);
    for (steps, cold) in [(119, true), (120, false)] {
        let (history, model, mut autoscaler) = trained(steps, 0);
        autoscaler.adopt(model);
        let now = history.end() + TimeDelta::milliseconds(250);
        let decision = autoscaler.step(now, &seen(now.timestamp_millis(), 8.0));
        let note = format!("cold start: {steps} samples");
        assert_eq!(decision.notes, if cold { vec![note.clone()] } else { vec![] });
        assert_eq!(decision.trust.reason.starts_with("cold start"), cold, "{:?}", decision.trust);
        assert_eq!(autoscaler.learning().cold_start, cold.then_some(steps));
    }
}

#[test]
fn drift_costs_trust_at_once_and_brings_the_next_training_forward() {
    let (history, model, mut autoscaler) = trained(400, 0);
    autoscaler.adopt(model.clone());
    let load =
        Workload { shape: Shape::Daily, step: STEP, day: DAY, days: 20, level: 8.0, noise: 0.03 };
    let series = load.series(5);
    // As it was for two days, to win trust, and then five times as much.
    let mut last = None;
    let (mut trusted, mut alarmed) = (false, None);
    for t in 400..600 {
        let now = series.time_at(t + 1);
        let grown = if t < 480 { 1.0 } else { 5.0 };
        let demand = grown * series.values()[t];
        let decision = autoscaler.step(now, &seen(now.timestamp_millis(), demand));
        trusted |= decision.trust.trusted;
        if autoscaler.learning().drift.is_some() {
            alarmed = Some((t, now));
            last = Some(decision);
            break;
        }
        if t < 480 {
            autoscaler.asked = Some(Asked { at: now, points: 400, cold: false });
        }
    }
    assert!(trusted);
    let ((t, now), decision) = (alarmed.expect("drift"), last.expect("drift"));
    assert!((480..540).contains(&t), "{t}");
    assert!(!decision.trust.trusted, "{:?}", decision.trust);
    assert!(decision.notes[0].starts_with("drift since "), "{:?}", decision.notes);
    assert!(decision.trust.reason.ends_with("since the model drifted"), "{:?}", decision.trust);
    // A quarter of the interval of 40 steps is the soonest.
    let asked = now.max(series.time_at(480) + TimeDelta::milliseconds(10 * 250));
    assert!(autoscaler.training_due(asked).is_some());
    assert!(autoscaler.training_due(asked + TimeDelta::milliseconds(9 * 250)).is_none());
    assert!(autoscaler.training_due(asked + TimeDelta::milliseconds(10 * 250)).is_some());
    let mut kept = autoscaler.clone();
    kept.keep();
    autoscaler.adopt(model);
    assert_eq!((kept.learning().drift, autoscaler.learning().drift), (None, None));
    assert_eq!(history.len(), 400);
}

#[test]
fn startup_delays_are_measured_and_bounded() {
    let mut autoscaler = Autoscaler::new(settings());
    assert_eq!(autoscaler.startup_delay(), Duration::from_secs(2));
    for (i, measured) in [3, 60].into_iter().enumerate() {
        let now = 250 * (i as i64 + 1);
        let delays = vec![Duration::from_secs(measured)];
        autoscaler.step(at(now), &Observation { startup_delays: delays, ..seen(now, 1.0) });
        assert_eq!(autoscaler.startup_delay(), Duration::from_secs(measured.min(4)));
    }
}

/// A window of one second is four steps. Steps at these milliseconds; the threshold rule adds a
/// replica at the last one or not.
fn check_filled(steps: &[i64], filled: bool) {
    let mut autoscaler = Autoscaler::new(settings());
    let decisions = steps.iter().map(|&ms| autoscaler.step(at(ms), &seen(ms, 1.9)));
    let last = decisions.last().expect("a step");
    assert_eq!(last.desired_replicas, if filled { 3 } else { 2 }, "{steps:?}: {}", last.reason);
}

#[test]
fn missed_steps_do_not_keep_the_window_of_the_rule_from_filling() {
    check_filled(&[250, 500], false);
    check_filled(&[250, 500, 750, 1_000], true);
    check_filled(&[250, 750, 1_250], true);
    // A gap longer than the window starts it anew.
    check_filled(&[250, 500, 750, 1_000, 2_500], false);
}

#[test]
fn a_preview_is_the_next_step_and_changes_nothing() {
    let mut autoscaler = Autoscaler::new(settings());
    for i in 1..=8 {
        let (now, next) = (at(250 * i), seen(250 * i, 1.9));
        let before = format!("{autoscaler:?}");
        let preview = autoscaler.preview(now, &next);
        assert_eq!(format!("{autoscaler:?}"), before);
        assert_eq!(preview, autoscaler.step(now, &next));
    }
}

/// The demo in small: days of 40 steps, workers that need 8 steps. Trust must come within about a
/// day of the first model, and from then on the workers must be ready when the steep morning comes.
#[test]
fn a_compressed_day_is_learned_and_met() {
    let days = 12;
    let load =
        Workload { shape: Shape::Daily, step: STEP, day: DAY, days, level: 8.0, noise: 0.03 };
    let series = load.series(3);
    let mut autoscaler = Autoscaler::new(settings());
    let mut world = crate::simulator::world::World::new(2, 8);
    let (mut adopted, mut trusted, mut overloaded) = (None, None, vec![]);
    for t in 0..series.len() {
        world.begin(t);
        let demand = series.values()[t];
        let now = series.time_at(t + 1);
        let observation = Observation {
            ready_replicas: world.ready(),
            missing_metrics: 0,
            current_replicas: world.current(),
            ..seen(now.timestamp_millis(), demand)
        };
        let decision = autoscaler.step(now, &observation);
        let desired = decision.desired_replicas;
        if let Some((history, options)) = autoscaler.training_due(now)
            && let Ok(model) = train(now, &history, &options)
        {
            adopted = adopted.or(Some(t));
            autoscaler.adopt(model);
        }
        assert!(t >= 120 || !decision.trust.trusted, "a cold start never acts");
        if decision.trust.trusted {
            trusted = trusted.or(Some(t));
        }
        // The last five days are judged.
        if t >= 7 * DAY && demand > f64::from(world.ready()) {
            overloaded.push((t % DAY, demand, world.ready(), decision.reason));
        }
        world.order(t, desired);
    }
    // Doubling: 80 steps are the first that hold a model of 17 steps ahead and its calibration.
    assert!(adopted.is_some_and(|t| t <= 79), "{adopted:?}");
    assert!(trusted.is_some_and(|t| t <= 119 + DAY + 12), "trusted at {trusted:?}");
    assert!(overloaded.len() <= 6, "{} of 200 steps: {overloaded:#?}", overloaded.len());
}

#[test]
fn a_peer_remembers_what_its_rule_asked_for() {
    let reactive = TargetTracking { target_utilization: 0.5, signal: SignalKind::Demand };
    let policy = Policy::Phpa(Phpa { reactive, ..Phpa::default() });
    let mut autoscaler = Autoscaler::new(Settings { policy, ..settings() });
    // The rule asks for 2, 4 and 6, one step apart; the lookahead of a start is nine steps. The
    // maximum of replicas is 20.
    let steps = [(250, 1.0, 2), (500, 2.0, 20), (750, 3.0, 20)];
    for (now, demand, want) in steps {
        let decision = autoscaler.step(at(now), &seen(now, demand));
        assert_eq!(decision.desired_replicas, want, "{decision:#?}");
        assert_eq!(decision.without_forecast, 2 * demand as u32);
    }
}
