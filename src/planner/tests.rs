//! Pure: tests of the planner's order, of each rule and of each limit.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::stabilization::History;
use super::target_tracking::{SignalKind, TargetTracking};
use super::threshold::Threshold;
use super::*;

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
    current: u32,
    utilization_window: Option<f64>,
    forecast: Option<Forecast>,
    price: f64,
    regret: f64,
    trust: Trust,
    history: History,
    behavior: Behavior,
    fallback: Threshold,
}

fn predictive() -> World {
    World {
        policy: Policy::Predictive(predictive::Predictive::default()),
        signal: fresh(1.0),
        capacity: 1.0,
        ready: 2,
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
            current_replicas: self.current,
            utilization_window: self.utilization_window,
            forecast: self.forecast.as_ref(),
            lookahead: Duration::from_secs(3),
            prices: Prices { overload: self.price, change: 10.0, start: 2.0 },
            regret: Regret(self.regret),
            trust: &self.trust,
            history: &self.history,
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
    // At price 4 a fourth replica saves 4 x 0.5 x (1 - 5^(-1/3)) = 0.83: less than it costs.
    check(&predictive(), 3, 2, Basis::Forecast);
    // At price 40 the sixth saves 40 x 0.5 x (5^(-2/3) - 5^(-1)) = 2.8, the seventh 1.66, the
    // eighth 0.97.
    check(&World { price: 40.0, ..predictive() }, 7, 2, Basis::Forecast);
    // 1 replica leaves a risk of 0.5 x 5^(-1/4) = 0.334, 2 leave 0.5 x 5^(-3/2) = 0.045: worth 0.87
    // at price 3.
    let low = World { forecast: Some(forecast(0.8)), price: 3.0, ..predictive() };
    check(&low, 1, 2, Basis::Forecast);
    // 5 carry 3.5; another saves 4 x 0.5 x (5^(-1/6) - 5^(-0.4)) = 0.48.
    check(&World { capacity: 0.7, ..predictive() }, 5, 2, Basis::Forecast);
    let reason = predictive().plan().reason;
    assert_eq!(
        reason,
        "forecast: demand peaks at 3.000 (up to 6.000) within 3.0 s, 3 carry it with 50.00 % risk; \
         2 now",
        "people read this"
    );
}

#[test]
fn a_change_waits_until_staying_has_cost_as_much() {
    let mut world =
        World { current: 6, ready: 6, regret: 0.0, forecast: Some(forecast(3.0)), ..predictive() };
    // A change is worth 10, the start of each of 3 replicas 2: 16. Each step with 3 too many costs
    // 3, so the sixth brings it to 18.
    let mut counts = vec![];
    for _ in 0..6 {
        let decision = world.plan();
        world.regret = decision.forecast.map_or(0.0, |used| used.regret);
        counts.push(decision.desired_replicas);
    }
    assert_eq!(counts, [6, 6, 6, 6, 6, 3]);
    assert_eq!(world.regret, 0.0);
    // Upwards at price 40 staying with 2 costs 2 + 40 x 0.9 x (5 / 9)^(1/3) = 31.6, seven cost 7 +
    // 40 x 0.5 x 5^(-4/3) = 9.3: the difference pays for a change at once.
    let short = World { current: 2, ready: 2, price: 40.0, ..world.clone() };
    check(&short, 7, 2, Basis::Forecast);
    let waiting = world.plan().reason;
    assert!(waiting.contains("3 would do but do not pay yet (19 % of a change)"), "{waiting}");
}

#[test]
fn what_is_needed_before_a_start_could_be_back_is_kept() {
    // Demand falls from 5 to 1 at the third step: the lookahead has three, so only the last may be
    // planned for going up, but going down the first two count.
    let mut dropping = forecast(1.0);
    for path in &mut dropping.paths {
        path[0] *= 5.0;
        path[1] *= 5.0;
    }
    let up = World { forecast: Some(dropping.clone()), price: 0.0, ..predictive() };
    check(&World { current: 1, ready: 1, ..up.clone() }, 1, 1, Basis::Forecast);
    check(&World { current: 4, ready: 4, ..up.clone() }, 4, 4, Basis::Forecast);
    check(&World { current: 9, ready: 9, ..up }, 5, 9, Basis::Forecast);
}

#[test]
fn a_doubted_forecast_goes_on_but_the_rule_wins_upwards() {
    let mut doubted = predictive();
    (doubted.trust.trusted, doubted.trust.doubted) = (false, true);
    check(&doubted, 3, 2, Basis::Forecast);
    let low = World { forecast: Some(forecast(0.8)), price: 3.0, ..doubted };
    check(&low, 1, 2, Basis::Forecast);
    check(&World { utilization_window: Some(0.81), ..low }, 3, 3, Basis::Reactive);
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
fn below_full_load_the_rules_do_not_undo_each_other() {
    // Utilization 0.95 would add one by the threshold, but the trusted forecast knows that a third
    // saves 3 x 0.5 x (5^(-0.05 / 1.95) - 5^(-1.05 / 1.95)) = 0.81 only.
    let busy = World {
        signal: fresh(1.9),
        utilization_window: Some(0.95),
        forecast: Some(forecast(1.95)),
        price: 3.0,
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
fn a_hold_keeps_what_was_desired_not_what_is_left_of_it() {
    let signal = Signal::Doubted { zero_ms: 15_000 };
    let mut died = World { signal, current: 1, ..predictive() };
    died.history.decided(5);
    // Neither windows nor rate limits slow down a replacement: the five passed them before.
    died.behavior.stabilization_window.up = Duration::from_secs(300);
    died.history.record(at(900), 1, Duration::from_secs(300));
    let period = Duration::from_secs(60);
    died.behavior.rate_limits.up = vec![RateLimit { replicas: 1, fraction: 0.0, period }];
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
fn target_tracking_is_the_hpa() {
    use SignalKind::{Cpu, Demand};
    let check = |world: World, want: u32| check(&world, want, want, Basis::Reactive);
    // ceil(4 x 0.9 / 0.6) = 6; ceil(4 x 0.3 / 0.6) = 2.
    check(target_tracking(0.6, Demand, 3.6, 4), 6);
    check(target_tracking(0.6, Demand, 1.2, 4), 2);
    // Ratios 1.1 and 0.9 are inside the tolerance, 1.12 is not: ceil(5 x 1.12) = 6.
    check(target_tracking(0.5, Demand, 2.75, 5), 5);
    check(target_tracking(0.5, Demand, 2.25, 5), 5);
    check(target_tracking(0.5, Demand, 2.8, 5), 6);
    // Demand 12 on 4: utilization 3 wants 4 x 3 / 0.5 = 24, CPU shows 1 and wants 8. Doubling
    // allows 8 of both.
    check(target_tracking(0.5, Cpu, 12.0, 4), 8);
    check(target_tracking(0.5, Demand, 12.0, 4), 8);
    check(World { behavior: Behavior::unlimited(), ..target_tracking(0.5, Demand, 12.0, 4) }, 24);
    // Two ready at 0.9 and two starting: (2 x 0.9 + 2 x 0) / 4 / 0.5 = 0.9 turns round, so nothing
    // changes.
    check(World { current: 4, ..target_tracking(0.5, Demand, 1.8, 2) }, 4);
    // Two ready at 1.5, one starting: 3.0 / 3 / 0.5 = 2, times three = 6.
    check(World { current: 3, ..target_tracking(0.5, Demand, 3.0, 2) }, 6);
    // Going down, starting replicas do not count: ceil(2 x 0.1 / 0.5) = 1.
    check(World { current: 4, ..target_tracking(0.5, Demand, 0.2, 2) }, 1);
    check(World { current: 3, ..target_tracking(0.5, Demand, 9.0, 0) }, 3);
    // From nothing, which the HPA never leaves, the first replica shows what else is needed.
    let to_zero = Behavior { min_replicas: 0, ..Behavior::kubernetes() };
    check(World { behavior: to_zero, ..target_tracking(0.5, Demand, 9.0, 0) }, 1);
}

#[test]
fn stabilization_looks_back_over_recommendations() {
    let mut world = target_tracking(0.5, SignalKind::Demand, 1.0, 4);
    let keep = Duration::from_secs(300);
    // Three were recommended 299 s ago, nine 300 s ago: the start of the window is outside.
    world.history.record(at(700), 9, keep);
    world.history.record(at(701), 3, keep);
    check(&world, 3, 3, Basis::Reactive);
    // The highest of the window is above the current count: stay.
    world.history.record(at(800), 6, keep);
    check(&world, 4, 4, Basis::Reactive);
    let stages: Vec<Limit> = world.plan().limits.iter().map(|l| l.limit).collect();
    assert_eq!(stages, [Limit::Stabilization]);
    // Upwards with a window: the lowest of it is the most that may be added.
    world.signal = fresh(4.0);
    world.behavior.stabilization_window.up = Duration::from_secs(250);
    check(&world, 6, 6, Basis::Reactive);
}

#[test]
fn rate_limits_count_from_the_start_of_their_period() {
    let rate = |replicas, fraction, period| RateLimit {
        replicas,
        fraction,
        period: Duration::from_secs(period),
    };
    let check = |current, up: &[RateLimit], down: &[RateLimit], target, want| {
        let mut world =
            World { current, policy: Policy::Static { replicas: target }, ..predictive() };
        world.behavior.rate_limits = Bidirectional { up: up.to_vec(), down: down.to_vec() };
        // Two were added 30 s ago, and seen so 20 s ago.
        world.history.observe(at(970), current.saturating_sub(2));
        world.history.observe(at(980), current);
        assert_eq!(world.plan().desired_replicas, want, "{current} to {target}");
    };
    // Nothing of the period yet used, as the change is older than 15 s: max(10 + 4, 10 x 2).
    check(10, &[rate(4, 1.0, 15)], &[], 100, 20);
    // In 60 s two of four are used: 10 - 2 + 4 = 12.
    check(10, &[rate(4, 0.0, 60)], &[], 100, 12);
    // Of several limits the one that allows the most applies.
    check(10, &[rate(1, 0.0, 60), rate(4, 0.0, 60)], &[], 100, 12);
    // More was added than is allowed: stay, but do not go back.
    check(10, &[rate(1, 0.0, 60)], &[], 100, 10);
    // 10 % of 72 leaves trunc(64.8) = 64.
    check(72, &[], &[rate(0, 0.1, 15)], 1, 64);
    check(10, &[], &[rate(3, 0.1, 15)], 1, 7);
    // No limit in the other direction.
    check(10, &[rate(1, 0.0, 60)], &[], 1, 1);
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
        (ready, starting) in (0..500u32, 0..500u32),
        utilization in prop::option::of(prop_oneof![0.0..50.0f64, Just(f64::INFINITY)]),
        mid in prop::option::of(prop_oneof![0.0..1e9f64, Just(f64::MAX)]),
        (min, extra) in (0..50u32, 0..500u32),
        (price, regret) in (0.0..1e6f64, 0.0..1e3f64),
        policy in 0..4u8,
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
            _ => predictive().policy,
        };
        let (forecast, trusted) = (mid.map(forecast), mid.is_some());
        let world = World {
            policy, signal, capacity, ready, current: ready + starting, forecast,
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
