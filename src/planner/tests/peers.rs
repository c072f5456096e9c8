//! Pure: replayed peers, against hand calculation and against statsmodels 0.15.

use super::super::aws_predictive::AwsPredictive;
use super::super::peers::Memory;
use super::super::phpa::{Component, DecisionType, HoltWinters, Linear, Method, Model, Phpa};
use super::*;

const TARGET: TargetTracking =
    TargetTracking { target_utilization: 0.5, signal: SignalKind::Demand };

fn phpa(decision: DecisionType, models: Vec<Model>) -> Policy {
    Policy::Phpa(Phpa { reactive: TARGET, models, decision })
}

fn linear(seconds: u64, history_size: usize) -> Model {
    let look_ahead = Some(Duration::from_secs(seconds));
    Model { per_sync_period: 1, method: Method::Linear(Linear { look_ahead, history_size }) }
}

/// What a policy wants at every 10 s, given demand on 4 ready replicas of capacity 1, no limits.
fn wanted(policy: &Policy, demands: &[f64]) -> Vec<u32> {
    let mut peers = Memory::default();
    let at_step = |(i, &demand): (usize, &f64)| {
        let world = World {
            policy: policy.clone(),
            forecast: None,
            peers: peers.clone(),
            signal: if demand.is_nan() { Signal::Missing } else { fresh(demand) },
            ..target_tracking(0.5, SignalKind::Demand, 0.0, 4)
        };
        let world =
            World { behavior: Behavior { max_replicas: 1000, ..Behavior::unlimited() }, ..world };
        let decision = world.plan_at(at(1000 + 10 * i as i64));
        peers.record(policy, &decision);
        decision.desired_replicas
    };
    demands.iter().enumerate().map(at_step).collect()
}

#[test]
fn phpa_draws_a_line_through_what_the_rule_asked_for() {
    // Demands 1, 2, 3, 4 at a target of 0.5 are 2, 4, 6, 8 replicas: 2 more in every 10 s. One
    // point is no line; 20 s ahead of the second is 4 + 4, and so on.
    let maximum = |models| phpa(DecisionType::Maximum, models);
    let rising = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(wanted(&maximum(vec![linear(20, 6)]), &rising), [2, 8, 10, 12]);
    assert_eq!(wanted(&maximum(vec![]), &rising), [2, 4, 6, 8]);
    // Falling, the line is below the rule and the maximum is the rule; the minimum is the line, and
    // below 0 it is 0, which the minimum of replicas lifts to 1.
    let falling = [4.0, 3.0, 2.0, 1.0];
    assert_eq!(wanted(&maximum(vec![linear(20, 6)]), &falling), [8, 6, 4, 2]);
    let minimum = phpa(DecisionType::Minimum, vec![linear(20, 6)]);
    assert_eq!(wanted(&minimum, &falling), [8, 2, 1, 1]);
    // Stored are 2, so three points enter. After 2, 2, 2, 6 these are 2, 2, 6: mean 10/3, slope
    // (6 - 2) / 20 s; 10 s ahead, 20 s from their middle, is 10/3 + 4 = 7.33.
    let short = maximum(vec![linear(10, 2)]);
    assert_eq!(wanted(&short, &[1.0, 1.0, 1.0, 3.0]), [2, 2, 2, 8]);
    // All four: mean 3; deviations of -15, -5, 5, 15 s and of -1, -1, -1, 3 give the slope
    // 60 / 500 = 0.12 a second; 25 s from the middle: 3 + 3 = 6.
    let long = maximum(vec![linear(10, 6)]);
    assert_eq!(wanted(&long, &[1.0, 1.0, 1.0, 3.0]), [2, 2, 2, 6]);
}

