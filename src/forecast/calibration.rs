//! Pure: from held-out errors to quantiles, for each step ahead and for the running peak.
//!
//! A method gives one number a step; what it got wrong on data it had not seen gives the interval
//! (split conformal prediction). Errors are divided by the local scale, sorted for each step ahead,
//! and kept as a table of quantiles: lopsided errors give lopsided intervals. A method whose bias
//! stands out from their spread is moved onto its median; a smaller bias is mostly chance, and
//! seldom lasts. The peak has a table of its own, for the errors of the highest of the forecasts:
//! the quantile of a maximum is no maximum of quantiles.
//!
//! Errors fade with age, with a half-life of a seventh of those at hand: a method that has learned
//! more, or a load that has calmed down, is soon believed. With n errors of equal weight the i-th
//! is taken for quantile i / (n + 1), which covers with at least that probability for exchangeable
//! ones. In place of n stands what they are worth: weights that fade count less (Kish's effective
//! sample size, (Σw)² / Σw²), and errors of neighbouring origins that look at the same step say
//! partly the same. Beyond the largest error the tail goes on exponentially with the mean excess of
//! the largest few.

use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    Place,
    features::{View, mean},
    interpolate,
    local_scale::{LocalScale, ScaleLayout},
};

/// Levels of the tables; others are interpolated.
pub const LEVELS: [f64; 21] = [
    0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95,
    0.98, 0.99, 0.995, 0.999,
];

/// Half-life of an error, as a share of all.
const HALF_LIFE: f64 = 0.15;

/// A median error below this share of the spread, half the distance of the [`SPREAD`] quantiles, is
/// taken for chance.
const BIAS: f64 = 0.5;
const SPREAD: (f64, f64) = (0.2, 0.8);

/// Quantiles of normalised errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    layout: ScaleLayout,
    scale: LocalScale,
    /// `steps[h][level]`.
    steps: Vec<Vec<f64>>,
    /// `peaks[h][level]`, of the highest demand in the steps `0..=h`.
    peaks: Vec<Vec<f64>>,
}

/// What a method forecast out of sample and what came, in order of time.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut<'a> {
    /// origins × columns of the [`ScaleLayout`].
    pub rows: ArrayView2<'a, f64>,
    /// origins × steps ahead.
    pub forecasts: ArrayView2<'a, f64>,
    /// origins × steps ahead.
    pub actuals: ArrayView2<'a, f64>,
    /// Mean steps from one origin to the next.
    pub spacing: f64,
}

impl<'a> HeldOut<'a> {
    pub fn origins(&self) -> usize {
        self.forecasts.nrows()
    }

    /// Splits before origin `i`.
    pub fn split_at(self, i: usize) -> (HeldOut<'a>, HeldOut<'a>) {
        let (rows, rows_after) = self.rows.split_at(Axis(0), i);
        let (forecasts, forecasts_after) = self.forecasts.split_at(Axis(0), i);
        let (actuals, actuals_after) = self.actuals.split_at(Axis(0), i);
        (
            HeldOut { rows, forecasts, actuals, ..self },
            HeldOut {
                rows: rows_after,
                forecasts: forecasts_after,
                actuals: actuals_after,
                ..self
            },
        )
    }

    /// Mean absolute error of each origin.
    fn errors(&self) -> Vec<f64> {
        let rows = self.forecasts.rows().into_iter().zip(self.actuals.rows());
        rows.map(|(f, y)| (&f - &y).mapv(f64::abs).mean().unwrap_or(0.0)).collect()
    }
}

