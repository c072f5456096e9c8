//! Pure: tests of the balancer as a whole: shares, order, readiness, what a replacement keeps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod faults;
mod hashing;
mod limits;
mod smooth;

const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RoundRobin,
    Algorithm::WeightedRoundRobin,
    Algorithm::LeastRequest,
    Algorithm::PeakEwma,
    Algorithm::FirstFit,
    Algorithm::IpHash,
    Algorithm::KeyHash,
    Algorithm::Random,
];
const NOW: Duration = Duration::from_secs(1);

fn target(name: &str, weight: f64, ready: bool) -> Target {
    let port =
        name.bytes().fold(0, |sum: u16, byte| sum.wrapping_mul(31).wrapping_add(u16::from(byte)));
    let target = Target::new(name, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Target { weight, ready, ..target }
}

fn targets(weights: &[f64]) -> Vec<Target> {
    let name = |index: usize| char::from(b'a' + index as u8).to_string();
    weights.iter().enumerate().map(|(i, weight)| target(&name(i), *weight, true)).collect()
}

fn client(number: u32) -> Key {
    let client = Some(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 ^ number)));
    Key { client, ..Key::default() }
}

/// Shares of `picks` picks by name, each by another client and another draw.
fn shares(snapshot: &Snapshot, picks: u32) -> BTreeMap<String, f64> {
    let mut shares = BTreeMap::new();
    for number in 0..picks {
        let picked = snapshot.pick(client(number), mix(u64::from(number) + 1), NOW).unwrap();
        *shares.entry(picked.id.clone()).or_default() += 1.0 / f64::from(picks);
    }
    shares
}

fn order(snapshot: &Snapshot, picks: usize) -> String {
    (0..picks).map(|_| snapshot.pick(Key::default(), 0, NOW).unwrap().id.as_str()).collect()
}

#[test]
fn round_robin_ignores_weights() {
    let check = |algorithm, weights: &[f64], expected: &str| {
        let snapshot = Snapshot::new(algorithm, targets(weights), None);
        assert_eq!(order(&snapshot, expected.len()), expected, "{algorithm:?} {weights:?}");
    };
    check(Algorithm::RoundRobin, &[1.0, 1.0, 1.0], "abcabcabc");
    check(Algorithm::RoundRobin, &[1.0, 0.1, 1.0], "abcabcabc");
}

#[test]
fn shares_follow_the_weights() {
    // 20 000 picks: one standard deviation of a share is at most sqrt(0.25 / 20 000) = 0.0035; four
    // of them.
    let check = |algorithm, weights: &[f64], expected: &[f64]| {
        let shares = shares(&Snapshot::new(algorithm, targets(weights), None), 20_000);
        for (share, expected) in shares.values().zip(expected) {
            assert!((share - expected).abs() < 0.015, "{algorithm:?} {weights:?}: {shares:?}");
        }
        assert_eq!(shares.len(), expected.len());
    };
    for algorithm in ALGORITHMS.into_iter().filter(|it| *it != Algorithm::FirstFit) {
        check(algorithm, &[1.0], &[1.0]);
        check(algorithm, &[1.0, 1.0, 1.0, 1.0], &[0.25, 0.25, 0.25, 0.25]);
        if algorithm == Algorithm::RoundRobin {
            check(algorithm, &[1.0, 1.0, 0.1], &[0.333, 0.333, 0.333]);
        } else {
            // 0.1 of 2.1 in all.
            check(algorithm, &[1.0, 1.0, 0.1], &[0.476, 0.476, 0.048]);
        }
    }
}

#[test]
fn least_request_levels_requests_in_flight() {
    // 3 000 requests that never end. Two choices keep the spread around 1 000 to a handful where
    // plain random choice has a standard deviation of sqrt(3000 · 1/3 · 2/3) = 26.
    let snapshot = Snapshot::new(Algorithm::LeastRequest, targets(&[1.0, 1.0, 1.0]), None);
    let _held: Vec<InFlight> = (0..3000)
        .map(|number| snapshot.pick(Key::default(), mix(number + 1), NOW).unwrap().begin())
        .collect();
    for target in snapshot.targets() {
        let in_flight = target.counters.in_flight.load(Ordering::Relaxed);
        assert!((990..=1010).contains(&in_flight), "{}: {in_flight}", target.id);
    }
}

#[test]
fn least_request_prefers_the_idle_one() {
    // Of two replicas both are always drawn, so a replica with more in flight is never taken.
    let snapshot = Snapshot::new(Algorithm::LeastRequest, targets(&[1.0, 1.0]), None);
    let _held = snapshot.targets()[0].begin();
    assert!(
        (0..100).all(|number| snapshot.pick(Key::default(), mix(number), NOW).unwrap().id == "b")
    );
}