#[test]
fn phpa_decides_over_rule_and_models() {
    // At the second step the rule says 4, the lines say 4 + 2 x 1 = 6 and 4 + 2 x 4 = 12.
    let second =
        |decision| wanted(&phpa(decision, vec![linear(10, 6), linear(40, 6)]), &[1.0, 2.0])[1];
    assert_eq!(second(DecisionType::Maximum), 12);
    assert_eq!(second(DecisionType::Minimum), 4);
    // 22 / 3 = 7.33; the middle of three.
    assert_eq!(second(DecisionType::Mean), 7);
    assert_eq!(second(DecisionType::Median), 6);
    // Of two, (4 + 6) / 2.
    let one = phpa(DecisionType::Median, vec![linear(10, 6)]);
    assert_eq!(wanted(&one, &[1.0, 2.0])[1], 5);
}

#[test]
fn phpa_asks_a_model_at_its_syncs_and_learns_nothing_without_data() {
    let every_second = Model { per_sync_period: 2, ..linear(20, 6) };
    let policy = phpa(DecisionType::Maximum, vec![every_second]);
    assert_eq!(wanted(&policy, &[1.0, 2.0, 3.0, 4.0]), [2, 8, 6, 12]);
    // A gap holds at the current four and is no sync: 8 at 20 s is the second point, the line rises
    // 3 in 10 s.
    let policy = phpa(DecisionType::Maximum, vec![linear(20, 6)]);
    assert_eq!(wanted(&policy, &[1.0, f64::NAN, 4.0]), [2, 4, 14]);
    // Within the tolerance the rule asks for the current four, and that is what is learned.
    let mut peers = Memory::default();
    let behavior = Behavior { max_replicas: 1000, ..Behavior::kubernetes_without() };
    for (i, demand) in [1.9, 2.1].into_iter().enumerate() {
        let world = World {
            policy: policy.clone(),
            behavior: behavior.clone(),
            peers: peers.clone(),
            ..target_tracking(0.5, SignalKind::Demand, demand, 4)
        };
        let decision = world.plan_at(at(1000 + 10 * i as i64));
        assert_eq!((decision.desired_replicas, decision.basis), (4, Basis::Reactive));
        peers.record(&policy, &decision);
    }
}

#[test]
fn holt_winters_is_that_of_statsmodels() {
    use Component::{Additive, Multiplicative};
    let counts: Vec<f64> =
        [3, 5, 9, 4, 2, 3, 3, 6, 10, 5, 2, 2, 4, 6, 11, 5, 3, 3, 4, 7, 12].map(f64::from).into();
    // ExponentialSmoothing(counts, trend, seasonal, seasonal_periods,
    //   initialization_method="heuristic").fit(smoothing_level, …).forecast(1)
    let cases = [
        (Additive, Additive, 6, (0.9, 0.9, 0.9), -0.042_893_701_167_268_98),
        (Additive, Additive, 6, (0.5, 0.2, 0.3), 6.213_026_596_873_965),
        (Additive, Additive, 5, (0.5, 0.2, 0.3), 7.288_577_619_652_28),
        (Additive, Multiplicative, 6, (0.5, 0.2, 0.3), 5.707_511_873_540_876),
        (Additive, Multiplicative, 5, (0.5, 0.2, 0.3), 7.405_776_309_752_806),
        (Multiplicative, Additive, 6, (0.5, 0.2, 0.3), 6.253_964_759_528_313),
        (Multiplicative, Additive, 5, (0.5, 0.2, 0.3), 9.041_930_784_642_74),
        (Multiplicative, Multiplicative, 6, (0.9, 0.9, 0.9), 11.211_163_897_825_761),
        (Multiplicative, Multiplicative, 5, (0.5, 0.2, 0.3), 9.505_524_267_411_41),
    ];
    for (trend, seasonal, seasonal_periods, (alpha, beta, gamma), want) in cases {
        let stored_seasons = 4;
        let model =
            HoltWinters { alpha, beta, gamma, trend, seasonal, seasonal_periods, stored_seasons };
        let got = model.forecast(&counts).expect("history enough");
        assert!((got - want).abs() < 1e-9, "{model:?}: {got} is not {want}");
        // 10 + 2 x 3 points, or 10 + 2 x 2, and no zero to divide by.
        let least = 10 + 2 * (seasonal_periods / 2);
        assert!(model.forecast(&counts[..least]).is_some(), "{model:?}");
        assert!(model.forecast(&counts[..least - 1]).is_none(), "{model:?}");
        let idle = [&[0.0], &counts[..]].concat();
        let additive = (trend, seasonal) == (Additive, Additive);
        assert_eq!(model.forecast(&idle).is_some(), additive, "{model:?}");
    }
}

