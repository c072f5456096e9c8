//! Pure: ridge regression of several targets at once, from sums over rows.
//!
//! [`Ridge`] is linfa's `Fit` over [`Moments`]: the sums that a least-squares fit needs. Moments of
//! blocks of rows add up, so a fit to any run of blocks costs no pass over its rows.
//!
//! Hundreds of small systems are solved in one training. [`eliminate`] is therefore written by
//! whole rows, all targets at once, which the compiler turns into vector instructions.

use linfa::{
    dataset::{AsMultiTargets, DatasetBase},
    traits::{Fit, PredictInplace},
};
use ndarray::{
    Array1, Array2, ArrayBase, ArrayView2, ArrayViewMut2, Axis, Data, Ix2, linalg::general_mat_mul,
    s,
};
use serde::{Deserialize, Serialize};

use crate::forecast::{ForecastError, features::range};

/// Weight of a block of rows against the block after it.
const FADE: f64 = 0.8;

/// Least squares with a penalty on squared weights, all targets at once.
///
/// Columns count in units of their standard deviation; those without variance get weight 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    /// Added to the diagonal of the correlation matrix; above 0 keeps collinear columns apart.
    pub penalty: f64,
}

/// Why a ridge fit failed.
#[derive(Debug, thiserror::Error)]
pub enum RidgeError {
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
    #[error(transparent)]
    Forecast(#[from] ForecastError),
}

impl<D: Data<Elem = f64>, T: AsMultiTargets<Elem = f64>> Fit<ArrayBase<D, Ix2>, T, RidgeError>
    for Ridge
{
    type Object = FittedRidge;

    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<FittedRidge, RidgeError> {
        let moments = Moments::of(dataset.records().view(), dataset.targets().as_multi_targets());
        Ok(moments.correlations().solve(self.penalty)?)
    }
}

/// Weights (columns × targets) and intercepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedRidge {
    pub weights: Array2<f64>,
    pub intercepts: Array1<f64>,
    /// Of each column, the range that it was fitted in. What lies beyond counts as its end: a
    /// straight line is no guide to where nobody has been, and surges lead there.
    pub range: Vec<(f64, f64)>,
}

impl FittedRidge {
    /// What `x` (rows × columns), all within the range, leads to: rows × targets.
    pub fn predict_into(&self, x: ArrayView2<f64>, mut out: ArrayViewMut2<f64>) {
        out.assign(&self.intercepts);
        general_mat_mul(1.0, &x, &self.weights, 1.0, &mut out);
    }
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array2<f64>> for FittedRidge {
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array2<f64>) {
        self.predict_into(all_within(x.view(), &self.range).view(), y.view_mut());
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array2<f64> {
        Array2::zeros((x.nrows(), self.intercepts.len()))
    }
}

/// NaN stays NaN.
pub fn within(x: f64, (low, high): (f64, f64)) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// `x` (rows × columns) with each column held within its range.
pub fn all_within(x: ArrayView2<f64>, range: &[(f64, f64)]) -> Array2<f64> {
    let mut x = x.to_owned();
    for mut row in x.rows_mut() {
        row.iter_mut().zip(range).for_each(|(x, range)| *x = within(*x, *range));
    }
    x
}

/// The sums over rows that a least-squares fit needs.
#[derive(Debug, Clone)]
pub struct Moments {
    count: f64,
    x: Array1<f64>,
    y: Array1<f64>,
    xx: Array2<f64>,
    xy: Array2<f64>,
    /// Lowest and highest value of each column.
    pub range: Vec<(f64, f64)>,
}

impl Moments {
    pub fn of(x: ArrayView2<f64>, y: ArrayView2<f64>) -> Moments {
        Moments {
            count: x.nrows() as f64,
            x: x.sum_axis(Axis(0)),
            y: y.sum_axis(Axis(0)),
            xx: x.t().dot(&x),
            xy: x.t().dot(&y),
            range: x.columns().into_iter().map(|c| range(&c.to_vec())).collect(),
        }
    }

    /// The same rows with other targets.
    pub fn retarget(&mut self, x: ArrayView2<f64>, y: ArrayView2<f64>) {
        self.y = y.sum_axis(Axis(0));
        self.xy = x.t().dot(&y);
    }

    pub fn add(&mut self, other: &Moments) {
        self.count += other.count;
        self.x += &other.x;
        self.y += &other.y;
        self.xx += &other.xx;
        self.xy += &other.xy;
        for (own, other) in self.range.iter_mut().zip(&other.range) {
            *own = (own.0.min(other.0), own.1.max(other.1));
        }
    }

    pub fn fade(&mut self) {
        self.count *= FADE;
        self.x *= FADE;
        self.y *= FADE;
        self.xx *= FADE;
        self.xy *= FADE;
    }

    /// Of all blocks, the older faded.
    pub fn sum(blocks: &[Moments]) -> Moments {
        let mut sum = blocks[0].clone();
        for block in &blocks[1..] {
            sum.fade();
            sum.add(block);
        }
        sum
    }