impl Calibration {
    /// With the scale of the error regressed (`None` where that cannot be learned) or constant.
    pub fn fit(held_out: HeldOut, layout: &ScaleLayout, regressed: bool) -> Option<Calibration> {
        let errors = held_out.errors();
        let scale = if regressed {
            LocalScale::regress(held_out.rows, &errors)?
        } else {
            LocalScale::constant(&errors)
        };
        let horizon = held_out.forecasts.ncols();
        let mut steps = vec![Vec::with_capacity(errors.len()); horizon];
        let mut peaks = steps.clone();
        let mut row = Vec::new();
        for ((columns, forecasts), actuals) in held_out
            .rows
            .rows()
            .into_iter()
            .zip(held_out.forecasts.rows())
            .zip(held_out.actuals.rows())
        {
            row.clear();
            row.extend(columns);
            let unit = scale.at(&row);
            let (mut highest, mut came) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            for (h, (&f, &y)) in forecasts.iter().zip(actuals).enumerate() {
                (highest, came) = (highest.max(f), came.max(y));
                steps[h].push((y - f) / unit);
                peaks[h].push((came - highest) / unit);
            }
        }
        let table = |errors: Vec<Vec<f64>>| {
            // So many neighbouring origins look at the same step. If they erred there alike, as
            // many errors would be worth one; by the square root the quantiles are the sharpest
            // that cover (recorded loads: 0.99 is exceeded in 0.8 % of steps; in 1.3 % without;
            // with all of it in 0.7 %, and the pinball loss is 2 % higher).
            let sharing = |h: usize| ((h + 1) as f64 / held_out.spacing).max(1.0).sqrt();
            let errors = errors.into_iter().enumerate();
            errors.map(|(h, errors)| quantiles(errors, HALF_LIFE, sharing(h))).collect::<Vec<_>>()
        };
        Some(Calibration {
            layout: layout.clone(),
            scale,
            steps: table(steps).into_iter().map(without_chance).collect(),
            peaks: table(peaks),
        })
    }

    /// For the last value as a forecast, before there is anything to hold out: errors of a random
    /// walk whose steps are the changes in `values`, grown by the square root of the steps ahead.
    pub fn random_walk(values: &[f64], horizon: usize) -> Calibration {
        let changes: Vec<f64> = values
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .filter(|change| change.is_finite())
            .collect();
        let scale = LocalScale::constant(&[mean(&changes)]);
        let unit = scale.at(&[]);
        let grown = |sizes: Vec<f64>| -> Vec<Vec<f64>> {
            let table = quantiles(sizes, f64::INFINITY, 1.0);
            let root = |h: usize| ((h + 1) as f64).sqrt() / unit;
            (0..horizon).map(|h| table.iter().map(|e| e * root(h)).collect()).collect()
        };
        let both = changes.iter().flat_map(|&c| [c, -c]).collect();
        Calibration {
            layout: ScaleLayout::new(&changes, horizon, None),
            scale,
            steps: grown(both),
            // The highest point of a walk is as far up as its end is to either side.
            peaks: grown(changes),
        }
    }

    pub fn context(&self) -> usize {
        self.layout.context()
    }

    /// Scale of the error at the origin of `view`.
    pub fn scale(&self, view: View) -> f64 {
        let mut row = Vec::with_capacity(self.layout.width());
        self.layout.row(view, &mut row);
        self.scale.at(&row)
    }

    /// Scale of the error for columns of the [`ScaleLayout`].
    pub fn scale_of(&self, row: &[f64]) -> f64 {
        self.scale.at(row)
    }

    /// Quantile `q` of the errors of each step ahead, in units of the scale.
    pub fn step_errors(&self, q: f64) -> Vec<f64> {
        errors_at(&self.steps, q)
    }

    /// Quantile paths of demand and of its running peak, where the method says `points`. A peak is
    /// at least as high as each step that it covers, whatever their tables say.
    pub fn quantile_paths(
        &self,
        points: &[f64],
        scale: f64,
        quantiles: &[f64],
    ) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        quantiles
            .iter()
            .map(|&q| {
                let errors = self.step_errors(q);
                let path: Vec<f64> =
                    points.iter().zip(errors).map(|(y, e)| demand(*y, scale, e)).collect();
                let (mut highest, mut peak) = (0.0f64, 0.0f64);
                let errors = errors_at(&self.peaks, q);
                let peaks = path.iter().zip(points).zip(errors).map(|((&step, &y), error)| {
                    highest = highest.max(y);
                    peak = peak.max(step).max(demand(highest, scale, error));
                    peak
                });
                let peaks = peaks.collect();
                (path, peaks)
            })
            .unzip()
    }
}

