//! Pure: patience with changes.
//!
//! A change of the count disturbs: caches are cold, connections move, a start costs time. Yet every
//! step with a count that is not the cheapest costs as well. What staying has cost is summed, and
//! once the sum would have paid for a change, the change is made: the rule of the ski rental, which
//! at worst costs twice what a clairvoyant would have paid. Where overload looms staying is dear,
//! so ways up hardly wait; ways down wait the longer the less they save.

use super::Decision;

/// Share of the sum that is left after a step in which the count was right.
const FADE: f64 = 0.9;

/// What staying has cost since the last change, in replica steps.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Regret(pub f64);

impl Regret {
    /// The state after a step in which staying cost `cost` more than the best count; `None` if the
    /// count was the best.
    #[must_use]
    pub fn after(self, cost: Option<f64>) -> Regret {
        match cost {
            Some(cost) if cost.is_finite() => Regret(self.0 + cost.max(0.0)),
            Some(_) => Regret(f64::MAX),
            None => Regret(self.0 * FADE),
        }
    }

    /// What is carried on from a decision: nothing once the planned change was made, in full.
    /// Windows and rate limits may put it off, which is no reason to forget it. What the rule's
    /// count costs while it decides alone is no reason to change it once the forecast may.
    #[must_use]
    pub fn carried(self, decision: &Decision) -> Regret {
        if !decision.trust.acts() {
            return Regret::default();
        }
        let Some(used) = &decision.forecast else { return self };
        let made =
            used.planned != decision.current_replicas && used.planned == decision.desired_replicas;
        if made { Regret::default() } else { Regret(used.regret) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regret_grows_while_another_count_is_better_and_fades_while_none_is() {
        let check = |costs: &[Option<f64>], want: f64| {
            let got = costs.iter().fold(Regret::default(), |regret, &cost| regret.after(cost));
            assert!((got.0 - want).abs() < 1e-12, "{costs:?}: {got:?}");
        };
        check(&[], 0.0);
        check(&[Some(1.0), Some(2.5)], 3.5);
        // (1 x 0.9 + 1) x 0.9 x 0.9 = 1.539.
        check(&[Some(1.0), None, Some(1.0), None, None], 1.539);
        check(&[Some(1.0), Some(-3.0)], 1.0);
        check(&[Some(f64::NAN)], f64::MAX);
    }
}
