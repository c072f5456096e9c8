//! Pure: the consistent hash: who moves when a replica comes, goes or changes its weight.

use super::*;

const KEYS: u32 = 20_000;

/// Named by number; `heavy` has twice the weight.
fn fleet(names: impl IntoIterator<Item = u16>, heavy: u16) -> Vec<Target> {
    let target = |name: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, name));
        let weight = if name == heavy { 2.0 } else { 1.0 };
        Target { weight, ..Target::new(format!("replica-{name}"), address) }
    };
    names.into_iter().map(target).collect()
}

fn owners(snapshot: &Snapshot) -> Vec<u16> {
    (0..KEYS).map(|n| snapshot.pick(client(n), 0, NOW).unwrap().address.port()).collect()
}

/// Share of keys that moved; `may` says between whom they may.
fn moved(before: &[u16], after: &[u16], may: impl Fn(u16, u16) -> bool) -> f64 {
    let moved: Vec<_> = before.iter().zip(after).filter(|(old, new)| old != new).collect();
    assert!(moved.iter().all(|(old, new)| may(**old, **new)), "a key moved without need");
    moved.len() as f64 / before.len() as f64
}

#[test]
fn only_the_share_of_the_replica_that_comes_or_goes_moves() {
    for n in [2, 10, 100] {
        let first = Snapshot::new(Algorithm::IpHash, fleet(1..=n, 0), None);
        let before = owners(&first);
        assert_eq!(before, owners(&first), "the same key, the same replica");
        // A share of 1 ÷ n varies by sqrt(n ÷ 65,536) of itself by the slots and by
        // sqrt(n ÷ 20,000) by the keys, together 8 % at 100 replicas: four of them.
        let near = |share: f64, of: u16| {
            let expected = 1.0 / f64::from(of);
            let deviation = (f64::from(of) / 65_536.0 + f64::from(of) / f64::from(KEYS)).sqrt();
            assert!((share / expected - 1.0).abs() < 4.0 * deviation, "{share} of {of}");
        };
        let more = Snapshot::new(Algorithm::IpHash, fleet(1..=n + 1, 0), Some(&first));
        near(moved(&before, &owners(&more), |_, new| new == n + 1), n + 1);
        let fewer = Snapshot::new(Algorithm::IpHash, fleet(2..=n, 0), Some(&first));
        near(moved(&before, &owners(&fewer), |old, _| old == 1), n);
        // One that is not ready is one less.
        let mut draining = fleet(1..=n, 0);
        draining[0].ready = false;
        let draining = Snapshot::new(Algorithm::IpHash, draining, Some(&first));
        assert_eq!(owners(&draining), owners(&fewer));
        // Back to the first: as if nothing had been.
        let back = Snapshot::new(Algorithm::IpHash, fleet(1..=n, 0), Some(&draining));
        assert_eq!(owners(&back), before);
        // Twice the weight: 2 ÷ (n + 1) instead of 1 ÷ n, from the others alone.
        let heavy = Snapshot::new(Algorithm::IpHash, fleet(1..=n, 1), Some(&first));
        let expected = 2.0 / f64::from(n + 1) - 1.0 / f64::from(n);
        let share = moved(&before, &owners(&heavy), |_, new| new == 1);
        assert!((share / expected - 1.0).abs() < 0.4, "{share}, not {expected}, of {n}");
        let light = Snapshot::new(Algorithm::IpHash, fleet(1..=n, 0), Some(&heavy));
        assert_eq!(owners(&light), before);
    }
}

#[test]
fn a_client_is_the_same_by_ipv4_and_by_ipv4_mapped_into_ipv6() {
    let four = Snapshot::new(Algorithm::IpHash, targets(&[1.0; 4]), None);
    let mapped = Some(IpAddr::V6(Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped()));
    let mapped = Key { client: mapped, ..Key::default() };
    let picked = |key| four.pick(key, 0, NOW).unwrap().id.clone();
    assert_eq!(picked(mapped), picked(client(7)));
}

#[test]
fn key_hash_prefers_the_key_and_falls_back_to_the_client() {
    let snapshot = Snapshot::new(Algorithm::KeyHash, targets(&[1.0; 4]), None);
    let picked = |key: Key| snapshot.pick(key, 1, NOW).unwrap().id.clone();
    let keyed = |n: u32| Key { key: Some(hash(b"ada")), ..client(n) };
    assert!((0..100).all(|n| picked(keyed(n)) == picked(keyed(0))));
    let by_client: std::collections::BTreeSet<_> = (0..100).map(|n| picked(client(n))).collect();
    assert_eq!(by_client.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn a_table_made_from_the_one_before_is_the_one_made_anew(
        steps in prop::collection::vec(
            prop::collection::btree_map(0_u16..12, 1_u8..4, 0..12), 1..5,
        ),
    ) {
        let mut before: Option<Snapshot> = None;
        for step in steps {
            let fleet = || -> Vec<Target> {
                let weigh = |(name, weight): (&u16, &u8)| {
                    let target = fleet([*name], 99).remove(0);
                    Target { weight: f64::from(*weight), ..target }
                };
                step.iter().map(weigh).collect()
            };
            let changed = Snapshot::new(Algorithm::IpHash, fleet(), before.as_ref());
            let anew = Snapshot::new(Algorithm::IpHash, fleet(), None);
            for n in 0..2000 {
                let picked = |s: &Snapshot| s.pick(client(n), 0, NOW).map(|t| t.id.clone());
                prop_assert_eq!(picked(&changed), picked(&anew));
            }
            before = Some(changed);
        }
    }
}
