//! Pure: ridge regression of all steps ahead at once on the rows of [`super::features`].
//!
//! [`Ridge`] is linfa's `Fit` over [`Moments`]: the sums that a least-squares fit needs. Moments of
//! blocks of rows add up, so a fit on everything before a block costs one small Cholesky
//! decomposition and no pass over the rows. That makes honest held-out errors cheap: [`fit`] walks
//! through the history block by block, forecasts each with what came before it, and chooses the
//! penalty that would have served best. Older blocks fade, because what drives a load drifts.
//!
//! Squared errors follow bursts and outliers; targets far from a first fit are therefore pulled in
//! to [`CLIP`] times the median error (Huber's pseudo-values) before the final fit, with the same
//! Gram matrix.

use linfa::{
    dataset::{AsMultiTargets, DatasetBase},
    traits::{Fit, PredictInplace},
};
use linfa_linalg::cholesky::SolveC;
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Axis, Data, Ix2, linalg::general_mat_mul, s};
use serde::{Deserialize, Serialize};

use super::{
    ForecastError,
    features::{Layout, Scaling, View, range},
};

/// Penalties tried, on the scale of correlations; from nearly none to nearly "as now".
const PENALTIES: [f64; 5] = [1e-3, 1e-2, 5e-2, 0.2, 1.0];
/// Penalty of the fit that targets are pulled in to.
const FIRST_PENALTY: f64 = 1e-2;
/// Share of the rows that the walk begins with having seen.
const WARMUP: f64 = 0.5;
/// Weight of a block of rows against the block after it.
const FADE: f64 = 0.8;
/// In median absolute errors. Huber's own 1.345 standard deviations of a normal error are 2.0 of
/// them; less leads nearer to the median, which is what is asked for.
const CLIP: f64 = 1.3;
/// Passes of pulling targets in.
const PASSES: usize = 3;

/// A fitted regression: forecasts as its scaling sees them from the level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    layout: Layout,
    scaling: Scaling,
    weights: FittedRidge,
    penalty: f64,
    highest: f64,
}

impl Regression {
    pub fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// Values that [`Regression::points`] needs, and those that it reads where there are so many.
    pub fn least(&self) -> usize {
        self.layout.least()
    }

    pub fn context(&self) -> usize {
        self.layout.context()
    }

    /// Forecast of `out.len()` steps from the origin of `view`.
    pub fn points(&self, view: View, out: &mut [f64]) {
        let mut row = Vec::with_capacity(self.layout.width());
        self.layout.row(view, self.scaling, &mut row);
        let level = self.layout.level(view);
        out.copy_from_slice(&self.weights.intercepts.as_slice().unwrap_or(&[])[..out.len()]);
        let FittedRidge { weights, range, .. } = &self.weights;
        for ((&x, weights), range) in row.iter().zip(weights.rows()).zip(range) {
            let x = within(x, *range);
            for (y, w) in out.iter_mut().zip(weights) {
                *y += x * w;
            }
        }
        for y in out {
            *y = bounded(self.scaling.load(*y, level), level, self.highest);
        }
    }
}

/// Rows to learn from, in order of time.
pub struct Rows {
    pub layout: Layout,
    pub scaling: Scaling,
    /// Steps that the rows are seen from.
    pub origins: Vec<usize>,
    /// rows × columns.
    pub x: Array2<f64>,
    /// rows × steps ahead, in the load's own unit.
    pub y: Array2<f64>,
    /// In the load's own unit.
    pub levels: Vec<f64>,
    /// Highest load on record.
    pub highest: f64,
}

impl Rows {
    /// Targets as the scaling sees them, which is how the regression learns them.
    fn relative(&self) -> Array2<f64> {
        let mut y = self.y.clone();
        for (mut y, &level) in y.rows_mut().into_iter().zip(&self.levels) {
            y.mapv_inplace(|load| self.scaling.relative(load, level));
        }
        y
    }

    /// Number of rows all of whose targets had come at the origin of `row`.
    fn known_at(&self, row: usize) -> usize {
        self.origins.partition_point(|&o| o + self.y.ncols() <= self.origins[row])
    }
}

/// A regression and what it would have forecast, out of sample, for the last rows.
pub struct Walk {
    pub regression: Regression,
    /// First row that was forecast.
    pub from: usize,
    /// Rows that each refit was tested on: from one edge to the next.
    pub tested: Vec<usize>,
    /// held-out rows × steps ahead.
    pub forecasts: Array2<f64>,
}

