//! Pure: smooth weighted round robin against nginx's own rule, pick by pick.

use super::*;

/// nginx's rule as it is written in its sources, over whole weights.
fn nginx(weights: &[i64], picks: usize) -> Vec<usize> {
    let mut current = vec![0; weights.len()];
    let pick = |_| {
        current.iter_mut().zip(weights).for_each(|(current, weight)| *current += weight);
        // The first of equal ones: max_by_key would give the last.
        let best = (0..weights.len()).rev().max_by_key(|i| current[*i]).unwrap();
        current[best] -= weights.iter().sum::<i64>();
        best
    };
    (0..picks).map(pick).collect()
}

#[test]
fn orders_derived_by_hand() {
    let check = |weights: &[f64], expected: &str| {
        let snapshot = Snapshot::new(Algorithm::WeightedRoundRobin, targets(weights), None);
        assert_eq!(order(&snapshot, expected.len()), expected, "{weights:?}");
    };
    // The table of nginx's commit message for weights 5, 1, 1, twice round.
    check(&[5.0, 1.0, 1.0], "aabacaaaabacaa");
    // (2 1) a (-1 1); (1 2) b (1 -1); (3 0) a (0 0); and over again.
    check(&[2.0, 1.0], "abaaba");
    check(&[1.0, 1.0, 1.0], "abcabc");
    // (3 2 1) a (-3 2 1); (0 4 2) b (0 -2 2); (3 0 3) a, the first of equals, (-3 0 3);
    // (0 2 4) c (0 2 -2); (3 4 -1) b (3 -2 -1); (6 0 0) a.
    check(&[3.0, 2.0, 1.0], "abacbaabacba");
    // (1 1 3) c (1 1 -2); (2 2 1) a (-3 2 1); (-2 3 4) c (-2 3 -1); (-1 4 2) b (-1 -1 2);
    // (0 0 5) c.
    check(&[1.0, 1.0, 3.0], "cacbccacbc");
    // Only ratios matter: 1, 0.5 and 0.1 are 10, 5 and 1, sixteen picks a round.
    let names = |picks: Vec<usize>| picks.iter().map(|i| ["a", "b", "c"][*i]).collect::<String>();
    check(&[1.0, 0.5, 0.1], &names(nginx(&[10, 5, 1], 32)));
}

#[test]
fn weights_without_a_common_measure_are_rounded_to_a_hundredth_of_the_largest() {
    // 1 ÷ 3 and 1 ÷ √2 are 33 and 71 of 100.
    let weights = [1.0, 1.0 / 3.0, 0.5_f64.sqrt()];
    let snapshot = Snapshot::new(Algorithm::WeightedRoundRobin, targets(&weights), None);
    let expected: Vec<&str> =
        nginx(&[100, 33, 71], 408).iter().map(|i| ["a", "b", "c"][*i]).collect();
    assert_eq!(order(&snapshot, 408), expected.concat());
}

#[test]
fn a_round_is_bounded_however_many_replicas_there_are() {
    // 2 000 replicas of a thousand weights: 32 steps of weight fit into 65,536.
    let target = |i: u16| {
        let target = Target::new(i.to_string(), SocketAddr::from((Ipv4Addr::LOCALHOST, i)));
        Target { weight: f64::from(i % 1000) * 0.377 + 1.0, ..target }
    };
    let snapshot =
        Snapshot::new(Algorithm::WeightedRoundRobin, (0..2000).map(target).collect(), None);
    let mut counts = BTreeMap::new();
    for _ in 0..65_536 {
        *counts.entry(&snapshot.pick(Key::default(), 0, NOW).unwrap().id).or_insert(0) += 1;
    }
    // The lightest and the heaviest: weights 1 and 32 steps of 377.6.
    let (light, heavy) = (counts[&"0".to_string()], counts[&"999".to_string()]);
    assert!(counts.len() == 2000 && heavy >= 30 * light, "{light} and {heavy}");
}

#[test]
fn a_change_goes_on_at_the_same_part_of_the_round() {
    let before = Snapshot::new(Algorithm::WeightedRoundRobin, targets(&[1.0; 4]), None);
    assert_eq!(order(&before, 2), "ab");
    // Half of the round is over, so half of that of 2, 1, 1, 1, 1, which is acbdae by nginx's
    // rule, comes next.
    let after = Snapshot::new(
        Algorithm::WeightedRoundRobin,
        targets(&[2.0, 1., 1., 1., 1.]),
        Some(&before),
    );
    let round: Vec<&str> =
        nginx(&[2, 1, 1, 1, 1], 6).iter().map(|i| ["a", "b", "c", "d", "e"][*i]).collect();
    assert_eq!(order(&after, 3), round[3..].concat());
}

proptest! {
    #[test]
    fn every_pick_is_nginxs(weights in prop::collection::vec(1_u8..30, 1..12), tenths: bool) {
        let unit = if tenths { 10.0 } else { 1.0 };
        let floats: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / unit).collect();
        let snapshot = Snapshot::new(Algorithm::WeightedRoundRobin, targets(&floats), None);
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(*weight)).collect();
        let picks = 2 * weights.iter().sum::<i64>() as usize;
        let names: String = nginx(&weights, picks)
            .iter()
            .map(|i| char::from(b'a' + *i as u8))
            .collect();
        prop_assert_eq!(order(&snapshot, picks), names);
    }
}
