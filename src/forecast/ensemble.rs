//! Pure: one forecast from several, each weighed at each step ahead by how well it did lately.
//!
//! Errors of different methods are alike but not equal, and their mean errs less than most of them.
//! The weights are the non-negative ones of sum 1 that would have made the errors of the past
//! smallest (Bates and Granger, Operational Research Quarterly 20, 1969). Squared errors follow
//! bursts, so they count in units of the usual error of their time, and the less the farther off
//! all members were, which leads towards the smallest absolute error. Older blocks of errors fade
//! fast: the members learn, and early errors say little of what they know now. Thin evidence leaves
//! the weights near equal.
//!
//! A service that stands still and then surges makes most of its loss in few origins, and sums over
//! many say no more than those few. The coefficient of variation of the losses tells: by it the
//! weights are drawn to the first member, the last value.
//!
//! The weights that forecast a block were learned from the blocks before it, so the errors of the
//! ensemble are as honest as those of its members.
//!
//! Known limit: a method that was poor for long needs a block or two to come back.

use ndarray::linalg::general_mat_vec_mul;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{Fitted, features::View};

/// Weight of a block of errors against the block after it.
const FADE: f64 = 0.5;
/// Origins that equal weights are worth as evidence.
const PRIOR: f64 = 3.0;
/// Origins that the last value is worth as evidence, where losses vary by their mean; it grows with
/// the fourth power of how much they vary.
const CAUTION: f64 = 14.0;
/// Errors of more usual errors than this count as this many. What a member gets wrong in bursts is
/// part of its skill: with 4 the error on recorded loads is 0.8 % higher, with 20 the same.
const CLIP: f64 = 12.0;
/// Where all members are nearer than so many usual errors, nearness counts no more.
const NEAR: f64 = 0.1;
/// Weight of an error in the usual error, against the origin after it.
const MEMORY: f64 = 0.99;
/// Most rounds of the solver; more change the third digit of a weight.
const ROUNDS: usize = 150;
/// A round in which every weight moves by less is the last.
const SETTLED: f64 = 1e-6;

/// Fitted methods and their weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    pub members: Vec<Fitted>,
    /// members × steps ahead; each column is non-negative with sum 1.
    pub weights: Array2<f64>,
}

impl Ensemble {
    /// Forecast of `out.len()` steps from the origin of `view`.
    pub fn points(&self, view: View, out: &mut [f64]) {
        let mut path = vec![0.0; out.len()];
        out.fill(0.0);
        let members = self.members.iter().zip(self.weights.rows());
        let counts = |(_, weights): &(&Fitted, ArrayView1<f64>)| weights.iter().any(|w| *w >= 1e-3);
        let means = members.clone().filter(counts).find_map(|(member, _)| match member {
            Fitted::Regression(regression) => Some(regression.means(view)),
            _ => None,
        });
        let view = View { means: means.as_ref(), ..view };
        for (member, weights) in members.filter(counts) {
            member.points(view, &mut path);
            for ((y, said), weight) in out.iter_mut().zip(&path).zip(weights) {
                *y += weight * said;
            }
        }
    }
}

/// Held-out forecasts of several methods, in order of time, and what came.
pub struct HeldOutPaths<'a> {
    /// Of each member: origins × steps ahead. The first is what to fall back on.
    pub members: Vec<ArrayView2<'a, f64>>,
    /// origins × steps ahead.
    pub actuals: ArrayView2<'a, f64>,
}

impl HeldOutPaths<'_> {
    /// Weights learned from all origins, and what the ensemble would have forecast at each with
    /// weights from the blocks before its own. `blocks`: edges of blocks of origins.
    pub fn walk(&self, blocks: &[usize]) -> (Array2<f64>, Array2<f64>) {
        let (m, horizon) = (self.members.len(), self.actuals.ncols());
        let units = self.usual_errors();
        let mut past = Products::new(m, horizon);
        let mut weights = past.weights();
        let mut forecasts = Array2::zeros(self.actuals.dim());
        let mut said = Array2::zeros((m, horizon));
        for edges in blocks.windows(2) {
            past.fade();
            for (i, &unit) in units.iter().enumerate().take(edges[1]).skip(edges[0]) {
                for (mut said, member) in said.rows_mut().into_iter().zip(&self.members) {
                    said.assign(&member.row(i));
                }
                let path = (&said * &weights).sum_axis(Axis(0));
                past.add(said.view(), self.actuals.row(i), unit);
                forecasts.row_mut(i).assign(&path);
            }
            weights = past.weights();
        }
        (weights, forecasts)
    }

    /// The usual error of the members at the time of each origin, above 0.
    fn usual_errors(&self) -> Vec<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        let count_of = (self.members.len() * self.actuals.ncols()).max(1) as f64;
        let error = |i: usize| {
            let off = |m: &ArrayView2<f64>| (&m.row(i) - &self.actuals.row(i)).mapv(f64::abs).sum();
            self.members.iter().map(off).sum::<f64>() / count_of
        };
        (0..self.actuals.nrows())
            .map(|i| {
                sum = MEMORY * sum + error(i);
                count = MEMORY * count + 1.0;
                (sum / count).max(f64::MIN_POSITIVE.sqrt())
            })
            .collect()
    }
}