/// Fits `rows` and walks through them, fitting again `refits` times.
///
/// # Errors
/// [`ForecastError::Singular`] if no penalty gives finite weights.
pub fn fit(rows: &Rows, refits: usize) -> Result<Walk, ForecastError> {
    let n = rows.x.nrows();
    let y = rows.relative();
    let from = (n as f64 * WARMUP) as usize;
    let tested: Vec<usize> = (0..=refits).map(|b| from + b * (n - from) / refits).collect();
    let mut edges = vec![0];
    edges.extend(tested[..refits].iter().map(|&row| rows.known_at(row)));
    edges.push(n);
    let mut blocks: Vec<Moments> = edges
        .windows(2)
        .map(|e| Moments::of(rows.x.slice(s![e[0]..e[1], ..]), y.slice(s![e[0]..e[1], ..])))
        .collect();
    for _ in 0..PASSES {
        let fitted = Moments::sum(&blocks).solve(FIRST_PENALTY)?;
        pull_in(&rows.x, &y, &fitted, &edges, &mut blocks);
    }
    let actuals = rows.y.slice(s![from.., ..]);
    let best = PENALTIES
        .iter()
        .filter_map(|&penalty| {
            let forecasts = walk(rows, &blocks, &tested, penalty).ok()?;
            let error = (&forecasts - &actuals).mapv(f64::abs).mean()?;
            error.is_finite().then_some((error, penalty, forecasts))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, penalty, forecasts) =
        best.ok_or_else(|| ForecastError::Singular("no penalty gave finite weights".into()))?;
    let weights = Moments::sum(&blocks).solve(penalty)?;
    let regression = Regression {
        layout: rows.layout.clone(),
        scaling: rows.scaling,
        weights,
        penalty,
        highest: rows.highest,
    };
    Ok(Walk { regression, from, tested, forecasts })
}

/// Forecasts the rows `tested[b]..tested[b + 1]` with a fit to the blocks `0..=b`, for each b.
fn walk(
    rows: &Rows,
    blocks: &[Moments],
    tested: &[usize],
    penalty: f64,
) -> Result<Array2<f64>, ForecastError> {
    let from = tested[0];
    let mut forecasts = Array2::zeros((rows.x.nrows() - from, rows.y.ncols()));
    let mut past = blocks[0].clone();
    for (block, test) in blocks[1..].iter().zip(tested.windows(2)) {
        let out = forecasts.slice_mut(s![test[0] - from..test[1] - from, ..]);
        past.solve(penalty)?.predict_into(rows.x.slice(s![test[0]..test[1], ..]), out);
        past.fade();
        past.add(block);
    }
    for (i, mut row) in forecasts.rows_mut().into_iter().enumerate() {
        let level = rows.levels[from + i];
        row.mapv_inplace(|y| bounded(rows.scaling.load(y, level), level, rows.highest));
    }
    Ok(forecasts)
}

/// A forecast kept from running away: demand is not negative, and not beyond the highest ever seen
/// or, where it is growing, a little above the level.
fn bounded(forecast: f64, level: f64, highest: f64) -> f64 {
    forecast.clamp(0.0, highest.max(1.05 * level).max(0.0))
}

/// NaN stays NaN.
fn within(x: f64, (low, high): (f64, f64)) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// Recomputes the cross moments of `blocks` with targets at most [`CLIP`] median errors from the
/// fit.
fn pull_in(
    x: &Array2<f64>,
    y: &Array2<f64>,
    fitted: &FittedRidge,
    edges: &[usize],
    blocks: &mut [Moments],
) {
    let mut pulled = Array2::zeros(y.dim());
    fitted.predict_into(x.view(), pulled.view_mut());
    for (mut fit, y) in pulled.columns_mut().into_iter().zip(y.columns()) {
        let mut errors: Vec<f64> = fit.iter().zip(y).map(|(f, y)| (y - f).abs()).collect();
        let middle = errors.len() / 2;
        // `max` turns NaN, of rows that overflow, into 0.
        let limit = (CLIP * *errors.select_nth_unstable_by(middle, f64::total_cmp).1).max(0.0);
        fit.zip_mut_with(&y, |f, &y| *f += (y - *f).clamp(-limit, limit));
    }
    for (block, e) in blocks.iter_mut().zip(edges.windows(2)) {
        block.retarget(x.slice(s![e[0]..e[1], ..]), pulled.slice(s![e[0]..e[1], ..]));
    }
}

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
        Ok(moments.solve(self.penalty)?)
    }
}

