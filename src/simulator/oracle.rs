//! Pure: the clairvoyant: the fewest replica-hours that could be spent, knowing all demand.
//!
//! Replicas come whole, start and stop at once and cost nothing to change, so that every step can
//! be seen alone. Step t costs n(t) = clamp(ceil(d(t) / c), min, max) replicas if it is to be
//! carried, and `min` if it is given up. With a budget b, at most k = floor(b T) of the T scored
//! steps may be overloaded; the least sum of ready replicas then gives up the k steps with the
//! highest n, as each saves n - min. Among equals the higher demand goes first, for beyond the
//! maximum a step is overloaded anyway and giving it up takes nothing of the budget that is not
//! taken already. If more than k steps are beyond the maximum no plan keeps the budget, and this
//! one has as few overloaded steps as can be. A step that is not scored is carried; a gap keeps
//! what was there before.

use super::report::Trail;

/// Exactly enough at every step: `demanded[t]` replicas, and on a gap as many as before.
pub fn exact(demanded: impl Iterator<Item = Option<u32>>, initial: u32) -> Trail {
    let mut last = initial;
    let mut carried = |demanded: Option<u32>| {
        last = demanded.unwrap_or(last);
        last
    };
    let ready: Vec<u32> = demanded.map(&mut carried).collect();
    Trail { desired: ready.clone(), ready }
}

/// `exact` with the share `budget` of the `scored` steps given up, `demand` NaN where it is a gap.
pub fn within(exact: &Trail, demand: &[f64], scored: &[usize], budget: f64, min: u32) -> Trail {
    // A millionth of a step mends 0.29 x 100 = 28.999999999999996.
    let given_up = ((budget * scored.len() as f64 + 1e-6) as usize).min(scored.len());
    let mut trail = exact.clone();
    if let Some(last) = given_up.checked_sub(1) {
        let mut by_demand = scored.to_vec();
        by_demand
            .select_nth_unstable_by(last, |&a, &b| demand[b].total_cmp(&demand[a]).then(a.cmp(&b)));
        for &t in &by_demand[..given_up] {
            (trail.ready[t], trail.desired[t]) = (min, min);
        }
    }
    trail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least sum of ready replicas over all ways to give up at most `k` steps, by trying all.
    fn by_trying(demand: &[f64], k: usize, min: u32) -> u32 {
        let need = |d: f64| (d.ceil() as u32).max(min);
        let sum = |given_up: u32| -> u32 {
            let cost = |t: usize| if given_up >> t & 1 == 1 { min } else { need(demand[t]) };
            (0..demand.len()).map(cost).sum()
        };
        let allowed = (0..1u32 << demand.len()).filter(|set| set.count_ones() as usize <= k);
        allowed.map(sum).min().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_plan_within_the_budget_costs_less(
            demand in prop::collection::vec(0.0..9.0f64, 1..9),
            budget in 0.0..=1.0f64,
            min in 0u32..4,
        ) {
            let steps: Vec<usize> = (0..demand.len()).collect();
            let needs = demand.iter().map(|d| Some((d.ceil() as u32).max(min)));
            let trail = within(&exact(needs, min), &demand, &steps, budget, min);
            let k = (budget * demand.len() as f64) as usize;
            let overloaded = steps.iter().filter(|&&t| demand[t] > f64::from(trail.ready[t]));
            prop_assert!(overloaded.count() <= k);
            prop_assert_eq!(trail.ready.iter().sum::<u32>(), by_trying(&demand, k, min));
        }
    }

    #[test]
    fn only_scored_steps_are_given_up_and_gaps_hold() {
        let demand = [9.0, 4.0, f64::NAN, 7.0, 8.0];
        let needs = demand.map(|d| d.is_finite().then_some(d as u32));
        let exact = exact(needs.into_iter(), 1);
        assert_eq!(exact.ready, [9, 4, 4, 7, 8]);
        // Two thirds of the three scored steps are two: those of 8 and of 7.
        let trail = within(&exact, &demand, &[1, 3, 4], 0.67, 1);
        assert_eq!(trail.ready, [9, 4, 4, 1, 1]);
        assert_eq!(within(&exact, &demand, &[1, 3, 4], 0.3, 1), exact);
        assert_eq!(within(&exact, &demand, &[], 1.0, 1), exact);
    }
}
