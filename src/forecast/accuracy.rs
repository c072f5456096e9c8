//! Pure: accuracy measures of forecasts (MASE, pinball loss, coverage).

use serde::{Deserialize, Serialize};

use super::Method;

/// Rolling-origin accuracy of one method. Lower is better, but for `coverage_80` (ideal 0.8) and
/// `exceed_99` (0.01).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MethodScore {
    pub method: Method,
    /// Mean absolute error over the mean absolute error of the season before (of the step before
    /// without a season).
    pub mase: f64,
    /// Mean pinball loss over the quantiles 0.1, 0.5, 0.9, 0.99, on the same scale.
    pub pinball: f64,
    /// Share of actuals within the 0.1 and 0.9 quantiles.
    pub coverage_80: f64,
    /// Share of actuals above the 0.99 quantile.
    pub exceed_99: f64,
    pub origins: usize,
}

/// The same without the method's name.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    pub mase: f64,
    pub pinball: f64,
    pub coverage_80: f64,
    pub exceed_99: f64,
}

/// The quantiles that scores are made of.
pub const SCORED: [f64; 4] = [0.1, 0.5, 0.9, 0.99];

/// Sums over scored steps.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    absolute: f64,
    pinball: f64,
    inside: usize,
    above: usize,
    steps: usize,
}

impl Tally {
    /// Adds one step: the actual value against the [`SCORED`] quantiles of its forecast, the median
    /// for its point.
    pub fn add(&mut self, actual: f64, quantiles: [f64; 4]) {
        self.add_point(actual, quantiles[1], quantiles);
    }

    /// Adds one step whose point forecast need not be its median.
    pub fn add_point(&mut self, actual: f64, point: f64, quantiles: [f64; 4]) {
        let [low, _, high, highest] = quantiles;
        self.absolute += (actual - point).abs();
        let losses = SCORED.iter().zip(quantiles).map(|(&q, f)| pinball_loss(actual, f, q));
        self.pinball += losses.sum::<f64>() / SCORED.len() as f64;
        self.inside += usize::from((low..=high).contains(&actual));
        self.above += usize::from(actual > highest);
        self.steps += 1;
    }

    /// Adds one step of which only a lower bound is known: whatever lies above it is taken to be
    /// right.
    pub fn add_at_least(&mut self, bound: f64, point: f64, quantiles: [f64; 4]) {
        let [_, _, high, highest] = quantiles;
        self.absolute += (bound - point).max(0.0);
        let losses = SCORED.iter().zip(quantiles).map(|(&q, f)| pinball_loss(bound.max(f), f, q));
        self.pinball += losses.sum::<f64>() / SCORED.len() as f64;
        self.inside += usize::from(bound <= high);
        self.above += usize::from(bound > highest);
        self.steps += 1;
    }

    /// Means over the steps, losses in units of `scale` (see [`seasonal_error`]); `None` without a
    /// step.
    pub fn accuracy(&self, scale: f64) -> Option<Accuracy> {
        let share = |sum: f64| sum / self.steps as f64;
        (self.steps > 0).then(|| Accuracy {
            mase: share(self.absolute) / scale,
            pinball: share(self.pinball) / scale,
            coverage_80: share(self.inside as f64),
            exceed_99: share(self.above as f64),
        })
    }

    /// [`Tally::accuracy`] with the method's name.
    pub fn score(&self, method: Method, scale: f64, origins: usize) -> Option<MethodScore> {
        let Accuracy { mase, pinball, coverage_80, exceed_99 } = self.accuracy(scale)?;
        Some(MethodScore { method, mase, pinball, coverage_80, exceed_99, origins })
    }
}

/// Loss that the true `q` quantile minimises on average.
pub fn pinball_loss(actual: f64, forecast: f64, q: f64) -> f64 {
    let above = actual - forecast;
    if above >= 0.0 { q * above } else { (q - 1.0) * above }
}

