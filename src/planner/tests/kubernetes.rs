//! Pure: what the Kubernetes HPA v2 would do, with the derivation of every number.

use super::super::average_value::{AverageValue, Metric};
use super::super::rate_limit::{Change, RateLimit, RateLimits, Select};
use super::SignalKind::{Cpu, Demand};
use super::*;

/// The world's desired count, on the way of a rule that needs no forecast.
#[track_caller]
fn check(world: &World, want: u32) {
    super::check(world, want, want, Basis::Reactive);
}

fn average_value(target: f64, of: Metric, demand: f64, ready: u32) -> World {
    let policy = Policy::AverageValue(AverageValue { target, of });
    World { policy, ..target_tracking(0.5, Demand, demand, ready) }
}

#[test]
fn target_tracking_is_the_ratio_rounded_up() {
    // ceil(4 x 0.9 / 0.6) = 6; ceil(4 x 0.3 / 0.6) = 2.
    check(&target_tracking(0.6, Demand, 3.6, 4), 6);
    check(&target_tracking(0.6, Demand, 1.2, 4), 2);
    // Ratios 1.1 and 0.9 are inside the tolerance, 1.12 is not: ceil(5 x 1.12) = 6.
    check(&target_tracking(0.5, Demand, 2.75, 5), 5);
    check(&target_tracking(0.5, Demand, 2.25, 5), 5);
    check(&target_tracking(0.5, Demand, 2.8, 5), 6);
    // Demand 12 on 4: utilization 3 wants 4 x 3 / 0.5 = 24, CPU shows 1 and wants 8. Doubling
    // allows 8 of both.
    check(&target_tracking(0.5, Cpu, 12.0, 4), 8);
    check(&target_tracking(0.5, Demand, 12.0, 4), 8);
    let free = Behavior { max_replicas: 99, ..Behavior::unlimited() };
    check(&World { behavior: free, ..target_tracking(0.5, Demand, 12.0, 4) }, 24);
    // A target above what is requested: ceil(4 x 1.8 / 1.5) = ceil(4.8) = 5.
    check(&target_tracking(1.5, Demand, 7.2, 4), 5);
}

#[test]
fn each_direction_has_its_tolerance() {
    let with = |up, down, demand| {
        let mut world = target_tracking(0.5, Demand, demand, 10);
        world.behavior.tolerance = Bidirectional { up, down };
        world
    };
    // Ratio 5.4 / 10 / 0.5 = 1.08: ceil(10.8) = 11 beyond 5 %, inside 10 %.
    check(&with(0.05, 0.3, 5.4), 11);
    check(&with(0.1, 0.3, 5.4), 10);
    // Ratio 0.8: 8 beyond 10 %, inside 30 %.
    check(&with(0.05, 0.1, 4.0), 8);
    check(&with(0.05, 0.3, 4.0), 10);
}

#[test]
fn starting_replicas_are_idle_on_the_way_up_and_absent_on_the_way_down() {
    // Two ready at 0.9 and two starting: (2 x 0.9 + 2 x 0) / 4 / 0.5 = 0.9 turns round: keep.
    check(&World { current: 4, ..target_tracking(0.5, Demand, 1.8, 2) }, 4);
    // Two ready at 1.5, one starting: 3.0 / 3 / 0.5 = 2, times three = 6.
    check(&World { current: 3, ..target_tracking(0.5, Demand, 3.0, 2) }, 6);
    // Down, starting ones do not count: ceil(2 x 0.1 / 0.5) = ceil(0.4) = 1.
    check(&World { current: 4, ..target_tracking(0.5, Demand, 0.2, 2) }, 1);
    // None is ready, so there is no metric.
    check(&World { current: 3, ..target_tracking(0.5, Demand, 9.0, 0) }, 3);
}