/// Products of the members' errors, for each step ahead: what the weights are learned from.
struct Products {
    /// members × members × steps ahead.
    sums: Array3<f64>,
    /// The members' mean weighed squared error, by step ahead.
    losses: Sums<Array1<f64>>,
    /// How much each origin counts.
    origins: Sums<f64>,
}

/// Of a quantity and of its square.
struct Sums<T> {
    first: T,
    second: T,
}

impl Products {
    fn new(members: usize, horizon: usize) -> Products {
        let zeros = Array1::zeros(horizon);
        Products {
            sums: Array3::zeros((members, members, horizon)),
            losses: Sums { first: zeros.clone(), second: zeros },
            origins: Sums { first: 0.0, second: 0.0 },
        }
    }

    fn fade(&mut self) {
        self.sums *= FADE;
        self.losses.first *= FADE;
        self.losses.second *= FADE * FADE;
        self.origins.first *= FADE;
        self.origins.second *= FADE * FADE;
    }

    /// Adds one origin: what the members said (members × steps ahead), and what came.
    fn add(&mut self, said: ArrayView2<f64>, came: ArrayView1<f64>, unit: f64) {
        let off = (&came - &said) / unit;
        let errors = off.mapv(|e| e.clamp(-CLIP, CLIP));
        let mean = errors.mapv(f64::abs).sum_axis(Axis(0)) / errors.nrows().max(1) as f64;
        let weights = mean.mapv(|e| 1.0 / (e + NEAR));
        for (weighted, mut sums) in
            (&errors * &weights).rows().into_iter().zip(self.sums.outer_iter_mut())
        {
            sums += &(&weighted * &errors);
        }
        let loss = (&errors * &errors * &weights).sum_axis(Axis(0));
        self.losses.second += &(&loss * &loss);
        self.losses.first += &loss;
        self.origins.first += 1.0;
        self.origins.second += 1.0;
    }

    /// members × steps ahead.
    fn weights(&self) -> Array2<f64> {
        let (m, _, horizon) = self.sums.dim();
        let mut weights = Array2::zeros((m, horizon));
        for (h, mut column) in weights.columns_mut().into_iter().enumerate() {
            let mut sums = self.sums.index_axis(Axis(2), h).to_owned();
            let total = sums.diag().mean().unwrap_or(0.0);
            // A member that errs hardly at all has its evidence in every origin.
            let least = sums.diag().iter().copied().fold(total, f64::min);
            let (prior, naive) =
                (PRIOR * total / self.origins.first.max(1.0), self.caution(h) * least);
            sums.diag_mut().mapv_inplace(|v| v + prior + naive);
            column.assign(&lowest(&sums, naive));
        }
        weights
    }

    /// What the first member is worth, as a share of all evidence of step `h`.
    fn caution(&self, h: usize) -> f64 {
        let (first, second) = (self.losses.first[h], self.losses.second[h]);
        // As many origins of equal weight would be as good evidence.
        let origins = self.origins.first.powi(2) / self.origins.second.max(1.0);
        let variation = origins * second / first.powi(2) - 1.0;
        // `max` turns NaN, of no loss at all, into 0.
        CAUTION * variation.max(0.0).powi(2) / origins.max(1.0)
    }
}

