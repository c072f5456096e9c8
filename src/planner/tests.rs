//! Pure: tests of the planner's order, of each rule and of each limit.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::rate_limit::{Change, RateLimit, RateLimits};
use super::stabilization::History;
use super::target_tracking::{SignalKind, TargetTracking};
use super::threshold::Threshold;
use super::*;
use crate::forecast::Method;

mod by_forecast;
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

/// A forecast of `mid` at the median, `mid` / 2 at 0.1 and 2 x `mid` at 0.9, over ten steps of 1 s.
/// Above the median the chance that it is exceeded falls by the factor 5 for each `mid`.
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
    price: f64,
    regret: f64,
    trust: Trust,
    history: History,
    peers: super::peers::Memory,
    behavior: Behavior,
    fallback: Threshold,
}

fn predictive() -> World {
    World {
        policy: Policy::Predictive(predictive::Predictive::default()),
        signal: fresh(1.0),
        capacity: 1.0,
        ready: 2,
        missing: 0,
        current: 2,
        utilization_window: Some(0.5),
        forecast: Some(forecast(3.0)),
        price: 4.0,
        regret: 100.0,
        trust: Trust {
            trusted: true,
            doubted: false,
            skill: Some(0.4),
            evidence: 90,
            reason: String::new(),
        },
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
            prices: Prices {
                overload: self.price,
                // As of a budget of 1 %.
                overload_larger_budget: self.price / 2.0,
                change: 10.0,
                start: 2.0,
            },
            regret: Regret(self.regret),
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
fn without_trust_or_forecast_the_threshold_decides() {
    let mut untrusted = predictive();
    untrusted.trust.trusted = false;
    check(&untrusted, 2, 2, Basis::Reactive);
    check(&World { utilization_window: Some(0.81), ..untrusted.clone() }, 3, 3, Basis::Reactive);
    check(&World { utilization_window: Some(0.19), ..untrusted.clone() }, 1, 1, Basis::Reactive);
    check(&World { utilization_window: None, ..untrusted }, 2, 2, Basis::Reactive);
    check(&World { forecast: None, ..predictive() }, 2, 2, Basis::Reactive);
    let empty = Forecast { paths: vec![], ..forecast(3.0) };
    check(&World { forecast: Some(empty), ..predictive() }, 2, 2, Basis::Reactive);
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
fn a_hold_keeps_what_was_desired_not_what_is_left_of_it() {
    let signal = Signal::Doubted { zero_ms: 15_000 };
    let mut died = World { signal, current: 1, ..predictive() };
    died.history.decided(5);
    // Neither windows nor rate limits slow down a replacement: the five passed them before.
    died.behavior.stabilization_window.up = Duration::from_secs(300);
    died.history.record(at(900), 1, Duration::from_secs(300));
    let period = Duration::from_secs(60);
    let limits = vec![RateLimit { most: Change::Replicas(1), period }];
    died.behavior.rate_limits.up = RateLimits { limits, ..RateLimits::default() };
    check(&died, 5, 5, Basis::Hold);
    let reason = "hold: demand fell to exactly 0 at once 15.0 s ago, which is doubted; 1 now";
    assert_eq!(died.plan().reason, reason);
    // The maximum was lowered since.
    died.behavior.max_replicas = 4;
    check(&died, 4, 4, Basis::Hold);
}

#[test]
fn the_threshold_takes_no_step_down_that_it_would_take_back() {
    let check = |up, current: u32, step, utilization, want| {
        let rule = Threshold { step, up, down: 0.3, ..Threshold::default() };
        let (policy, utilization_window) = (Policy::Threshold(rule), Some(utilization));
        let world = World { policy, current, utilization_window, ..predictive() };
        check(&world, want, want, Basis::Reactive);
    };
    // 4 x 0.25 = 1.0 of demand: on one replica 100 %, on two 50 %.
    check(0.8, 4, 3, 0.25, 2);
    check(0.8, 4, 1, 0.25, 3);
    // 5 x 0.17 = 0.85 is above 80 % of one replica.
    check(0.8, 5, 4, 0.17, 2);
    check(0.8, 5, 9, 0.0, 1);
    check(0.8, 4, 3, 0.1, 1);
    // 4 x 0.23 = 0.92 is below 95 % of one replica, but its CPU could not be told from full.
    check(0.95, 4, 3, 0.23, 2);
}

#[test]
fn bounds_come_last_and_say_so() {
    let mut world = World { price: 40.0, ..predictive() };
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
        (price, regret) in (0.0..1e6f64, 0.0..1e3f64),
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
            utilization_window: utilization, price, regret,
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