#[test]
fn missing_metrics_soften_a_step_and_never_turn_it_round() {
    let missing = |missing, world: World| World { missing, ..world };
    // Three of four measured at 0.8, ratio 1.6, the fourth at 0 %: 2.4 / 4 / 0.5 = 1.2, ceil(4.8).
    check(&missing(1, target_tracking(0.5, Demand, 2.4, 4)), 5);
    // At 0.6, ratio 1.2: 1.8 / 4 / 0.5 = 0.9 turns round.
    check(&missing(1, target_tracking(0.5, Demand, 1.8, 4)), 4);
    // Down, at 0.1, the fourth at 100 %: (0.3 + 1) / 4 / 0.5 = 0.65, ceil(2.6) = 3.
    check(&missing(1, target_tracking(0.5, Demand, 0.3, 4)), 3);
    // At 0.4, ratio 0.8: (1.2 + 1) / 4 / 0.5 = 1.1 turns round.
    check(&missing(1, target_tracking(0.5, Demand, 1.2, 4)), 4);
    // A target above 100 % stands in for it: (3 x 0.3 + 1.5) / 4 / 1.5 = 0.4, ceil(1.6) = 2.
    check(&missing(1, target_tracking(1.5, Demand, 0.9, 4)), 2);
    // Both missing and starting, up: 3.6 / 6 / 0.5 = 1.2, ceil(7.2) = 8.
    check(&World { missing: 1, current: 6, ..target_tracking(0.5, Demand, 3.6, 4) }, 8);
    // None is measured, and more missing than ready is no more than all.
    check(&missing(4, target_tracking(0.5, Demand, 9.0, 4)), 4);
    check(&missing(9, target_tracking(0.5, Demand, 9.0, 4)), 4);
}

#[test]
fn average_value_is_in_the_unit_of_demand() {
    // 300 on 4 is 75 for each, against 50: ceil(4 x 1.5) = 6.
    check(&average_value(50.0, Metric::Pods, 300.0, 4), 6);
    // A missing one counts as the target on the way down: (3 x 10 + 50) / 4 / 50 = 0.4, ceil(1.6).
    check(&World { missing: 1, ..average_value(50.0, Metric::Pods, 30.0, 4) }, 2);
    // CPU is clipped at capacity 1: 4 x 1 / 0.8 = 5, however much is asked for.
    check(&average_value(0.8, Metric::Cpu, 30.0, 4), 5);
    // A total: ceil(320 / 50) = 7, beyond 10 % of 50 x 4; 215 / 200 is within it.
    check(&average_value(50.0, Metric::Total, 320.0, 4), 7);
    check(&average_value(50.0, Metric::Total, 215.0, 4), 4);
    // It asks no replica, so none need be ready.
    check(&World { ready: 0, ..average_value(50.0, Metric::Total, 320.0, 4) }, 7);
}

#[test]
fn from_zero_there_is_no_tolerance_and_outside_the_bounds_no_metric() {
    let bounded = |min_replicas, max_replicas, mut world: World| {
        let bounds = Behavior { min_replicas, max_replicas, ..Behavior::kubernetes() };
        world.behavior = bounds;
        world
    };
    // 1.1 / 0.5 = 2.2: 3; 0.52 of 0.5 is within 10 % and needs 2 all the same.
    check(&bounded(0, 9, target_tracking(0.5, Demand, 1.1, 0)), 3);
    check(&bounded(0, 9, target_tracking(0.5, Demand, 0.52, 0)), 2);
    check(&bounded(0, 9, target_tracking(0.5, Demand, 0.0, 0)), 0);
    check(&bounded(0, 9, average_value(50.0, Metric::Total, 101.0, 0)), 3);
    // 4.0 / 4 / 0.5 would be 8; below the minimum it goes there first, above the maximum too.
    check(&bounded(5, 9, target_tracking(0.5, Demand, 4.0, 4)), 5);
    check(&bounded(1, 3, target_tracking(0.5, Demand, 0.1, 4)), 3);
}

