//! Pure: notices that a model no longer fits what comes, in constant time and memory a step.
//!
//! One forecast in each lookahead is followed to its end: where in the forecast distribution of the
//! peak did the real peak fall? For a calibrated model that rank (the probability integral
//! transform) is uniform on (0, 1), whatever the load. Three bets are laid against uniformity, each
//! of which multiplies its stake by `K * v^(K - 1)`: on high ranks (`v = 1 - rank`: peaks run
//! higher than forecast), on low ones (`v = rank`), and on both ends (`v = 2 min(rank, 1 - rank)`:
//! the interval is too narrow). Each factor has the mean 1 while the model holds, so nothing can be
//! won but by luck. A stake that falls below 1 is filled up to 1 (CUSUM: E. S. Page, "Continuous
//! inspection schemes", Biometrika 1954; with bets on ranks to decide about retraining: V. Vovk et
//! al., "Retrain or not retrain: conformal test martingales for change-point detection", COPA
//! 2021).
//!
//! False alarms: a CUSUM stake is at most its Shiryaev-Roberts sum R, R(t) - t is a martingale, so
//! the sum of three has the mean 3 t at every stopping time: the expected time to an alarm at
//! `STAKE` is at least `STAKE / 3` = 1 000 lookaheads. The bound is loose: simulated it is about
//! 40 000 (see the tests), a false alarm in four months for a lookahead of five minutes. Following
//! only one forecast at a time keeps the ranks close to independent.
//!
//! Known limits: a model whose intervals are wrong from its first day alarms as well, which is
//! meant; and a change that the model's own calibration absorbs within a few lookaheads does not.

use serde::{Deserialize, Serialize};

use super::{Forecast, interpolate};
use crate::series::Time;

/// Exponent of the bets: 0.4 wins a factor of 38 on a peak above the 0.999 quantile, and 2.4 at the
/// 0.95 quantile; in the middle it keeps 0.6.
const K: f64 = 0.4;
/// Stake that raises the alarm: three peaks in a row above the 0.999 quantile, or ten at the 0.95.
const STAKE: f64 = 3_000.0;
/// Distance from the median, as a share of demand, that no planner would feel: nearly constant load
/// is forecast within a hair, and falling beside a hair is no drift.
const INDIFFERENT: f64 = 0.02;

/// How reality left the forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shift {
    Higher,
    Lower,
    Wider,
}

/// Drift that was noticed and not yet answered by a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Alarm {
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    pub shift: Shift,
}

