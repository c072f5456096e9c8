//! Pure: the demand behind lower bounds, so that a training does not learn a false ceiling.
//!
//! A saturated step says only that demand was at least its value. Censored regression after Buckley
//! and James (Biometrika 66, 1979): fit what is known, replace each lower bound by its conditional
//! expectation under the fit, given that it is at least the bound, and fit again, a few times. The
//! fit is that of a load with a season: demand = level of the days around × profile of the season.
//! A peak that is clipped at other heights on other days thus gets its height from the days that
//! show more of it, at the level that the rest of its own day shows.
//!
//! Errors are taken as logistic instead of the original's Kaplan-Meier estimate: that needs no
//! sorting, forgives bursts more than a normal distribution does, and has closed forms. Without a
//! season there is little to learn from: a lower bound then stays one typical change above itself.
//! No recovered value is below its bound, nor above the larger of the bound and [`CEILING`] × the
//! highest value on record.
//!
//! A training's held-out errors are those against recovered values. Leaving lower bounds out would
//! calibrate the intervals on the quiet hours alone, and the peaks are what they are for.
//!
//! Known limits: where every day is clipped at the same height nothing shows how high the peak is;
//! so is it for a peak beyond what other days had: recovered values stay near the bound. The
//! uncertainty of a clipped day's level is not in the draws, so intervals at peaks that are clipped
//! on most days are somewhat narrow. Recovery looks ahead: the held-out errors of one training know
//! the profile of later days. A forecast knows only the seasons of its context.

use std::borrow::Cow;

use super::{
    features::{filled, mean},
    seasons,
};
use crate::series::Series;

/// No value is recovered to more than this times the highest one on record: what nobody has seen
/// half of is no estimate.
const CEILING: f64 = 2.0;
/// Rounds of fitting and replacing. Each halves at least what is missing where half of the days
/// show a step.
const ROUNDS: usize = 10;
/// Weight of what a day does not show of itself, taken from the level of the days around.
const UNSEEN: f64 = 0.1;
/// Seasons whose level stands in for what a day does not show of itself.
const AROUND: usize = 7;
/// Mean absolute error of a logistic distribution in units of its scale: 2 ln 2.
const MEAN_ABSOLUTE: f64 = 2.0 * std::f64::consts::LN_2;

/// What stands in for a lower bound.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Recovery {
    /// The conditional expectation of demand: nearest to the truth.
    Expected,
    /// A quantile of its conditional distribution, another one each step: as scattered as the
    /// truth.
    Drawn,
}

/// History to train on, from step `from`: lower bounds are replaced by draws, for what is expected
/// of them would be known too exactly, and a calibration that learned from it would give narrow
/// intervals at the very peaks that nobody has seen. Gaps stay NaN.
pub fn for_training(history: &Series, from: usize) -> Cow<'_, [f64]> {
    recovered(history, from, Recovery::Drawn, |values| {
        Cow::Owned(seasons::detect(&filled(values), history.step().as_millis() as i64))
    })
}

/// History to forecast from, from step `from`: lower bounds are replaced by what is expected of
/// them. `season_lengths` in steps. Gaps stay NaN.
pub fn for_forecast<'a>(
    history: &'a Series,
    from: usize,
    season_lengths: &[usize],
) -> Cow<'a, [f64]> {
    recovered(history, from, Recovery::Expected, |_| Cow::Borrowed(season_lengths))
}

fn recovered<'a, 's>(
    history: &'a Series,
    from: usize,
    recovery: Recovery,
    season_lengths: impl FnOnce(&[f64]) -> Cow<'s, [usize]>,
) -> Cow<'a, [f64]> {
    let values = &history.values()[from..];
    match history.lower_bounds().map(|flags| &flags[from..]) {
        Some(flags) if flags.contains(&true) => {
            Cow::Owned(recover(values, flags, &season_lengths(values), recovery))
        }
        _ => Cow::Borrowed(values),
    }
}

