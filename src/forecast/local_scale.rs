//! Pure: how large the errors of a forecast will be at this moment, by regression on how restless
//! the load is.
//!
//! A service that is quiet at night and restless by day needs a narrow interval at night and a wide
//! one by day. An ordinary least-squares fit (linfa-linear) of log |held-out error| on the log of
//! recent changes, of the changes one season ago where the forecast will be, and of the level gives
//! each origin a scale; the calibration then works on errors divided by it.
//!
//! Such a fit extrapolates by factors after a level shift. It is therefore bounded to e^-2 .. e^1.5
//! around the recent mean error, and kept only where it lowers the held-out pinball loss (see
//! [`super::calibration`]).

use linfa::{dataset::DatasetBase, traits::Fit};
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::features::{View, mean};

/// Natural logarithms below and above the recent mean error.
const BOUNDS: (f64, f64) = (-2.0, 1.5);
/// Windows of recent changes, in steps; those longer than an eighth of the history are left out.
const WINDOWS: [usize; 3] = [3, 12, 72];
/// Share of the held-out errors that counts as recent.
const RECENT: f64 = 0.25;

/// What the scale is read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleLayout {
    windows: Vec<usize>,
    season_length: Option<usize>,
    horizon: usize,
    /// Keeps logarithms finite; a small part of the typical change.
    floor: f64,
}

impl ScaleLayout {
    pub fn new(values: &[f64], horizon: usize, season_length: Option<usize>) -> ScaleLayout {
        let windows = WINDOWS.iter().copied().filter(|w| w * 8 <= values.len()).collect();
        let floor = 0.01 * changes(values) + 1e-6 * mean(values).abs() + f64::MIN_POSITIVE;
        ScaleLayout { windows, season_length, horizon, floor }
    }

    /// Values that [`ScaleLayout::row`] reads.
    pub fn context(&self) -> usize {
        let recent = self.windows.iter().max().map_or(1, |w| w + 1);
        recent + self.season_length.map_or(0, |s| s.max(self.horizon) + 1)
    }

    pub fn width(&self) -> usize {
        self.windows.len() + 1 + if self.season_length.is_some() { 3 } else { 0 }
    }

    /// Replaces `row` by the columns at the origin of `view`.
    pub fn row(&self, view: View, row: &mut Vec<f64>) {
        row.clear();
        let log = |v: f64| (v.abs() + self.floor).ln();
        row.extend(self.windows.iter().map(|&w| log(changes(view.window(0, w + 1)))));
        row.push(log(mean(view.window(0, 3.min(view.values.len())))));
        if let Some(season) = self.season_length {
            let ahead = self.horizon.min(season);
            let then = view.window(season - ahead, ahead + 1);
            let (low, high) = then
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
            let apart = (0..3).map(|i| (view.ago(i) - view.ago(i + season)).abs()).sum::<f64>();
            row.extend([log(changes(then)), log(high - low), log(apart / 3.0)]);
        }
    }
}

/// Scale of the error at an origin, in the load's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalScale {
    /// Log of the recent mean error.
    base: f64,
    /// `None`: the scale is constant.
    fitted: Option<Weights>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Weights {
    intercept: f64,
    weights: Vec<f64>,
}

impl LocalScale {
    /// The recent mean error for every origin. `errors`: mean absolute error of each origin, in
    /// order of time.
    pub fn constant(errors: &[f64]) -> LocalScale {
        let recent = ((errors.len() as f64 * RECENT).ceil() as usize).clamp(1, errors.len().max(1));
        let recent = mean(&errors[errors.len().saturating_sub(recent)..]);
        let all = mean(errors);
        // A recent stretch without any error says little; a hundredth of the usual one bounds it
        // from below.
        let base = recent.max(0.01 * all);
        LocalScale { base: if base > 0.0 { base.ln() } else { 0.0 }, fitted: None }
    }