/// Where the method says `forecast` and errs by `error` times the scale; never negative.
pub fn demand(forecast: f64, scale: f64, error: f64) -> f64 {
    (forecast + scale * error).max(0.0)
}

fn errors_at(tables: &[Vec<f64>], q: f64) -> Vec<f64> {
    let place = Place::among(&LEVELS, q);
    let at =
        |table: &Vec<f64>| place.map_or(0.0, |p| p.read(|i| table.get(i).copied().unwrap_or(0.0)));
    tables.iter().map(at).collect()
}

/// Quantiles of `errors` (in order of time) at [`LEVELS`], ascending; zeros without errors.
/// `half_life` as a share of all errors, of which so many are worth one.
fn quantiles(errors: Vec<f64>, half_life: f64, sharing: f64) -> Vec<f64> {
    let n = errors.len();
    let Some(last) = n.checked_sub(1) else { return vec![0.0; LEVELS.len()] };
    let fade = (-1.0 / (half_life * n as f64)).exp2();
    let mut weight = 1.0;
    let mut weighted: Vec<(f64, f64)> = Vec::with_capacity(n);
    for error in errors.into_iter().rev() {
        weighted.push((error, weight));
        weight *= fade;
    }
    let total: f64 = weighted.iter().map(|e| e.1).sum();
    let squares: f64 = weighted.iter().map(|e| e.1 * e.1).sum();
    let worth = (total * total / squares / sharing).max(1.0);
    weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Which quantile each error is: i / (n + 1) for the i-th if all weighed the same.
    let mut below = 0.0;
    let levels: Vec<f64> = weighted
        .iter()
        .map(|(_, weight)| {
            below += weight;
            ((below - 0.5 * weight) / total * worth + 0.5) / (worth + 1.0)
        })
        .collect();
    let errors: Vec<f64> = weighted.into_iter().map(|e| e.0).collect();
    let tail = (n / 50).clamp(3, 50).min(n);
    let excess_high = (mean(&errors[n - tail..]) - errors[n - tail]).max(0.0);
    let excess_low = (errors[tail - 1] - mean(&errors[..tail])).max(0.0);
    let quantile = |q: f64| {
        if q <= levels[0] {
            return errors[0] + excess_low * (q / levels[0]).ln();
        }
        if q >= levels[last] {
            return errors[last] - excess_high * ((1.0 - q) / (1.0 - levels[last])).ln();
        }
        let i = levels.partition_point(|&level| level < q);
        let share = (q - levels[i - 1]) / (levels[i] - levels[i - 1]);
        (errors[i - 1] + share * (errors[i] - errors[i - 1])).min(errors[i])
    };
    LEVELS.iter().map(|&q| quantile(q)).collect()
}