    /// The same as correlations, which any number of penalties are solved with.
    pub fn correlations(&self) -> Correlations<'_> {
        let n = self.count.max(1.0);
        let (mx, my) = (&self.x / n, &self.y / n);
        let units: Array1<f64> = (0..mx.len())
            .map(|j| (self.xx[[j, j]] / n - mx[j] * mx[j], self.xx[[j, j]] / n))
            .map(|(v, square)| if v > 1e-12 * square { 1.0 / v.sqrt() } else { 0.0 })
            .collect();
        let mut augmented = Array2::zeros((mx.len(), mx.len() + my.len()));
        for (i, mut row) in augmented.rows_mut().into_iter().enumerate() {
            let means = mx.iter().chain(&my);
            let sums = self.xx.row(i).into_iter().chain(self.xy.row(i));
            for (to, (sum, mean)) in row.iter_mut().zip(sums.zip(means)) {
                *to = (sum / n - mx[i] * mean) * units[i];
            }
            row.iter_mut().zip(&units).for_each(|(to, unit)| *to *= unit);
        }
        Correlations { augmented, units, mx, my, range: &self.range }
    }
}

/// What is left of [`Moments`] once columns are centred and count in standard deviations.
pub struct Correlations<'a> {
    /// Columns × (columns, then targets).
    augmented: Array2<f64>,
    /// One over the standard deviation of each column; 0 without variance.
    units: Array1<f64>,
    mx: Array1<f64>,
    my: Array1<f64>,
    range: &'a [(f64, f64)],
}

impl Correlations<'_> {
    /// # Errors
    /// [`ForecastError::Singular`] if the weights are not finite.
    pub fn solve(&self, penalty: f64) -> Result<FittedRidge, ForecastError> {
        let singular = |reason: &str| ForecastError::Singular(reason.into());
        let mut augmented = self.augmented.clone();
        for (i, unit) in self.units.iter().enumerate() {
            augmented[[i, i]] = if *unit > 0.0 { 1.0 + penalty } else { 1.0 };
        }
        let mut weights =
            eliminate(augmented).ok_or_else(|| singular("matrix is not positive definite"))?;
        weights *= &self.units.view().insert_axis(Axis(1));
        if !weights.iter().all(|w| w.is_finite()) {
            return Err(singular("weights are not finite"));
        }
        let intercepts = &self.my - &weights.t().dot(&self.mx);
        Ok(FittedRidge { weights, intercepts, range: self.range.to_vec() })
    }
}

/// Solves `a * weights = b`, where the rows of `augmented` are those of the symmetric `a` (of which
/// the upper half is read) followed by those of `b`. `None` unless `a` is positive definite.
fn eliminate(mut augmented: Array2<f64>) -> Option<Array2<f64>> {
    let (n, width) = augmented.dim();
    let a = augmented.as_slice_mut()?;
    for k in 0..n {
        let (above, below) = a.split_at_mut((k + 1) * width);
        let pivots = &above[k * width..];
        if pivots[k].is_nan() || pivots[k] <= 0.0 {
            return None;
        }
        for (i, row) in (k + 1..n).zip(below.chunks_exact_mut(width)) {
            let share = pivots[i] / pivots[k];
            row[i..].iter_mut().zip(&pivots[i..]).for_each(|(to, p)| *to -= share * p);
        }
    }
    for k in (0..n).rev() {
        let (above, below) = a.split_at_mut((k + 1) * width);
        let (left, weights) = above[k * width..].split_at_mut(n);
        for (i, solved) in (k + 1..n).zip(below.chunks_exact(width)) {
            weights.iter_mut().zip(&solved[n..]).for_each(|(to, w)| *to -= left[i] * w);
        }
        weights.iter_mut().for_each(|w| *w /= left[k]);
    }
    Some(augmented.slice(s![.., n..]).to_owned())
}

#[cfg(test)]
mod tests {
    use linfa::traits::Predict;

    use super::*;

    /// Columns: a ramp, a zigzag, the ramp again, a constant.
    fn records(n: usize) -> Array2<f64> {
        Array2::from_shape_fn((n, 4), |(i, j)| match j {
            1 => (i % 5) as f64,
            3 => 2.5,
            _ => i as f64 / n as f64,
        })
    }

    #[test]
    fn ridge_finds_the_weights_that_made_the_targets() {
        let x = records(200);
        let y = Array2::from_shape_fn((200, 2), |(i, t)| match t {
            0 => 3.0 + 2.0 * x[[i, 0]] - x[[i, 1]],
            _ => 0.5 * x[[i, 1]],
        });
        let data = DatasetBase::new(x.clone(), y.clone());
        let fitted = Ridge { penalty: 1e-9 }.fit(&data).unwrap();
        // The ramp is there twice and shares its weight of 2; the constant gets none.
        let want = [[1.0, 0.0], [-1.0, 0.5], [1.0, 0.0], [0.0, 0.0]];
        for (got, want) in fitted.weights.iter().zip(want.as_flattened()) {
            assert!((got - want).abs() < 1e-4, "{:?}", fitted.weights);
        }
        let worst = (fitted.predict(&x) - y).mapv(f64::abs).into_iter().fold(0.0, f64::max);
        assert!(worst < 1e-4, "{worst}");
    }

    #[test]
    fn a_heavy_penalty_leads_to_the_mean() {
        let x = records(100);
        let y = x.columns().into_iter().next().unwrap().to_owned().insert_axis(Axis(1));
        let mean = y.mean().unwrap();
        let fitted = Ridge { penalty: 1e9 }.fit(&DatasetBase::new(x.clone(), y)).unwrap();
        assert!(fitted.predict(&x).iter().all(|v| (v - mean).abs() < 1e-6));
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        let mut x = records(50);
        x[[7, 1]] = f64::NAN;
        let data = DatasetBase::new(x, Array2::zeros((50, 1)));
        assert!(matches!(
            Ridge { penalty: 0.1 }.fit(&data),
            Err(RidgeError::Forecast(ForecastError::Singular(_)))
        ));
    }
}