    /// Least squares of log error on `rows`; `None` where there is nothing to learn from.
    pub fn regress(rows: ArrayView2<f64>, errors: &[f64]) -> Option<LocalScale> {
        let constant = LocalScale::constant(errors);
        let floor = 1e-3 * mean(errors);
        let kept: Vec<usize> =
            (0..rows.ncols()).filter(|&j| rows.column(j).std(0.0) > 1e-6).collect();
        if errors.len() < 20 * (kept.len() + 1) || floor <= 0.0 || kept.is_empty() {
            return None;
        }
        let x: Array2<f64> = rows.select(Axis(1), &kept);
        let y: Array1<f64> = errors.iter().map(|e| (e + floor).ln()).collect();
        let fit = LinearRegression::new().fit(&DatasetBase::new(x, y)).ok()?;
        let mut weights = vec![0.0; rows.ncols()];
        for (&j, &w) in kept.iter().zip(fit.params()) {
            weights[j] = w;
        }
        let fitted = Weights { intercept: fit.intercept(), weights };
        let finite = fitted.intercept.is_finite() && fitted.weights.iter().all(|w| w.is_finite());
        finite.then_some(LocalScale { fitted: Some(fitted), ..constant })
    }

    /// Above 0 and finite.
    pub fn at(&self, row: &[f64]) -> f64 {
        let Some(Weights { intercept, weights }) = &self.fitted else {
            return self.base.exp();
        };
        let log = intercept + row.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        log.clamp(self.base + BOUNDS.0, self.base + BOUNDS.1).exp()
    }
}

/// Mean absolute change from one value to the next.
fn changes(values: &[f64]) -> f64 {
    let sum: f64 = values.windows(2).map(|w| (w[1] - w[0]).abs()).sum();
    sum / (values.len().max(2) - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_scale_is_the_recent_mean_error() {
        // The newest quarter of eight errors: (4 + 6) / 2.
        let scale = LocalScale::constant(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 4.0, 6.0]);
        assert!((scale.at(&[]) - 5.0).abs() < 1e-12);
        assert_eq!(LocalScale::constant(&[0.0; 9]).at(&[]), 1.0, "no error needs no unit");
        assert!(LocalScale::constant(&[8.0, 8.0, 8.0, 0.0]).at(&[]) > 0.0);
    }

    #[test]
    fn a_learned_scale_follows_its_column_and_stays_bounded() {
        // The error is the exponential of the first column; the second is constant.
        let rows =
            Array2::from_shape_fn((200, 2), |(i, j)| if j == 0 { (i % 3) as f64 } else { 1.0 });
        let errors: Vec<f64> = rows.column(0).iter().map(|x| x.exp()).collect();
        let scale = LocalScale::regress(rows.view(), &errors).unwrap();
        assert!((scale.at(&[2.0, 1.0]) / scale.at(&[1.0, 1.0]) - 1f64.exp()).abs() < 0.01);
        let base = LocalScale::constant(&errors).at(&[]);
        assert!((scale.at(&[1e6, 1.0]) / (base * 1.5f64.exp()) - 1.0).abs() < 1e-9);
        assert!((scale.at(&[-1e6, 1.0]) / (base * (-2f64).exp()) - 1.0).abs() < 1e-9);
        assert_eq!(LocalScale::regress(rows.view(), &[0.0; 200]), None);
    }

    #[test]
    fn a_row_has_the_promised_width_within_its_context() {
        for (n, season) in [(30, None), (300, Some(40)), (300, Some(5))] {
            let values: Vec<f64> = (0..n).map(|i| ((i * 37) % 11) as f64).collect();
            let layout = ScaleLayout::new(&values, 12, season);
            let view = View::new(&values[n - layout.context()..], 0);
            let mut row = Vec::new();
            layout.row(view, &mut row);
            assert_eq!(row.len(), layout.width());
            assert!(row.iter().all(|v| v.is_finite()));
        }
    }
}
