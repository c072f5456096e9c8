//! Pure: from held-out errors to quantiles, for each step ahead and for the running peak.
//!
//! A method gives one number a step; what it got wrong on data it had not seen gives the interval
//! (split conformal prediction). Errors are divided by the local scale, sorted for each step ahead,
//! and kept as a table of quantiles: lopsided errors give lopsided intervals, and a biased method
//! is moved onto its median. The peak has a table of its own, for the errors of the highest of the
//! forecasts: the quantile of a maximum is no maximum of quantiles.
//!
//! With n errors, quantile q is the ((n + 1) q)-th smallest, which covers with at least that
//! probability for exchangeable errors. Where that is beyond the largest error, the tail goes on
//! exponentially with the mean excess of the largest few.
//!
//! Known limit: errors of neighbouring origins resemble each other, so far quantiles are less
//! certain than n suggests.

use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    features::{View, mean},
    interpolate,
    local_scale::{LocalScale, ScaleLayout},
};

/// Levels of the tables; others are interpolated.
pub const LEVELS: [f64; 21] = [
    0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95,
    0.98, 0.99, 0.995, 0.999,
];

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
            HeldOut { rows, forecasts, actuals },
            HeldOut { rows: rows_after, forecasts: forecasts_after, actuals: actuals_after },
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
        let table = |errors: Vec<Vec<f64>>| errors.into_iter().map(quantiles).collect();
        Some(Calibration {
            layout: layout.clone(),
            scale,
            steps: table(steps),
            peaks: table(peaks),
        })
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

    /// Quantile `q` of demand in step `h` (from 0), where the method says `forecast`.
    pub fn step(&self, h: usize, forecast: f64, scale: f64, q: f64) -> f64 {
        at(&self.steps[h], forecast, scale, q)
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
                let path: Vec<f64> =
                    points.iter().enumerate().map(|(h, &y)| self.step(h, y, scale, q)).collect();
                let (mut highest, mut peak) = (0.0f64, 0.0f64);
                let peaks = path.iter().zip(points).enumerate().map(|(h, (&step, &y))| {
                    highest = highest.max(y);
                    peak = peak.max(step).max(at(&self.peaks[h], highest, scale, q));
                    peak
                });
                (peaks.collect(), path)
            })
            .map(|(peaks, path): (Vec<f64>, Vec<f64>)| (path, peaks))
            .unzip()
    }
}

fn at(table: &[f64], forecast: f64, scale: f64, q: f64) -> f64 {
    (forecast + scale * interpolate(&LEVELS, table, q).unwrap_or(0.0)).max(0.0)
}

/// Quantiles of `errors` at [`LEVELS`], ascending; zeros without errors.
fn quantiles(mut errors: Vec<f64>) -> Vec<f64> {
    errors.sort_unstable_by(f64::total_cmp);
    let n = errors.len();
    if n == 0 {
        return vec![0.0; LEVELS.len()];
    }
    let tail = (n / 50).clamp(3, 50).min(n);
    let excess_high = (mean(&errors[n - tail..]) - errors[n - tail]).max(0.0);
    let excess_low = (errors[tail - 1] - mean(&errors[..tail])).max(0.0);
    let quantile = |q: f64| {
        let rank = q * (n + 1) as f64;
        let below = (n + 1) as f64 - rank;
        if rank < 1.0 {
            return errors[0] + excess_low * rank.ln();
        }
        if below < 1.0 {
            return errors[n - 1] - excess_high * below.ln();
        }
        let i = (rank as usize - 1).min(n - 1);
        let next = errors[(i + 1).min(n - 1)];
        (errors[i] + (rank - rank.floor()) * (next - errors[i])).min(next)
    };
    LEVELS.iter().map(|&q| quantile(q)).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// The table entry of level `q` for the errors 1, 2 .. n.
    fn check(n: usize, q: f64, want: f64) {
        let table = quantiles((1..=n).rev().map(|e| e as f64).collect());
        let got = interpolate(&LEVELS, &table, q).unwrap();
        assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "n {n}, q {q}: {got}, not {want}");
    }

    #[test]
    fn quantiles_are_order_statistics_of_one_error_more() {
        check(99, 0.5, 50.0); // Rank 0.5 * 100.
        check(99, 0.99, 99.0); // Rank 99: the largest.
        check(9, 0.85, 8.5); // Rank 8.5: between the 8th and the 9th.
        check(1, 0.5, 1.0);
        assert_eq!(quantiles(Vec::new()), [0.0; LEVELS.len()]);
    }

    #[test]
    fn beyond_the_largest_error_the_tail_goes_on_exponentially() {
        // The 3 largest of 9 are 7, 8, 9: mean excess over 7 is 1. Level 0.99 has rank 9.9, that is
        // 0.1 from the end.
        check(9, 0.99, 9.0 - 0.1f64.ln());
        check(9, 0.01, 1.0 + 0.1f64.ln());
        // Two equal errors have no excess: nothing to extrapolate with.
        assert!(quantiles(vec![4.0, 4.0]).iter().all(|&v| v == 4.0));
    }

    #[test]
    fn a_bias_is_moved_onto_the_median_and_peaks_have_their_own_errors() {
        // The method says 10 for both steps; demand is 12 and 11, always.
        let n = 20;
        let rows = Array2::zeros((n, 1));
        let forecasts = Array2::from_elem((n, 2), 10.0);
        let actuals = Array2::from_shape_fn((n, 2), |(_, h)| 12.0 - h as f64);
        let held_out =
            HeldOut { rows: rows.view(), forecasts: forecasts.view(), actuals: actuals.view() };
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
