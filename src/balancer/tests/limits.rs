//! Pure: limits of requests in flight, first-fit, health and sessions in the choice.

use std::sync::RwLock;
use std::sync::atomic::AtomicBool;

use super::*;

fn limited(algorithm: Algorithm, max_in_flight: u32) -> Rules {
    Rules { max_in_flight: Some(max_in_flight), ..algorithm.into() }
}

/// Ids and guards of as many requests as find room, at most `most`.
fn fill(snapshot: &Snapshot, most: usize) -> Vec<(String, InFlight)> {
    let mut random = 0;
    let take = || {
        random += 1;
        let (target, guard) = snapshot.take(client(random), mix(random.into()), NOW)?;
        Some((target.id.clone(), guard))
    };
    std::iter::from_fn(take).take(most).collect()
}

#[test]
fn first_fit_fills_one_after_the_other_and_comes_back_to_the_first() {
    let names = |taken: &[(String, InFlight)]| -> String {
        taken.iter().map(|(name, _)| name.as_str()).collect()
    };
    let snapshot = Snapshot::new(limited(Algorithm::FirstFit, 2), targets(&[1.0; 3]), None);
    let mut taken = fill(&snapshot, 5);
    assert_eq!(names(&taken), "aabbc");
    // One of b ends, then one of a.
    taken.remove(3);
    assert_eq!(names(&fill(&snapshot, 1)), "b");
    taken.remove(0);
    assert_eq!(names(&fill(&snapshot, 9)), "abc");
    // The order is that of appearance, not of names; who leaves makes room in it.
    let order = |names: &[&str], before: &Snapshot| {
        let targets = names.iter().map(|name| target(name, 1.0, true)).collect();
        Snapshot::new(limited(Algorithm::FirstFit, 2), targets, Some(before))
    };
    drop(taken);
    let next = order(&["0", "b", "c"], &snapshot);
    assert_eq!(names(&fill(&next, 9)), "00bbcc");
    let last = order(&["1", "0", "c", "b"], &next);
    assert_eq!(names(&fill(&last, 9)), "00bbcc11");
    let unlimited = Snapshot::new(Algorithm::FirstFit, targets(&[1.0; 3]), None);
    assert_eq!(names(&fill(&unlimited, 4)), "aaaa");
}

#[test]
fn full_replicas_are_skipped_until_all_are() {
    for algorithm in ALGORITHMS {
        let snapshot = Snapshot::new(limited(algorithm, 3), targets(&[1.0, 0.1, 2.0]), None);
        let mut taken = fill(&snapshot, 99);
        assert_eq!(taken.len(), 9, "{algorithm:?}");
        assert!(snapshot.is_full() && snapshot.pick(Key::default(), 1, NOW).is_none());
        assert!(snapshot.take_other(snapshot.targets()[0].address, 1).is_none());
        let (freed, _) = taken.pop().unwrap();
        assert!(!snapshot.is_full());
        let (target, _guard) = snapshot.take(client(1), 1, NOW).unwrap();
        assert_eq!(target.id, freed, "{algorithm:?}");
    }
}

#[test]
fn unhealthy_replicas_are_skipped_until_too_few_are_healthy() {
    let check = |healthy: &[bool], panic_threshold, eligible: usize| {
        for algorithm in ALGORITHMS {
            let mut targets = targets(&vec![1.0; healthy.len()]);
            targets.iter_mut().zip(healthy).for_each(|(target, healthy)| target.healthy = *healthy);
            let rules = Rules { panic_threshold, ..algorithm.into() };
            let snapshot = Snapshot::new(rules, targets, None);
            assert_eq!(snapshot.ready().len(), eligible, "{healthy:?}");
            assert_eq!(snapshot.panics(), snapshot.ready().iter().any(|t| !t.healthy));
            let picked = snapshot.pick(client(1), 5, NOW).map(|target| target.healthy);
            assert!(picked == Some(true) || snapshot.panics(), "{algorithm:?} {healthy:?}");
        }
    };
    check(&[true, true, false, false], 0.5, 2);
    check(&[true, false, false, false], 0.5, 4);
    check(&[true, false, false, false], 0.0, 1);
    check(&[false, false], 0.5, 2);
    check(&[true, true, true, false], 1.0, 4);
}