#[test]
fn holt_winters_sees_the_season_that_comes_and_drops_whole_seasons() {
    // Demand 1 and every fifth time 4, so 2 and 8 replicas. With a level that follows at once, no
    // trend and a season that never changes, one ahead is the season: 8 is asked for one early.
    let model = HoltWinters {
        alpha: 1.0,
        beta: 0.0,
        gamma: 0.0,
        seasonal_periods: 5,
        stored_seasons: 3,
        ..HoltWinters::default()
    };
    let model = Model { per_sync_period: 1, method: Method::HoltWinters(model) };
    let policy = phpa(DecisionType::Maximum, vec![model]);
    let demands: Vec<f64> = (0..60).map(|i| if i % 5 == 4 { 4.0 } else { 1.0 }).collect();
    let got = wanted(&policy, &demands);
    for (i, replicas) in got.into_iter().enumerate() {
        // 10 + 2 x 2 = 14 points are the first that suffice.
        let early = i >= 13 && i % 5 == 3;
        assert_eq!(replicas, if i % 5 == 4 || early { 8 } else { 2 }, "step {i}");
    }
}

/// What AWS would have after each step of ten minutes, demand 5.9 from 8 to 16 and else 1.9; the
/// count follows at once. Target 0.5.
fn aws_days(days: i64, spoil: impl Fn(i64, f64) -> Signal) -> Vec<(i64, u32)> {
    let policy = Policy::AwsPredictive(AwsPredictive { target: TARGET, ..Default::default() });
    let (mut peers, mut current) = (Memory::default(), 4);
    let mut counts = Vec::new();
    for minute in (10..=days * 1440).step_by(10) {
        let hour = (minute - 1) % 1440 / 60;
        let demand = if (8..16).contains(&hour) { 5.9 } else { 1.9 };
        let world = World {
            policy: policy.clone(),
            signal: spoil(minute, demand),
            current,
            ready: current,
            peers: peers.clone(),
            behavior: Behavior { max_replicas: 50, ..Behavior::unlimited() },
            ..predictive()
        };
        let decision = world.plan_at(at(60 * minute));
        peers.record(&policy, &decision);
        current = decision.desired_replicas;
        counts.push((minute, current));
    }
    counts
}

#[test]
fn aws_raises_before_the_hour_and_never_lowers() {
    let counts = aws_days(8, |_, demand| fresh(demand));
    let on = |day: i64, minute: i64| {
        let at = day * 1440 + minute;
        counts.iter().find(|(m, _)| *m == at).expect("a step").1
    };
    // 1.9 / 0.5 is 4 and 5.9 / 0.5 is 12. On the first day there is no forecast: 8:00 ends an
    // interval of 1.9, 8:10 one of 5.9.
    assert_eq!([on(0, 470), on(0, 480), on(0, 490)], [4, 4, 12]);
    // On the eighth the hour from 8:00 is provided for. At 7:50 it is more than 300 s away.
    assert_eq!([on(7, 470), on(7, 480), on(7, 490)], [4, 12, 12]);
    // At 16:00 an hour of 1.9 begins, but the rule still sees 5.9; then both let go.
    assert_eq!([on(7, 950), on(7, 960)], [12, 12]);
    assert!((4..=5).contains(&on(7, 970)), "{}", on(7, 970));
}

#[test]
fn aws_holds_without_data() {
    // From 10:00 on nothing is measured for 15 hours; 24 hours of history are then no history.
    let missing = |minute: i64| (600..1500).contains(&minute);
    let counts = aws_days(2, |minute, demand| match missing(minute) {
        true => Signal::Missing,
        false => fresh(demand),
    });
    let held = counts.iter().filter(|(minute, _)| missing(*minute));
    assert!(held.map(|(_, n)| *n).eq([12; 90]));
    assert_eq!(counts.iter().find(|(minute, _)| *minute == 1510), Some(&(1510, 4)));
}
