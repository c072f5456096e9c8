//! Pure: ridge regression of all steps ahead at once on the rows of [`super::features`].
//!
//! A fit on everything before a block of rows costs one small system of equations and no pass over
//! the rows (see [`ridge`]). That makes honest held-out errors cheap: [`fit`] walks through the
//! history block by block, forecasts each with what came before it, and chooses the penalty that
//! would have served best. Older blocks fade, because what drives a load drifts.
//!
//! Squared errors follow bursts and outliers; targets far from a first fit are therefore pulled in
//! to [`CLIP`] times the median error (Huber's pseudo-values) before the final fit, with the same
//! Gram matrix.

pub mod ridge;

use ndarray::{Array2, s};
use serde::{Deserialize, Serialize};

use super::{
    ForecastError,
    features::{Layout, Means, Scaling, Seen, View},
};
use ridge::{FittedRidge, Moments, all_within, within};

/// Penalties tried, on the scale of correlations; from nearly none to nearly "as now".
const PENALTIES: [f64; 5] = [1e-3, 1e-2, 5e-2, 0.2, 1.0];
/// Penalty of the fit that targets are pulled in to.
const FIRST_PENALTY: f64 = 1e-2;
/// Share of the rows that the walk begins with having seen.
const WARMUP: f64 = 0.5;
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

    /// All means that a forecast from the origin of `view` is made of.
    pub fn means(&self, view: View) -> Means {
        self.layout.means(view)
    }

    /// Forecast of `out.len()` steps from the origin of `view`.
    pub fn points(&self, view: View, out: &mut [f64]) {
        let mut row = Vec::with_capacity(self.layout.width());
        self.layout.row(Seen::new(view, self.scaling), &mut row);
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
        let fitted = Moments::sum(&blocks).correlations().solve(FIRST_PENALTY)?;
        pull_in(&rows.x, &y, &fitted, &edges, &mut blocks);
    }
    let actuals = rows.y.slice(s![from.., ..]);
    let (walked, past) = walk(rows, &blocks, &tested);
    let best = PENALTIES
        .into_iter()
        .zip(walked)
        .filter_map(|(penalty, forecasts)| {
            let forecasts = forecasts?;
            let error: f64 = forecasts.iter().zip(actuals).map(|(f, y)| (f - y).abs()).sum();
            error.is_finite().then_some((error, penalty, forecasts))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, penalty, forecasts) =
        best.ok_or_else(|| ForecastError::Singular("no penalty gave finite weights".into()))?;
    let weights = past.correlations().solve(penalty)?;
    let regression = Regression {
        layout: rows.layout.clone(),
        scaling: rows.scaling,
        weights,
        penalty,
        highest: rows.highest,
    };
    Ok(Walk { regression, from, tested, forecasts })
}

/// Forecasts the rows `tested[b]..tested[b + 1]` with a fit to the blocks `0..=b`, for each b and
/// each penalty; `None` where one gave no finite weights. Last come the sums of all blocks.
fn walk(
    rows: &Rows,
    blocks: &[Moments],
    tested: &[usize],
) -> ([Option<Array2<f64>>; PENALTIES.len()], Moments) {
    let from = tested[0];
    let dim = (rows.x.nrows() - from, rows.y.ncols());
    let mut walked = PENALTIES.map(|_| Some(Array2::zeros(dim)));
    let mut past = blocks[0].clone();
    for (block, test) in blocks[1..].iter().zip(tested.windows(2)) {
        let x = all_within(rows.x.slice(s![test[0]..test[1], ..]), &past.range);
        let correlations = past.correlations();
        for (forecasts, penalty) in walked.iter_mut().zip(PENALTIES) {
            match (forecasts.as_mut(), correlations.solve(penalty)) {
                (Some(to), Ok(fitted)) => {
                    let out = to.slice_mut(s![test[0] - from..test[1] - from, ..]);
                    fitted.predict_into(x.view(), out);
                }
                _ => *forecasts = None,
            }
        }
        past.fade();
        past.add(block);
    }
    for forecasts in walked.iter_mut().flatten() {
        for (mut row, &level) in forecasts.rows_mut().into_iter().zip(&rows.levels[from..]) {
            row.mapv_inplace(|y| bounded(rows.scaling.load(y, level), level, rows.highest));
        }
    }
    (walked, past)
}

/// A forecast kept from running away: demand is not negative, and not beyond the highest ever seen
/// or, where it is growing, a little above the level.
fn bounded(forecast: f64, level: f64, highest: f64) -> f64 {
    forecast.clamp(0.0, highest.max(1.05 * level).max(0.0))
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