/// `values` with those that are flagged as lower bounds replaced by what demand was behind them.
fn recover(
    values: &[f64],
    lower_bounds: &[bool],
    season_lengths: &[usize],
    recovery: Recovery,
) -> Vec<f64> {
    let known = values.iter().filter(|v| v.is_finite());
    let highest = known.fold(0.0f64, |highest, v| highest.max(v.abs()));
    if highest == 0.0 {
        return values.to_vec();
    }
    // In units of the highest, no square can overflow.
    let seen: Vec<Seen> = values
        .iter()
        .zip(lower_bounds)
        .map(|(v, flag)| Seen { value: v / highest, bound: *flag && v.is_finite() })
        .collect();
    let best = season_lengths
        .iter()
        .filter(|length| (1..=values.len() / 2).contains(*length))
        .map(|&length| Fit::seasonal(&seen, length))
        .min_by(|a, b| a.error.total_cmp(&b.error));
    let fit = best.unwrap_or_else(|| Fit::without_season(&seen));
    let demand = |(i, (seen, &v)): (usize, (&Seen, &f64))| match seen.bound {
        true => (highest * fit.demand(i, seen.value, recovery)).clamp(v, f64::MAX),
        false => v,
    };
    seen.iter().zip(values).enumerate().map(demand).collect()
}

/// A value in units of the highest; NaN for a gap.
#[derive(Debug, Clone, Copy)]
struct Seen {
    value: f64,
    bound: bool,
}

impl Seen {
    fn known(&self) -> bool {
        !self.bound && self.value.is_finite()
    }
}

/// What is expected of each step, and how far demand strays from it.
struct Fit {
    expected: Vec<f64>,
    /// Scale of the logistic error of each step: `spread.0` + `spread.1` × expected.
    spread: (f64, f64),
    /// Mean absolute error of the known steps, corrected for the number of seasons.
    error: f64,
}

impl Fit {
    /// Expects every lower bound to be the demand, give or take the typical change of a step.
    fn without_season(seen: &[Seen]) -> Fit {
        let pairs = seen.windows(2).filter(|pair| pair[0].known() && pair[1].known());
        let changes: Vec<f64> = pairs.map(|pair| (pair[1].value - pair[0].value).abs()).collect();
        let change = if changes.is_empty() { 0.0 } else { mean(&changes) };
        let expected = seen.iter().map(|s| s.value).collect();
        Fit { expected, spread: (change / MEAN_ABSOLUTE, 0.0), error: f64::INFINITY }
    }

    /// Level × profile, fitted in rounds to what is known and to what the round before made of the
    /// lower bounds.
    fn seasonal(seen: &[Seen], length: usize) -> Fit {
        let mut profile = first_profile(seen, length);
        let mut fit = Fit { expected: vec![0.0; seen.len()], spread: (0.0, 0.0), error: 0.0 };
        for _ in 0..ROUNDS {
            let levels = levels(seen, &profile);
            for (i, expected) in fit.expected.iter_mut().enumerate() {
                *expected = levels[i] * profile[i % length];
            }
            let (mut wrong, mut size, mut count) = (0.0, 0.0, 0usize);
            for (seen, expected) in seen.iter().zip(&fit.expected).filter(|(s, _)| s.known()) {
                wrong += (seen.value - expected).abs();
                size += expected.abs();
                count += 1;
            }
            fit.spread.1 = if size > 0.0 { wrong / size / MEAN_ABSOLUTE } else { 0.0 };
            // k seasons fit each phase of their profile with one number.
            let seasons = seen.len() as f64 / length as f64;
            fit.error = wrong / count.max(1) as f64 * (seasons / (seasons - 1.0)).sqrt();
            let demand = |(i, seen): (usize, &Seen)| match seen.bound {
                true => fit.demand(i, seen.value, Recovery::Expected),
                false => seen.value,
            };
            let demand: Vec<f64> = seen.iter().enumerate().map(demand).collect();
            refit(&mut profile, &demand, &levels);
        }
        fit
    }