/// Mean |x(t) - x(t - season)| over steps that have both; the unit of MASE. 1 where that is
/// nothing, as for a constant series, so that scores stay finite.
pub fn seasonal_error(values: &[f64], season: usize) -> f64 {
    let season = season.max(1);
    let pairs = values.iter().zip(values.iter().skip(season));
    let (sum, n) = pairs
        .map(|(a, b)| (a - b).abs())
        .filter(|d| d.is_finite())
        .fold((0.0, 0u32), |(s, n), d| (s + d, n + 1));
    let error = sum / f64::from(n.max(1));
    if error > 0.0 { error } else { 1.0 }
}

/// The season of the MASE scale: a day where the step divides it and the history holds one, else
/// the strongest detected season, else the step before.
pub fn scale_season(points: usize, step_ms: i64, detected: &[usize]) -> usize {
    const DAY_MS: i64 = 86_400_000;
    let day = (DAY_MS / step_ms) as usize;
    if DAY_MS % step_ms == 0 && day < points {
        return day;
    }
    detected.first().copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinball_loss_charges_by_the_side() {
        for (actual, forecast, q, want) in
            [(3.0, 1.0, 0.9, 1.8), (1.0, 3.0, 0.9, 0.2), (2.0, 2.0, 0.1, 0.0), (0.0, 4.0, 0.5, 2.0)]
        {
            let got = pinball_loss(actual, forecast, q);
            assert!((got - want).abs() < 1e-12, "{actual} {forecast} {q}: {got}");
        }
    }

    #[test]
    fn seasonal_error_passes_over_gaps_and_is_never_nothing() {
        let gap = f64::NAN;
        // Pairs two apart: |3 - 1|, a gap, |7 - 3|: mean 3.
        assert_eq!(seasonal_error(&[1.0, gap, 3.0, 4.0, 7.0], 2), 3.0);
        for values in [&[][..], &[5.0], &[5.0; 9], &[gap; 9]] {
            assert_eq!(seasonal_error(values, 1), 1.0);
        }
    }

    #[test]
    fn the_scale_season_is_a_day_where_there_is_one() {
        for (points, step_ms, detected, want) in [
            (1_000, 300_000, &[12][..], 288),
            (200, 300_000, &[12], 12),
            (200, 300_000, &[], 1),
            (usize::MAX, 7_000, &[9, 5], 9),
        ] {
            assert_eq!(scale_season(points, step_ms, detected), want);
        }
    }

    #[test]
    fn a_tally_is_the_mean_over_its_steps() {
        let mut tally = Tally::default();
        assert_eq!(tally.score(Method::Naive, 2.0, 0), None);
        tally.add(5.0, [4.0, 5.0, 6.0, 7.0]);
        tally.add(9.0, [4.0, 5.0, 6.0, 7.0]);
        let score = tally.score(Method::Naive, 2.0, 1).unwrap();
        // Absolute: (0 + 4) / 2 steps / 2. Pinball: of 5: 0.1, 0, 0.1, 0.02; of 9: 0.5, 2, 2.7,
        // 1.98.
        assert_eq!((score.mase, score.coverage_80, score.exceed_99), (1.0, 0.5, 0.5));
        assert!((score.pinball - (0.22 + 7.18) / 4.0 / 2.0 / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_lower_bound_is_not_scored_against_what_lies_above_it() {
        // (bound, absolute, pinball, inside, above) for the quantiles 4, 5, 6, 7.
        for (bound, absolute, pinball, coverage_80, exceed_99) in [
            (3.0, 0.0, 0.0, 1.0, 0.0),
            // 1.5 above the first: 0.15; 0.5 above the median: 0.25.
            (5.5, 0.5, 0.4, 1.0, 0.0),
            (6.5, 1.5, 0.25 + 0.75 + 0.45, 0.0, 0.0),
            (9.0, 4.0, 7.18, 0.0, 1.0),
        ] {
            let mut tally = Tally::default();
            tally.add_at_least(bound, 5.0, [4.0, 5.0, 6.0, 7.0]);
            let score = tally.score(Method::Naive, 1.0, 1).unwrap();
            assert_eq!((score.mase, score.coverage_80), (absolute, coverage_80), "{bound}");
            assert!((score.pinball - pinball / 4.0).abs() < 1e-12, "{bound}: {}", score.pinball);
            assert_eq!(score.exceed_99, exceed_99, "{bound}");
        }
    }
}