/// Weights (columns × targets) and intercepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedRidge {
    pub weights: Array2<f64>,
    pub intercepts: Array1<f64>,
    /// Of each column, the range that it was fitted in. What lies beyond counts as its end: a
    /// straight line is no guide to where nobody has been, and surges lead there.
    range: Vec<(f64, f64)>,
}

impl FittedRidge {
    fn predict_into(&self, x: ArrayView2<f64>, mut out: ndarray::ArrayViewMut2<f64>) {
        out.assign(&self.intercepts);
        let mut x = x.to_owned();
        for mut row in x.rows_mut() {
            row.iter_mut().zip(&self.range).for_each(|(x, range)| *x = within(*x, *range));
        }
        general_mat_mul(1.0, &x, &self.weights, 1.0, &mut out);
    }
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array2<f64>> for FittedRidge {
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array2<f64>) {
        self.predict_into(x.view(), y.view_mut());
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array2<f64> {
        Array2::zeros((x.nrows(), self.intercepts.len()))
    }
}

/// The sums over rows that a least-squares fit needs.
#[derive(Debug, Clone)]
struct Moments {
    count: f64,
    x: Array1<f64>,
    y: Array1<f64>,
    xx: Array2<f64>,
    xy: Array2<f64>,
    /// Lowest and highest value of each column.
    range: Vec<(f64, f64)>,
}

impl Moments {
    fn of(x: ArrayView2<f64>, y: ArrayView2<f64>) -> Moments {
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
    fn retarget(&mut self, x: ArrayView2<f64>, y: ArrayView2<f64>) {
        self.y = y.sum_axis(Axis(0));
        self.xy = x.t().dot(&y);
    }

    fn add(&mut self, other: &Moments) {
        self.count += other.count;
        self.x += &other.x;
        self.y += &other.y;
        self.xx += &other.xx;
        self.xy += &other.xy;
        for (own, other) in self.range.iter_mut().zip(&other.range) {
            *own = (own.0.min(other.0), own.1.max(other.1));
        }
    }

    fn fade(&mut self) {
        self.count *= FADE;
        self.x *= FADE;
        self.y *= FADE;
        self.xx *= FADE;
        self.xy *= FADE;
    }

    /// Of all blocks, the older faded.
    fn sum(blocks: &[Moments]) -> Moments {
        let mut sum = blocks[0].clone();
        for block in &blocks[1..] {
            sum.fade();
            sum.add(block);
        }
        sum
    }

    fn solve(&self, penalty: f64) -> Result<FittedRidge, ForecastError> {
        let singular = |reason: String| ForecastError::Singular(reason);
        let n = self.count.max(1.0);
        let (mx, my) = (&self.x / n, &self.y / n);
        let variance: Array1<f64> = (0..mx.len())
            .map(|j| (self.xx[[j, j]] / n - mx[j] * mx[j], self.xx[[j, j]] / n))
            .map(|(v, square)| if v > 1e-12 * square { v } else { 0.0 })
            .collect();
        let inverse = variance.mapv(|v| if v > 0.0 { 1.0 / v.sqrt() } else { 0.0 });
        let mut gram = Array2::from_shape_fn(self.xx.dim(), |(i, j)| {
            (self.xx[[i, j]] / n - mx[i] * mx[j]) * inverse[i] * inverse[j]
        });
        gram.diag_mut().zip_mut_with(&variance, |d, &v| {
            *d = if v > 0.0 { 1.0 + penalty } else { 1.0 };
        });
        let cross = Array2::from_shape_fn(self.xy.dim(), |(i, j)| {
            (self.xy[[i, j]] / n - mx[i] * my[j]) * inverse[i]
        });
        let mut weights = gram.solvec(&cross).map_err(|e| singular(e.to_string()))?;
        weights *= &inverse.insert_axis(Axis(1));
        if !weights.iter().all(|w| w.is_finite()) {
            return Err(singular("weights are not finite".into()));
        }
        let intercepts = my - weights.t().dot(&mx);
        Ok(FittedRidge { weights, intercepts, range: self.range.clone() })
    }
}

#[cfg(test)]
mod tests;