/// The non-negative weights `w` of sum 1 with the lowest `w' sums w - 2 first w[0]`, by
/// multiplicative updates; equal ones where there is nothing to choose by.
fn lowest(sums: &Array2<f64>, first: f64) -> Array1<f64> {
    let m = sums.nrows();
    let mut weights = Array1::from_elem(m, 1.0 / m as f64);
    let size = sums.diag().iter().copied().fold(0.0, f64::max);
    if !(size > 0.0 && size.is_finite()) {
        return weights;
    }
    let mut slope = Array1::zeros(m);
    let mut before = weights.clone();
    for _ in 0..ROUNDS {
        general_mat_vec_mul(1.0 / size, sums, &weights, 0.0, &mut slope);
        slope[0] -= first / size;
        let least = slope.iter().copied().fold(f64::INFINITY, f64::min);
        before.assign(&weights);
        weights.zip_mut_with(&slope, |w, s| *w *= (2.0 * (least - s)).exp());
        weights /= weights.sum();
        if weights.iter().zip(&before).all(|(w, before)| (w - before).abs() < SETTLED) {
            break;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights after `n` origins of members with these errors, by origin.
    fn check(n: usize, errors: &[&dyn Fn(usize) -> f64], want: &[f64]) {
        let paths: Vec<Array2<f64>> = errors
            .iter()
            .map(|error| Array2::from_shape_fn((n, 1), |(i, _)| 10.0 - error(i)))
            .collect();
        let actuals = Array2::from_elem((n, 1), 10.0);
        let members = paths.iter().map(|p| p.view()).collect();
        let held_out = HeldOutPaths { members, actuals: actuals.view() };
        let blocks: Vec<usize> = (0..=4).map(|b| b * n / 4).collect();
        let (weights, forecasts) = held_out.walk(&blocks);
        assert!((weights.sum() - 1.0).abs() < 1e-9);
        for (got, want) in weights.iter().zip(want) {
            assert!((got - want).abs() < 0.05, "{weights} is not {want:?}");
        }
        if n == 0 {
            return;
        }
        let mean = paths.iter().map(|p| p[[0, 0]]).sum::<f64>() / paths.len() as f64;
        assert!((forecasts[[0, 0]] - mean).abs() < 1e-9, "the first block has equal weights");
    }

    #[test]
    fn few_losses_are_little_evidence_against_the_last_value() {
        // The second member is always twice as good; it surges at every step, or at every fiftieth.
        let weight_of_first = |every: usize| {
            let n = 400;
            let surge = move |i: usize| if i.is_multiple_of(every) { 4.0 } else { 0.01 };
            let paths =
                [1.0, 0.5].map(|size| Array2::from_shape_fn((n, 1), |(i, _)| size * surge(i)));
            let actuals = Array2::zeros((n, 1));
            let members = paths.iter().map(|p| p.view()).collect();
            let blocks: Vec<usize> = (0..=4).map(|b| b * n / 4).collect();
            HeldOutPaths { members, actuals: actuals.view() }.walk(&blocks).0[[0, 0]]
        };
        let (steady, seldom) = (weight_of_first(1), weight_of_first(50));
        assert!(steady < 0.05 && seldom > 0.3, "{steady} {seldom}");
    }

    fn sign(i: usize) -> f64 {
        if i.is_multiple_of(2) { 1.0 } else { -1.0 }
    }

    #[test]
    fn weights_follow_recent_skill() {
        check(0, &[&|_| 1.0, &|_| 9.0], &[0.5, 0.5]);
        check(400, &[&|_| 0.0, &|_| 0.0], &[0.5, 0.5]);
        check(400, &[&|_| 0.1, &|_| 4.0], &[1.0, 0.0]);
        // Errors of opposite sign cancel in equal parts.
        check(400, &[&|i| sign(i), &|i| -sign(i)], &[0.5, 0.5]);
        // Uncorrelated errors of variance 1 and 9: the weights are as 9 to 1.
        check(400, &[&|i| sign(i), &|i| 3.0 * sign(i / 2)], &[0.9, 0.1]);
        // The second was better for long, and has been worse in the last two of four blocks, which
        // weigh 1.5 against 0.375. With the weight w of the first, 0.375 (0.2 + 3.8 w)² +
        // 1.5 (4 - 3.8 w)² is smallest at w = 5.925 / 7.125.
        let late = |i: usize| if i < 200 { 4.0 } else { 0.2 };
        let early = |i: usize| if i < 200 { 0.2 } else { 4.0 };
        check(400, &[&late, &early], &[0.83, 0.17]);
    }
}