#[test]
fn stabilization_looks_back_over_recommendations() {
    let mut world = target_tracking(0.5, Demand, 1.0, 4);
    let keep = Duration::from_secs(300);
    // Three were recommended 299 s ago, nine 300 s ago: the start of the window is outside.
    world.history.record(at(700), 9, keep);
    world.history.record(at(701), 3, keep);
    check(&world, 3);
    // The highest of the window is above the current count: stay.
    world.history.record(at(800), 6, keep);
    check(&world, 4);
    let stages: Vec<Limit> = world.plan().limits.iter().map(|l| l.limit).collect();
    assert_eq!(stages, [Limit::Stabilization]);
    // Upwards with a window: the lowest of it is the most that may be added.
    world.signal = fresh(4.0);
    world.behavior.stabilization_window.up = Duration::from_secs(250);
    check(&world, 6);
}

const fn limit(most: Change, period: u64) -> RateLimit {
    RateLimit { most, period: Duration::from_secs(period) }
}

#[test]
fn rate_limits_count_from_the_start_of_their_period() {
    use Change::{Percent, Replicas, UpTo};
    use Select::{Disabled, Max, Min};
    let check = |current, limits: &[RateLimit], select, target, want| {
        let policy = Policy::Static { replicas: target };
        let mut world = World { current, policy, ..predictive() };
        world.behavior.max_replicas = 1000;
        let rules = RateLimits { limits: limits.to_vec(), select };
        match target > current {
            true => world.behavior.rate_limits.up = rules,
            false => world.behavior.rate_limits.down = rules,
        }
        // Two were added 30 s ago, and seen so 20 s ago.
        world.history.observe(at(970), current.saturating_sub(2));
        world.history.observe(at(980), current);
        assert_eq!(world.plan().desired_replicas, want, "{current} to {target} by {limits:?}");
    };
    // Nothing of the period is used yet, as the change is older than 15 s: max(10 + 4, 10 x 2).
    let default = [limit(Replicas(4), 15), limit(Percent(100), 15)];
    check(10, &default, Max, 100, 20);
    check(10, &default, Min, 100, 14);
    check(10, &default, Disabled, 100, 10);
    // In 60 s two of four are used: 10 - 2 + 4 = 12.
    check(10, &[limit(Replicas(4), 60)], Max, 100, 12);
    // Of 8, 30 % rounded up: ceil(8 x 1.3) = ceil(10.4) = 11.
    check(10, &[limit(Percent(30), 60)], Max, 100, 11);
    // Of several limits the one with the largest change applies, or the smallest.
    check(10, &[limit(Replicas(1), 60), limit(Replicas(4), 60)], Max, 100, 12);
    check(10, &[limit(Replicas(3), 60), limit(Replicas(4), 60)], Min, 100, 11);
    // More was added than is allowed: stay, but do not go back.
    check(10, &[limit(Replicas(1), 60)], Max, 100, 10);
    // 10 % of 72 leaves trunc(64.8) = 64.
    check(72, &[limit(Percent(10), 15)], Max, 1, 64);
    check(10, &[limit(Replicas(3), 15), limit(Percent(10), 15)], Max, 1, 7);
    check(10, &[limit(Replicas(3), 15), limit(Percent(10), 15)], Min, 1, 9);
    check(10, &[limit(Percent(100), 15)], Disabled, 1, 10);
    check(10, &[limit(Percent(200), 15)], Max, 1, 1);
    // Without `behavior`: max(2 x count, 4).
    let without = &Behavior::kubernetes_without().rate_limits.up.limits;
    check(1, without, Max, 100, 4);
    check(3, without, Max, 100, 6);
    check(1, &[limit(UpTo(4), 0)], Min, 3, 3);
    // No limit at all, and arithmetic beyond any count.
    check(10, &[], Max, 100, 100);
    check(10, &[], Min, 1, 1);
    check(10, &[limit(Percent(u32::MAX), 60), limit(Replicas(u32::MAX), 60)], Max, 900, 900);
}