    /// Demand in step `i`, given that it is at least `bound`; in units of the highest value, and
    /// never below the bound.
    fn demand(&self, i: usize, bound: f64, recovery: Recovery) -> f64 {
        let expected = self.expected[i];
        // Demand without any error has the smallest one that a quotient can be taken of.
        let scale = (self.spread.0 + self.spread.1 * expected.abs()).max(1e-12);
        // From 30 scales on the rest of the distribution is exponential to the last digit.
        let u = ((bound - expected) / scale).min(30.0);
        let above = scale
            * match recovery {
                // E[x - b | x >= b] = scale × ln(1 + e^-u) × (1 + e^u).
                Recovery::Expected => ((-u).max(0.0) + (-u.abs()).exp().ln_1p()) * (1.0 + u.exp()),
                // P(x > y | x >= b) = p at y = expected + scale × ln((1 + e^u) / p - 1).
                Recovery::Drawn => ((1.0 + u.exp() - p(i)) / p(i)).ln() - u,
            };
        let sensible = above > 0.0 && above.is_finite();
        if sensible { (bound + above).min(CEILING).max(bound) } else { bound }
    }
}

/// A share of (0, 1), evenly spread over the steps without a pattern: the same on every machine.
fn p(i: usize) -> f64 {
    let golden = (i as f64 * 0.618_033_988_749_895).fract();
    0.005 + 0.99 * golden
}

/// The mean of what is known of each phase; of one that is never known, its highest bound.
fn first_profile(seen: &[Seen], length: usize) -> Vec<f64> {
    let of_phase = |phase: usize| {
        let steps = || seen.iter().skip(phase).step_by(length).filter(|s| s.value.is_finite());
        let known: Vec<f64> = steps().filter(|s| s.known()).map(|s| s.value).collect();
        if known.is_empty() { steps().fold(0.0, |high, s| s.value.max(high)) } else { mean(&known) }
    };
    (0..length).map(of_phase).collect()
}

/// The profile that explains `demand` best where the levels are these, by least squares.
fn refit(profile: &mut [f64], demand: &[f64], levels: &[f64]) {
    let mut sums = vec![(0.0, 0.0); profile.len()];
    for (i, (y, level)) in demand.iter().zip(levels).enumerate().filter(|(_, (y, _))| y.is_finite())
    {
        let (product, square) = &mut sums[i % profile.len()];
        *product += y * level;
        *square += level * level;
    }
    for (p, (product, square)) in profile.iter_mut().zip(sums) {
        *p = if square > 0.0 { product / square } else { *p };
    }
}

/// The level around each step: how large the known values of one season around it are over the
/// profile, by least squares. For what that season does not show, the level of [`AROUND`] seasons
/// stands in.
fn levels(seen: &[Seen], profile: &[f64]) -> Vec<f64> {
    let (n, length) = (seen.len(), profile.len());
    let mut sums = vec![[0.0; 3]; n + 1];
    for (i, seen) in seen.iter().enumerate() {
        let p = profile[i % length];
        let [product, square, unseen] = sums[i];
        sums[i + 1] = match seen.known() {
            true => [product + seen.value * p, square + p * p, unseen],
            false => [product, square, unseen + p * p],
        };
    }
    let around = |i: usize, width: usize| -> [f64; 3] {
        let from = i.saturating_sub(width / 2).min(n.saturating_sub(width));
        let to = (from + width).min(n);
        std::array::from_fn(|k| sums[to][k] - sums[from][k])
    };
    let whole: f64 = profile.iter().map(|p| p * p).sum();
    let level = |i: usize| {
        let [product, square, unseen] = around(i, length);
        let [wide_product, wide_square, _] = around(i, AROUND * length);
        // Less than this is what rounding leaves of nothing.
        let some = |square: f64| square > 1e-9 * whole;
        let wide = if some(wide_square) { wide_product / wide_square } else { 1.0 };
        let square = square + UNSEEN * unseen;
        if some(square) { (product + UNSEEN * unseen * wide) / square } else { wide }
    };
    (0..n).map(level).collect()
}

#[cfg(test)]
mod tests;
