//! Pure: tests of plans by forecast: what they weigh, when they wait, and who watches them.

use super::*;

#[test]
fn a_trusted_forecast_decides_both_ways() {
    // At price 4 a fourth replica saves 4 x 0.5 x (1 - 5^(-1/3)) = 0.83: less than it costs.
    check(&predictive(), 3, 2, Basis::Forecast);
    // At price 40 the sixth saves 40 x 0.5 x (5^(-2/3) - 5^(-1)) = 2.8, the seventh 1.66, the
    // eighth 0.97.
    let dear = World { price: 40.0, ..predictive() };
    check(&dear, 7, 2, Basis::Forecast);
    // With twice the budget, at half the price, the seventh would save only 0.83.
    let larger = dear.plan().forecast.map(|used| used.cheapest_larger_budget);
    assert_eq!(larger, Some(6));
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
        world.regret = Regret(world.regret).carried(&decision).0;
        counts.push(decision.desired_replicas);
    }
    assert_eq!(counts, [6, 6, 6, 6, 6, 3]);
    assert_eq!(world.regret, 0.0);
    // Where a window puts the change off, it stays due.
    let mut held = World { regret: 20.0, ..world.clone() };
    held.behavior.stabilization_window.down = Duration::from_secs(60);
    held.history.record(at(990), 6, Duration::from_secs(60));
    let decision = held.plan();
    assert_eq!((decision.recommendation, decision.desired_replicas), (3, 6));
    assert_eq!(Regret(held.regret).carried(&decision), Regret(23.0));
    // While the rule decides alone nothing adds up.
    held.trust.trusted = false;
    assert_eq!(Regret(held.regret).carried(&held.plan()), Regret(0.0));
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