impl Alarm {
    /// One clause for people.
    pub fn sentence(&self) -> String {
        let how = match self.shift {
            Shift::Higher => "peaks run higher than the model forecasts",
            Shift::Lower => "peaks run lower than the model forecasts",
            Shift::Wider => "peaks fall outside the model's intervals",
        };
        format!("drift since {}: {how}", self.since.format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// The detector's state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drift {
    followed: Option<Followed>,
    /// Logarithms of the stakes: higher, lower, wider.
    stakes: [f64; 3],
    alarm: Option<Alarm>,
}

/// A forecast of a peak on its way to its end.
#[derive(Debug, Clone, PartialEq)]
struct Followed {
    steps_left: usize,
    highest: f64,
    quantiles: Vec<f64>,
    peaks: Vec<f64>,
}

impl Drift {
    /// Follows the peak of the next `steps` steps, unless one is followed already.
    pub fn expect(&mut self, steps: usize, forecast: Option<&Forecast>) {
        let Some(forecast) = forecast.filter(|_| self.followed.is_none()) else { return };
        let h = steps.clamp(1, forecast.horizon().max(1)) - 1;
        let peaks: Option<Vec<f64>> = forecast.peaks.iter().map(|p| p.get(h).copied()).collect();
        self.followed = peaks.map(|peaks| Followed {
            steps_left: h + 1,
            highest: 0.0,
            quantiles: forecast.quantiles.clone(),
            peaks,
        });
    }

    /// Takes in the demand of the next step; a gap ends what is followed. True if that raises the
    /// alarm.
    pub fn realise(&mut self, now: Time, demand: Option<f64>) -> bool {
        let Some(demand) = demand else {
            self.followed = None;
            return false;
        };
        let Some(followed) = &mut self.followed else { return false };
        followed.highest = followed.highest.max(demand);
        followed.steps_left -= 1;
        if followed.steps_left > 0 {
            return false;
        }
        let rank = followed.rank();
        self.followed = None;
        let before = self.alarm;
        self.alarm = before
            .or(rank.and_then(|rank| self.bet(rank)).map(|shift| Alarm { since: now, shift }));
        before.is_none() && self.alarm.is_some()
    }

    /// Lays the three bets; the shift whose stake has won the most, if it has won enough.
    fn bet(&mut self, rank: f64) -> Option<Shift> {
        let small = [1.0 - rank, rank, 2.0 * rank.min(1.0 - rank)];
        for (stake, v) in self.stakes.iter_mut().zip(small) {
            *stake = (*stake + K.ln() + (K - 1.0) * v.ln()).max(0.0);
        }
        let shifts = self.stakes.iter().zip([Shift::Higher, Shift::Lower, Shift::Wider]);
        let (stake, shift) = shifts.max_by(|a, b| a.0.total_cmp(b.0))?;
        (*stake >= STAKE.ln()).then_some(shift)
    }

    /// Starts anew: another model is in use, or the one in use was confirmed by a training.
    pub fn settle(&mut self) {
        *self = Drift::default();
    }

    pub fn alarm(&self) -> Option<Alarm> {
        self.alarm
    }

    /// How far the best bet has come, from 0 to 1 at the alarm.
    pub fn evidence(&self) -> f64 {
        let best = self.stakes.iter().copied().fold(0.0, f64::max);
        (best / STAKE.ln()).min(1.0)
    }
}

impl Followed {
    /// Where the peak fell, in (0, 1). Beyond the carried quantiles the middle of what is left, so
    /// that no bet wins more than its fair mean; 0.5 where it hardly differs from the median.
    fn rank(&self) -> Option<f64> {
        let median = interpolate(&self.quantiles, &self.peaks, 0.5)?;
        if (self.highest - median).abs() <= INDIFFERENT * self.highest.max(median) {
            return Some(0.5);
        }
        let (&lowest, &highest) = (self.quantiles.first()?, self.quantiles.last()?);
        if self.highest < *self.peaks.first()? {
            return Some(lowest / 2.0);
        }
        if self.highest > *self.peaks.last()? {
            return Some((1.0 + highest) / 2.0);
        }
        interpolate(&self.peaks, &self.quantiles, self.highest)
            .filter(|rank| 0.0 < *rank && *rank < 1.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::forecast::Method;

    /// Lookaheads until the alarm, at most `most`, and what it said.
    fn run(most: usize, mut rank: impl FnMut() -> f64) -> (usize, Option<Shift>) {
        let mut drift = Drift::default();
        (1..=most)
            .find_map(|t| drift.bet(rank()).map(|shift| (t, Some(shift))))
            .unwrap_or((most, None))
    }

    #[test]
    fn false_alarms_are_rarer_than_was_derived() {
        // Twenty runs until the alarm, with ranks as a planner's quantiles show them: exact between
        // 0.05 and 0.999, in the middle of the rest beyond. The bound is 1 000 lookaheads.
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut uniform = || match rng.random::<f64>() {
            u if u < 0.05 => 0.025,
            u if u > 0.999 => 0.9995,
            u => u,
        };
        let total: usize = (0..20).map(|_| run(usize::MAX, &mut uniform).0).sum();
        let mean = total / 20;
        assert!((20_000..80_000).contains(&mean), "{mean}");
    }

    #[test]
    fn each_shift_is_noticed_and_named() {
        let check = |ranks: &[f64], most: usize, want: Shift| {
            let mut ranks = ranks.iter().copied().cycle();
            let (lookaheads, shift) = run(1_000, || ranks.next().expect("a cycle"));
            assert_eq!(shift, Some(want), "after {lookaheads}");
            assert!(lookaheads <= most, "{lookaheads}");
        };
        // 0.4 x 0.0005^-0.6 = 38; 38^3 = 55 000 is above the stake of 3 000, 38^2 is not.
        check(&[0.9995], 3, Shift::Higher);
        // 0.4 x 0.025^-0.6 = 3.66; ln 3 000 / ln 3.66 = 6.2.
        check(&[0.025], 7, Shift::Lower);
        // 0.4 x 0.001^-0.6 x 0.4 x 0.05^-0.6 = 60.8; ln 3 000 / ln 60.8 = 1.95 pairs.
        check(&[0.9995, 0.025], 4, Shift::Wider);
        // 0.4 x 0.05^-0.6 = 2.41; ln 3 000 / ln 2.41 = 9.1.
        check(&[0.95], 10, Shift::Higher);
    }

    /// Quantile q of the peak is 10 q times the step.
    fn forecast() -> Forecast {
        let quantiles = vec![0.1, 0.5, 0.9];
        let peaks: Vec<Vec<f64>> =
            quantiles.iter().map(|q| (1..=4).map(|h| 10.0 * q * f64::from(h)).collect()).collect();
        Forecast {
            method: Method::Naive,
            origin: Time::UNIX_EPOCH,
            step_ms: 1_000,
            point: peaks[1].clone(),
            paths: peaks.clone(),
            peaks,
            quantiles,
        }
    }

    #[test]
    fn the_peak_of_a_lookahead_is_ranked() {
        let check = |steps: usize, demand: &[f64], want: f64| {
            let mut drift = Drift::default();
            drift.expect(steps, Some(&forecast()));
            for &d in &demand[..demand.len() - 1] {
                drift.realise(Time::UNIX_EPOCH, Some(d));
            }
            let mut followed = drift.followed.expect("not at its end yet");
            assert_eq!(followed.steps_left, 1);
            followed.highest = followed.highest.max(demand[demand.len() - 1]);
            let rank = followed.rank().expect("a rank");
            assert!((rank - want).abs() < 1e-12, "{rank}, not {want}");
        };
        // After two steps the quantiles 0.1, 0.5, 0.9 are 2, 10, 18.
        check(2, &[4.0, 0.0], 0.2);
        check(2, &[1.0, 14.0], 0.7);
        // Outside: the middle of what is left. Within 2 % of the median: no difference.
        check(2, &[1.0, 0.0], 0.05);
        check(2, &[99.0, 0.0], 0.95);
        check(2, &[9.9, 0.0], 0.5);
        // No further than the forecast goes.
        check(9, &[0.0, 0.0, 36.0, 0.0], 0.9);
    }

    #[test]
    fn an_alarm_stays_until_it_is_settled_and_a_gap_proves_nothing() {
        let mut drift = Drift::default();
        let step = |drift: &mut Drift, demand| {
            drift.expect(1, Some(&forecast()));
            drift.realise(Time::UNIX_EPOCH, demand)
        };
        // Above the 0.9 quantile: rank 0.95, ten of them.
        let raised: Vec<usize> = (1..=30).filter(|_| step(&mut drift, Some(50.0))).collect();
        assert_eq!(raised, [10]);
        let alarm = drift.alarm().expect("raised");
        assert_eq!(alarm.shift, Shift::Higher);
        assert!(alarm.sentence().contains("peaks run higher"), "{}", alarm.sentence());
        assert_eq!(drift.evidence(), 1.0);
        drift.settle();
        assert_eq!((drift.alarm(), drift.evidence()), (None, 0.0));
        assert!((0..100).all(|_| !step(&mut drift, None)) && drift.evidence() == 0.0);
        drift.expect(3, None);
        assert!(!drift.realise(Time::UNIX_EPOCH, Some(50.0)));
    }
}