#[test]
fn a_session_leads_back_while_its_replica_takes_requests() {
    for algorithm in ALGORITHMS {
        let rules = limited(algorithm, 2);
        let first = Snapshot::new(rules, targets(&[1.0; 4]), None);
        let session = first.targets()[2].session();
        let key = Key { session: Some(session), ..client(1) };
        let picked = |s: &Snapshot, n: u64| s.pick(key, mix(n), NOW).unwrap().id.clone();
        assert!((0..50).all(|n| picked(&first, n) == "c"));
        // Full, draining, ejected, gone: another one.
        let held = [first.targets()[2].begin(), first.targets()[2].begin()];
        assert_ne!(picked(&first, 1), "c");
        drop(held);
        for change in 0..3 {
            let mut targets = targets(&[1.0; 4]);
            match change {
                0 => targets[2].ready = false,
                1 => targets[2].healthy = false,
                _ => drop(targets.remove(2)),
            }
            let next = Snapshot::new(rules, targets, Some(&first));
            assert!((0..50).all(|n| picked(&next, n) != "c"), "{algorithm:?} {change}");
        }
    }
}

proptest! {
    #[test]
    fn no_more_than_the_limit_and_none_refused_while_there_is_room(
        replicas in 1_usize..150,
        limit in 1_u32..4,
        steps in prop::collection::vec((any::<bool>(), any::<u64>()), 1..300),
        algorithm in prop::sample::select(ALGORITHMS.to_vec()),
    ) {
        let target = |i: usize| target(&format!("r{i}"), 1.0 + (i % 3) as f64, i % 7 != 3);
        let snapshot =
            Snapshot::new(limited(algorithm, limit), (0..replicas).map(target).collect(), None);
        let room = snapshot.ready().len() * limit as usize;
        let mut taken = Vec::new();
        for (takes, random) in steps {
            if takes {
                let got = snapshot.take(client(random as u32), random, NOW);
                prop_assert_eq!(got.is_some(), taken.len() < room);
                if let Some((target, guard)) = got {
                    prop_assert!(target.ready);
                    prop_assert!(target.counters.in_flight.load(Ordering::Relaxed) <= limit);
                    taken.push(guard);
                }
            } else if !taken.is_empty() {
                taken.swap_remove(random as usize % taken.len());
            }
            let counted: u32 = snapshot
                .targets()
                .iter()
                .map(|target| target.counters.in_flight.load(Ordering::Relaxed))
                .sum();
            prop_assert_eq!(counted as usize, taken.len());
        }
    }
}

#[test]
fn readers_see_one_consistent_snapshot_while_it_is_replaced() {
    // Three readers hold and release requests while a writer changes the set 200 times, 10 times
    // under the hashes, whose tables every new weight changes. Each snapshot is told by its one
    // weight; a choice from another would show another one.
    const LIMIT: u32 = 2;
    for algorithm in ALGORITHMS {
        let rules = limited(algorithm, LIMIT);
        let hashes = matches!(algorithm, Algorithm::IpHash | Algorithm::KeyHash);
        let versions = if hashes { 10 } else { 200 };
        let set = |version: u32| -> Vec<Target> {
            let target = |i: u32| target(&format!("r{i}"), f64::from(version + 1), true);
            (version % 5..version % 5 + 66).map(target).collect()
        };
        let shared = RwLock::new(Arc::new(Snapshot::new(rules, set(0), None)));
        let done = AtomicBool::new(false);
        let read = |reader: u64| {
            let (mut held, mut number) = (Vec::new(), reader << 32);
            while !done.load(Ordering::Relaxed) {
                let snapshot = Arc::clone(&shared.read().unwrap());
                let version = snapshot.targets()[0].weight;
                for _ in 0..20 {
                    number += 1;
                    if let Some((target, guard)) = snapshot.take(client(3), mix(number), NOW) {
                        assert_eq!(target.weight.to_bits(), version.to_bits());
                        held.push((Arc::clone(&target.counters), guard));
                    }
                    if held.len() > 10 {
                        held.remove((number % 7) as usize);
                    }
                }
                for (counters, _) in &held {
                    assert!(counters.in_flight.load(Ordering::SeqCst) <= LIMIT);
                }
            }
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (1..4).map(|i| scope.spawn(move || read(i))).collect();
            for version in 1..versions {
                let before = Arc::clone(&shared.read().unwrap());
                *shared.write().unwrap() =
                    Arc::new(Snapshot::new(rules, set(version), Some(&before)));
            }
            done.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|reader| reader.join().expect("no assertion failed"));
        });
        // All guards are gone: nothing in flight, and every place is found again.
        let last = shared.into_inner().unwrap();
        assert!(last.targets().iter().all(|t| t.counters.in_flight.load(Ordering::Relaxed) == 0));
        assert_eq!(fill(&last, 999).len(), 66 * LIMIT as usize, "{algorithm:?}");
    }
}