#[test]
fn replacement_keeps_counters_turns_and_offered_load() {
    let first = Snapshot::new(Algorithm::WeightedRoundRobin, targets(&[5.0, 1.0, 1.0]), None);
    assert_eq!(order(&first, 3), "aab");
    let held = first.targets()[0].begin();
    first.offered().arrived.fetch_add(7, Ordering::Relaxed);

    let second =
        Snapshot::new(Algorithm::WeightedRoundRobin, targets(&[5.0, 1.0, 1.0]), Some(&first));
    assert_eq!(order(&second, 4), "acaa");
    assert_eq!(second.targets()[0].counters.in_flight.load(Ordering::Relaxed), 1);
    assert_eq!(second.offered().arrived.load(Ordering::Relaxed), 7);
    drop(held);
    assert_eq!(second.targets()[0].counters.in_flight.load(Ordering::Relaxed), 0);

    let third = Snapshot::new(Algorithm::RoundRobin, targets(&[1.0, 1.0]), Some(&second));
    assert_eq!(order(&third, 3), "aba");
    let fourth = Snapshot::new(Algorithm::RoundRobin, targets(&[1.0, 1.0]), Some(&third));
    assert_eq!(order(&fourth, 3), "bab");
}

#[test]
fn second_choice_is_another_ready_replica() {
    for algorithm in ALGORITHMS {
        let mut three = targets(&[1.0, 0.1, 1.0]);
        three[2].ready = false;
        let snapshot = Snapshot::new(algorithm, three, None);
        let address = |index: usize| snapshot.targets()[index].address;
        let other = |failed| snapshot.pick_other(failed, 42).map(|target| target.id.as_str());
        assert_eq!(other(address(0)), Some("b"));
        assert_eq!(other(address(1)), Some("a"));
        // One that meanwhile drains leaves both to choose from.
        assert!(other(address(2)).is_some());
        let alone = Snapshot::new(algorithm, targets(&[1.0]), None);
        assert!(alone.pick_other(alone.targets()[0].address, 42).is_none());
        let none = Snapshot::new(algorithm, Vec::new(), None);
        assert!(none.pick_other(address(0), 42).is_none());
    }
}

#[test]
fn slow_start_rises_from_a_tenth_to_one() {
    let check = |age_ms, window_s, expected: f64| {
        let age = Duration::from_millis(age_ms);
        let weight = slow_start_weight(age, Duration::from_secs(window_s));
        assert!((weight - expected).abs() < 1e-12, "{age_ms} ms of {window_s} s: {weight}");
    };
    check(0, 0, 1.0);
    check(0, 30, 0.1); // max(0, 1) / 30 = 0.033, below the minimum
    check(3_000, 30, 0.1);
    check(15_000, 30, 0.5);
    check(29_999, 30, 29.999 / 30.0);
    check(30_000, 30, 1.0);
    check(u64::MAX, 30, 1.0);
    check(0, 2, 0.5); // the first second counts as done
}

proptest! {
    #[test]
    fn only_ready_replicas_are_picked(
        replicas in prop::collection::vec((any::<bool>(), any::<f64>()), 0..12),
        randoms in prop::collection::vec(any::<u64>(), 1..20),
        known_client in any::<Option<u32>>(),
    ) {
        let targets: Vec<Target> = replicas
            .iter()
            .enumerate()
            .map(|(index, (ready, weight))| target(&format!("r{index}"), *weight, *ready))
            .collect();
        let some_ready = replicas.iter().any(|(ready, _)| *ready);
        let key = known_client.map(client).unwrap_or_default();
        for algorithm in ALGORITHMS {
            let snapshot = Snapshot::new(algorithm, targets.clone(), None);
            for random in &randoms {
                let picked = snapshot.pick(key, *random, NOW);
                prop_assert_eq!(picked.is_some(), some_ready);
                prop_assert!(picked.is_none_or(|target| target.ready));
            }
        }
    }

    #[test]
    fn a_second_choice_is_never_the_first(
        weights in prop::collection::vec(any::<f64>(), 2..12),
        random in any::<u64>(),
        failed in any::<prop::sample::Index>(),
    ) {
        let snapshot = Snapshot::new(Algorithm::Random, targets(&weights), None);
        let failed = failed.get(snapshot.targets());
        let other = snapshot.pick_other(failed.address, random);
        prop_assert!(other.is_some_and(|other| other.id != failed.id));
    }
}
