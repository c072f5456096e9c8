//! Pure: tests of health: growth and cap of ejections, success compared, hysteresis of checks.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::super::{Algorithm, Outcome, OutcomeKind, Snapshot};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn snapshot(replicas: usize) -> Snapshot {
    let target = |i: usize| Target::new(i.to_string(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    Snapshot::new(Algorithm::Random, (0..replicas).map(target).collect(), None)
}

fn report(target: &Target, errors: u32, successes: u32) {
    for (count, status) in [(errors, 500), (successes, 200)] {
        let outcome = Outcome { latency: SECOND, kind: OutcomeKind::Answered(status) };
        (0..count).for_each(|_| target.counters.report(SECOND, outcome));
    }
}

fn ejection() -> Ejection {
    Ejection { base_time: 10 * SECOND, max_time: 35 * SECOND, ..Ejection::default() }
}

#[test]
fn ejection_grows_is_capped_and_shrinks_by_clean_intervals() {
    let snapshot = snapshot(2);
    let target = &snapshot.targets()[0];
    let mut health = Health::new(Ejection { interval: 10 * SECOND, ..ejection() }, None);
    let mut now = Duration::ZERO;
    health.step(now, snapshot.targets());
    // Errors at once after each return: base × 1, 2, 3, then the cap, and no further.
    for expected in [10, 20, 30, 35, 35, 35] {
        report(target, 5, 0);
        assert!(health.step(now, snapshot.targets()));
        let until = health.view("0").ejected_until.expect("ejected");
        assert_eq!((until - now).as_secs(), expected);
        assert!(!health.is_healthy("0"));
        now = until;
        assert!(health.step(now, snapshot.targets()) && health.is_healthy("0"));
    }
    assert_eq!(health.view("0").ejections, 6);
    // The multiplier is 4. Three clean intervals make it 1, and one more ejection 2.
    for _ in 0..3 {
        now += 10 * SECOND;
        assert!(!health.step(now, snapshot.targets()));
    }
    report(target, 5, 0);
    health.step(now, snapshot.targets());
    assert_eq!(health.view("0").ejected_until, Some(now + 20 * SECOND));
}

#[test]
fn a_success_ends_a_row_and_one_seen_too_late_does_not_hide_it() {
    let check = |reports: &[(u32, u32)], ejected: bool| {
        let snapshot = snapshot(2);
        let mut health = Health::new(ejection(), None);
        health.step(Duration::ZERO, snapshot.targets());
        reports.iter().for_each(|(bad, good)| report(&snapshot.targets()[0], *bad, *good));
        health.step(SECOND, snapshot.targets());
        assert_eq!(!health.is_healthy("0"), ejected, "{reports:?}");
    };
    check(&[(4, 1), (4, 0)], false);
    check(&[(5, 1)], true);
    check(&[(4, 0), (1, 0)], true);
}

#[test]
fn success_is_compared_with_the_others_at_the_end_of_an_interval() {
    // Errors and successes of three replicas; who is ejected. Errors come spread, not in a row.
    let check = |replicas: [(u32, u32); 3], ejected: &[&str]| {
        let snapshot = snapshot(3);
        let settings = Ejection { consecutive_errors: 0, max_ejected: 1.0, ..ejection() };
        let mut health = Health::new(settings, None);
        health.step(Duration::ZERO, snapshot.targets());
        for (target, (errors, successes)) in snapshot.targets().iter().zip(replicas) {
            report(target, errors, successes);
        }
        health.step(9 * SECOND, snapshot.targets());
        assert!(["0", "1", "2"].iter().all(|id| health.is_healthy(id)), "too early");
        health.step(10 * SECOND, snapshot.targets());
        let out: Vec<&str> =
            ["0", "1", "2"].into_iter().filter(|id| !health.is_healthy(id)).collect();
        assert_eq!(out, ejected, "{replicas:?}");
    };
    check([(50, 50), (0, 100), (1, 99)], &["0"]);
    // Everybody fails alike: nobody is worse than the others.
    check([(50, 50), (50, 50), (50, 50)], &[]);
    // 19 of 100 against none is within the margin of 0.2.
    check([(19, 81), (0, 100), (0, 100)], &[]);
    check([(21, 79), (0, 100), (0, 100)], &["0"]);
    // 15 of 20 against one half: 0.25 is below 3 · sqrt(0.25 / 20) = 0.335, chance.
    check([(15, 5), (50, 50), (50, 50)], &[]);
    // Too few requests to tell; nobody to compare with.
    check([(19, 0), (0, 100), (0, 100)], &[]);
    check([(90, 10), (0, 19), (0, 0)], &[]);
}

#[test]
fn checks_flip_after_rise_and_fall_in_a_row() {
    let snapshot = snapshot(1);
    let check = Check { path: None, interval: SECOND, timeout: SECOND, rise: 2, fall: 3 };
    let mut health = Health::new(ejection(), Some(check));
    health.step(Duration::ZERO, snapshot.targets());
    let mut states = String::new();
    for passed in "++--+---+-++-".chars().map(|c| c == '+') {
        let before = health.is_healthy("0");
        assert_eq!(health.checked("0", passed), before != health.is_healthy("0"));
        states.push(if health.is_healthy("0") { 'h' } else { 'f' });
    }
    // The third failure in a row, the second pass in a row.
    assert_eq!(states, "hhhhhhhffffhh");
    assert_eq!(health.view("0").passes_checks, Some(true));
    assert!(!health.checked("unknown", false));
}

proptest! {
    #[test]
    fn never_more_than_the_cap_is_out_and_the_worst_go_first(
        rounds in prop::collection::vec(
            (prop::collection::vec(0_u32..30, 1..12), 1_u64..20), 1..10,
        ),
        max_ejected in 0.0..1.0_f64,
    ) {
        let replicas = rounds.iter().map(|(errors, _)| errors.len()).max().unwrap_or(1);
        let snapshot = snapshot(replicas);
        let mut health = Health::new(Ejection { max_ejected, ..ejection() }, None);
        let mut now = Duration::ZERO;
        for (errors, seconds) in &rounds {
            let out_before: Vec<bool> =
                snapshot.targets().iter().map(|t| !health.is_healthy(&t.id)).collect();
            for (target, errors) in snapshot.targets().iter().zip(errors) {
                report(target, *errors, u32::from(*errors == 0));
            }
            now += Duration::from_secs(*seconds);
            health.step(now, snapshot.targets());
            let out = snapshot.targets().iter().filter(|t| !health.is_healthy(&t.id)).count();
            prop_assert!(out <= (max_ejected * replicas as f64) as usize);
            // A replica without any error is never ejected anew.
            for (i, target) in snapshot.targets().iter().enumerate() {
                let clean = errors.get(i).is_none_or(|errors| *errors == 0);
                let never = snapshot.targets()[i].counters.ended().1 == 0;
                prop_assert!(!(clean && never) || out_before[i] || health.is_healthy(&target.id));
            }
        }
    }
}
