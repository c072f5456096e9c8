//! Pure: tests of the planner's order, of each rule and of each limit.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::stabilization::History;
use super::target_tracking::{SignalKind, TargetTracking};
use super::threshold::Threshold;
use super::*;

mod hpa;
mod kubernetes;
mod peers;
mod scheduled;

fn at(seconds: i64) -> Time {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn fresh(demand: f64) -> Signal {
    Signal::Fresh { demand, lower_bound: false, age_ms: 0 }
}

/// A forecast whose peak is `mid` at the median, `mid` / 2 at 0.1 and 2 x `mid` at 0.9, over ten
/// steps of 1 s.
fn forecast(mid: f64) -> Forecast {
    let paths: Vec<Vec<f64>> = [0.5, 1.0, 2.0].iter().map(|k| vec![k * mid; 10]).collect();
    Forecast {
        method: Method::Regression,
        origin: at(1000),
        step_ms: 1000,
        quantiles: vec![0.1, 0.5, 0.9],
        point: paths[1].clone(),
        peaks: paths.clone(),
        paths,
    }
}

/// Everything that an input borrows, with quiet defaults: capacity 1, two ready replicas, no limit.
#[derive(Debug, Clone)]
struct World {
    policy: Policy,
    signal: Signal,
    capacity: f64,
    ready: u32,
    missing: u32,
    current: u32,
    utilization_window: Option<f64>,
    forecast: Option<Forecast>,
    planning_quantile: f64,
    trust: Trust,
    history: History,
    peers: super::peers::Memory,
    behavior: Behavior,
    fallback: Threshold,
}

fn predictive() -> World {
    World {
        policy: Policy::Predictive(predictive::Predictive { overload_budget: 0.01 }),
        signal: fresh(1.0),
        capacity: 1.0,
        ready: 2,
        missing: 0,
        current: 2,
        utilization_window: Some(0.5),
        forecast: Some(forecast(3.0)),
        planning_quantile: 0.5,
        trust: Trust { trusted: true, skill: Some(0.4), evidence: 90, reason: String::new() },
        history: History::default(),
        peers: super::peers::Memory::default(),
        behavior: Behavior { max_replicas: 100, ..Behavior::unlimited() },
        fallback: Threshold::default(),
    }
}

fn target_tracking(target: f64, signal: SignalKind, demand: f64, ready: u32) -> World {
    World {
        policy: Policy::TargetTracking(TargetTracking { target_utilization: target, signal }),
        signal: fresh(demand),
        ready,
        current: ready,
        behavior: Behavior { max_replicas: 1000, ..Behavior::kubernetes() },
        ..predictive()
    }
}

impl World {
    fn plan(&self) -> Decision {
        self.plan_at(at(1000))
    }

    fn plan_at(&self, now: Time) -> Decision {
        let input = PlanInput {
            now,
            signal: self.signal,
            capacity: self.capacity,
            ready_replicas: self.ready,
            missing_metrics: self.missing,
            current_replicas: self.current,
            utilization_window: self.utilization_window,
            forecast: self.forecast.as_ref(),
            lookahead: Duration::from_secs(3),
            planning_quantile: self.planning_quantile,
            trust: &self.trust,
            history: &self.history,
            peers: &self.peers,
            behavior: &self.behavior,
            fallback: &self.fallback,
        };
        plan(&self.policy, &input)
    }
}

/// Desired count, what it would have been without the forecast, and the basis.
fn check(world: &World, desired: u32, without_forecast: u32, basis: Basis) {
    let got = world.plan();
    assert_eq!(
        (got.desired_replicas, got.without_forecast, got.basis),
        (desired, without_forecast, basis),
        "{got:#?}"
    );
    let mut from = got.recommendation;
    for limit in got.limits.iter().filter(|l| l.limit != Limit::Tolerance) {
        assert_eq!(limit.before, from, "the limits are a chain: {got:#?}");
        from = limit.after;
    }
    assert_eq!(from, got.desired_replicas, "{got:#?}");
}

#[test]
fn a_trusted_forecast_decides_both_ways() {
    // Peak 3.0 at the median over capacity 1.
    check(&predictive(), 3, 2, Basis::Forecast);
    check(&World { planning_quantile: 0.9, ..predictive() }, 6, 2, Basis::Forecast);
    check(&World { forecast: Some(forecast(0.8)), ..predictive() }, 1, 2, Basis::Forecast);
    check(&World { capacity: 0.7, ..predictive() }, 5, 2, Basis::Forecast);
    let reason = predictive().plan().reason;
    assert_eq!(
        reason, "forecast: peak 3.000 (0.5000 quantile) within 3.0 s needs 3; 2 now",
        "people read this"
    );
}

#[test]
fn without_trust_or_forecast_the_threshold_decides() {
    let mut untrusted = predictive();
    untrusted.trust.trusted = false;
    check(&untrusted, 2, 2, Basis::Reactive);
    check(&World { utilization_window: Some(0.81), ..untrusted.clone() }, 3, 3, Basis::Reactive);
    check(&World { utilization_window: Some(0.19), ..untrusted.clone() }, 1, 1, Basis::Reactive);
    check(&World { utilization_window: None, ..untrusted }, 2, 2, Basis::Reactive);
    check(&World { forecast: None, ..predictive() }, 2, 2, Basis::Reactive);
    let empty = Forecast { peaks: vec![], ..forecast(3.0) };
    check(&World { forecast: Some(empty), ..predictive() }, 2, 2, Basis::Reactive);
}

#[test]
fn below_full_load_the_rules_do_not_undo_each_other() {
    // Utilization 0.95 would add one by the threshold, but the trusted forecast knows that 2 carry
    // it.
    let busy = World {
        signal: fresh(1.9),
        utilization_window: Some(0.95),
        forecast: Some(forecast(1.95)),
        ..predictive()
    };
    check(&busy, 2, 3, Basis::Forecast);
}

#[test]
fn a_low_forecast_never_starves_a_loaded_service() {
    let low = World { forecast: Some(forecast(0.5)), ..predictive() };
    // 3.4 of demand on two replicas needs four, whatever is forecast.
    let loaded = World { signal: fresh(3.4), utilization_window: Some(1.7), ..low.clone() };
    check(&loaded, 4, 3, Basis::Reactive);
    // Two of the four are starting already: nothing is ordered twice, nothing is taken away.
    check(
        &World { current: 4, utilization_window: Some(0.85), ..loaded.clone() },
        1,
        5,
        Basis::Forecast,
    );
    // Saturated workers show 2.0, which is no ceiling.
    let saturated = Signal::Fresh { demand: 2.0, lower_bound: true, age_ms: 0 };
    check(
        &World { signal: saturated, utilization_window: Some(1.0), ..low },
        3,
        3,
        Basis::Reactive,
    );
}

#[test]
fn missing_data_holds_and_never_scales_down() {
    for signal in [Signal::Missing, Signal::Stale { age_ms: 90_000 }] {
        let quiet = World {
            signal,
            utilization_window: Some(0.0),
            forecast: Some(forecast(0.1)),
            current: 5,
            ..predictive()
        };
        check(&quiet, 5, 5, Basis::Hold);
        let mut bounded = quiet.clone();
        bounded.behavior.max_replicas = 3;
        check(&bounded, 5, 5, Basis::Hold);
        bounded.behavior = Behavior { min_replicas: 7, max_replicas: 9, ..Behavior::unlimited() };
        check(&bounded, 7, 7, Basis::Hold);
        check(&World { policy: Policy::Static { replicas: 2 }, ..quiet }, 2, 2, Basis::Reactive);
    }
    check(&World { capacity: 0.0, ..predictive() }, 2, 2, Basis::Hold);
    check(&World { capacity: f64::NAN, ..predictive() }, 2, 2, Basis::Hold);
}

#[test]
fn bounds_come_last_and_say_so() {
    let mut world = World { planning_quantile: 0.9, ..predictive() };
    world.behavior.max_replicas = 4;
    check(&world, 4, 2, Basis::Forecast);
    assert!(world.plan().reason.ends_with("2 now, 4 by max_replicas"), "{}", world.plan().reason);
    world.behavior.min_replicas = 3;
    world.forecast = Some(forecast(0.1));
    check(&world, 3, 3, Basis::Forecast);
    // A huge forecast saturates and is cut.
    world.forecast = Some(forecast(1e300));
    check(&world, 4, 3, Basis::Forecast);
}

/// Feedback of the window on itself would hold its own maximum for ever: the count must follow the
/// load down.
#[test]
fn a_closed_loop_converges_and_stays() {
    let mut world = target_tracking(0.7, SignalKind::Demand, 7.0, 1);
    let mut counts = vec![];
    for tick in 0..120 {
        let now = at(1000 + 15 * tick);
        world.signal = fresh(if tick < 40 { 7.0 } else { 1.4 });
        world.history.observe(now, world.current);
        let decision = world.plan_at(now);
        world.history.record(now, decision.recommendation, Duration::from_secs(300));
        world.current = decision.desired_replicas;
        world.ready = world.current;
        counts.push(world.current);
    }
    // 7.0 / 0.7 = 10 and 1.4 / 0.7 = 2; one of tolerance may remain. 20 ticks are the window of 300
    // s.
    assert!(counts[10..40].iter().all(|&n| n == counts[10] && (9..=11).contains(&n)), "{counts:?}");
    assert!(counts[62..].iter().all(|&n| n == counts[62] && (2..=3).contains(&n)), "{counts:?}");
}

proptest! {
    #[test]
    fn no_input_escapes_the_bounds_or_scales_down_on_doubt(
        demand in prop_oneof![0.0..1e12f64, Just(0.0), Just(f64::MAX)],
        state in 0..4u8,
        capacity in prop_oneof![1e-9..1e9f64, Just(0.0), Just(f64::NAN), Just(f64::INFINITY)],
        (ready, starting, missing) in (0..500u32, 0..500u32, 0..9u32),
        utilization in prop::option::of(prop_oneof![0.0..50.0f64, Just(f64::INFINITY)]),
        mid in prop::option::of(prop_oneof![0.0..1e9f64, Just(f64::MAX)]),
        (min, extra) in (0..50u32, 0..500u32),
        q in 0.0..1.0f64,
        policy in 0..7u8,
    ) {
        let signal = match state {
            0 => Signal::Missing,
            1 => Signal::Stale { age_ms: u64::MAX },
            s => Signal::Fresh { demand, lower_bound: s == 2, age_ms: 0 },
        };
        let base = target_tracking(0.7, SignalKind::Cpu, 1.0, 1);
        let policy = match policy {
            0 => Policy::Static { replicas: 3 },
            1 => Policy::Threshold(Threshold::default()),
            2 => base.policy,
            3 => Policy::Phpa(super::phpa::Phpa::default()),
            4 => Policy::AwsPredictive(super::aws_predictive::AwsPredictive::default()),
            5 => Policy::AverageValue(super::average_value::AverageValue {
                target: 0.7,
                of: super::average_value::Metric::Total,
            }),
            _ => predictive().policy,
        };
        let (forecast, trusted) = (mid.map(forecast), mid.is_some());
        let world = World {
            policy, signal, capacity, ready, missing, current: ready + starting, forecast,
            utilization_window: utilization, planning_quantile: q,
            trust: Trust { trusted, ..predictive().trust },
            behavior: Behavior { min_replicas: min, max_replicas: min + extra, ..base.behavior },
            ..predictive()
        };
        let got = world.plan();
        prop_assert!(got.desired_replicas >= min);
        prop_assert!(got.desired_replicas <= (min + extra).max(world.current));
        if got.basis == Basis::Hold {
            prop_assert!(got.desired_replicas >= world.current);
            prop_assert!(got.without_forecast >= world.current);
        } else {
            prop_assert!(got.desired_replicas <= min + extra);
        }
    }
}