/// A table less that part of its median that is mostly chance.
fn without_chance(mut table: Vec<f64>) -> Vec<f64> {
    let at = |q| interpolate(&LEVELS, &table, q).unwrap_or(0.0);
    // `max` turns NaN, of errors without end, into 0.
    let chance = (BIAS * (at(SPREAD.1) - at(SPREAD.0)) / 2.0).max(0.0);
    let shift = at(0.5).clamp(-chance, chance);
    table.iter_mut().for_each(|error| *error -= shift);
    table
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// The table entry of level `q` for the errors 1, 2 .. n.
    fn check(n: usize, q: f64, want: f64) {
        let table = quantiles((1..=n).rev().map(|e| e as f64).collect(), f64::INFINITY, 1.0);
        let got = interpolate(&LEVELS, &table, q).unwrap();
        assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "n {n}, q {q}: {got}, not {want}");
    }

    #[test]
    fn quantiles_are_order_statistics_of_one_error_more() {
        check(99, 0.5, 50.0); // Rank 0.5 * 100.
        check(99, 0.99, 99.0); // Rank 99: the largest.
        check(9, 0.85, 8.5); // Rank 8.5: between the 8th and the 9th.
        check(1, 0.5, 1.0);
        assert_eq!(quantiles(Vec::new(), 1.0, 1.0), [0.0; LEVELS.len()]);
    }

    #[test]
    fn errors_that_are_worth_less_leave_more_beyond_them() {
        let check = |half_life: f64, sharing: f64, q: f64, want: f64| {
            let errors = (0..100).map(|i| f64::from((37 * i) % 100 + 1)).collect();
            let got = interpolate(&LEVELS, &quantiles(errors, half_life, sharing), q).unwrap();
            assert!((got - want).abs() < 0.05 * want, "{half_life} {sharing} {q}: {got}");
        };
        // 100 errors, 1 to 100 in a mixed order. The i-th is level ((i - 0.5) / 100 m + 0.5) /
        // (m + 1) if they are worth m: 100 give 0.9 to 90.9; 25 to (0.9 x 26 - 0.5) x 4 + 0.5.
        check(f64::INFINITY, 1.0, 0.9, 90.9);
        check(f64::INFINITY, 4.0, 0.9, 92.1);
        check(f64::INFINITY, 4.0, 0.1, 8.9);
        // Of weights that halve over 15 errors, Kish's size is 42.4: (0.9 x 43.4 - 0.5) / 42.4.
        check(0.15, 1.0, 0.9, 91.0);
    }

    #[test]
    fn errors_fade_with_age() {
        // Half of the weight is in the newest half: 10 of the 20 errors, all 1 there.
        let errors = |old: f64| (0..20).map(|i| if i < 10 { old } else { 1.0 }).collect();
        let median = |old, half_life| {
            interpolate(&LEVELS, &quantiles(errors(old), half_life, 1.0), 0.6).unwrap()
        };
        assert_eq!(median(5.0, 0.15), 1.0);
        assert_eq!(median(5.0, f64::INFINITY), 5.0);
    }

    #[test]
    fn beyond_the_largest_error_the_tail_goes_on_exponentially() {
        // The 3 largest of 9 are 7, 8, 9: mean excess over 7 is 1. Level 0.99 has rank 9.9, that is
        // 0.1 from the end.
        check(9, 0.99, 9.0 - 0.1f64.ln());
        check(9, 0.01, 1.0 + 0.1f64.ln());
        // Two equal errors have no excess: nothing to extrapolate with.
        assert!(quantiles(vec![4.0, 4.0], 1.0, 1.0).iter().all(|&v| v == 4.0));
    }

    #[test]
    fn a_bias_is_moved_onto_the_median_and_peaks_have_their_own_errors() {
        // The method says 10 for both steps; demand is 12 and 11, always.
        let n = 20;
        let rows = Array2::zeros((n, 1));
        let forecasts = Array2::from_elem((n, 2), 10.0);
        let actuals = Array2::from_shape_fn((n, 2), |(_, h)| 12.0 - h as f64);
        let held_out = HeldOut {
            rows: rows.view(),
            forecasts: forecasts.view(),
            actuals: actuals.view(),
            spacing: 1.0,
        };
        let layout = ScaleLayout::new(&[10.0; 100], 2, None);
        let calibration = Calibration::fit(held_out, &layout, false).unwrap();
        let scale = calibration.scale_of(&[0.0]);
        let (paths, peaks) = calibration.quantile_paths(&[10.0, 10.0], scale, &[0.1, 0.9]);
        assert_eq!(paths, [[12.0, 11.0], [12.0, 11.0]]);
        assert_eq!(peaks, [[12.0, 12.0], [12.0, 12.0]]);
        let (paths, _) = calibration.quantile_paths(&[-30.0, 0.0], scale, &[0.5]);
        assert_eq!(paths, [[0.0, 1.0]], "demand is never negative");
    }
}
