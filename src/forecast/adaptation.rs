//! Pure: widens or narrows the quantiles of the model in use by what came since it was trained.
//!
//! A calibration is as old as its model. Between two trainings the distance of each quantile from
//! the median is multiplied by a factor, one for each level, for steps and for peaks, and for each
//! group of steps ahead (1, 2 to 3, 4 to 7, ...). The factor follows the quantile (online gradient
//! descent on the pinball loss: I. Gibbs and E. Candès, "Adaptive conformal inference under
//! distribution shift", NeurIPS 2021; A. Angelopoulos et al., "Conformal PID control", NeurIPS
//! 2023): demand above the quantile `q` moves the logarithm of its factor up by `RATE * q`, demand
//! below moves it down by `RATE * (1 - q)`. It comes to rest only where as many go above as should,
//! whatever the errors look like. Distances from the median carry the local scale, so that what a
//! restless hour taught serves a quiet one.
//!
//! What comes is held against the forecast as the factors of now would have it, not as those of its
//! origin did: a burst that falls into many forecasts is not punished many times. Errors far ahead
//! resemble each other for as long as the forecasts overlap, and count for less.
//!
//! Known limits: an interval of no width stays one, as twice nothing is nothing; the median stays
//! where the model puts it; and where nothing has changed a factor is off by chance, by a tenth or
//! so, which costs 1 % of pinball loss (see the tests).

use std::collections::VecDeque;
use std::ops::Range;

use super::{Forecast, Place, interpolate};

/// Change of the logarithm of a factor, for an error one step ahead.
const RATE: f64 = 0.07;
/// Bounds of a factor: intervals narrow less than they widen, for that is the safe side.
const FACTORS: (f64, f64) = (0.5, 6.0);
/// What the logarithm of a factor is worth under the next model, whose calibration knows some of
/// the errors that it was learned from.
const INHERITED: f64 = 0.3;

/// Factors, and the forecasts that wait for what comes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adaptation {
    /// Steps seen, and how many had been when a forecast was noted last.
    now: u64,
    noted: Option<u64>,
    /// Newest demand first, as much as the longest group looks back on; NaN for gaps.
    recent: VecDeque<f64>,
    /// Of the carried quantiles.
    levels: Vec<f64>,
    groups: Vec<Group>,
}

/// The steps `2^g - 1 .. 2^(g+1) - 1` ahead (from 0), judged by the first of them.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    step: Tracker,
    peak: Tracker,
}

/// Follows the quantiles of one step ahead, or of the peak until then.
#[derive(Debug, Clone, PartialEq)]
struct Tracker {
    /// When each is due, and its quantiles as the model gave them; the oldest first.
    pending: VecDeque<(u64, Vec<f64>)>,
    /// Logarithms, one for each level.
    factors: Vec<f64>,
}

impl Adaptation {
    /// Notes what the model says of the steps after the newest one, once a step, and adapts it.
    pub fn adapt(&mut self, mut forecast: Forecast) -> Forecast {
        if self.levels != forecast.quantiles {
            *self = Adaptation { levels: forecast.quantiles.clone(), ..Adaptation::default() };
        }
        if self.noted.replace(self.now) != Some(self.now) {
            self.note(&forecast);
        }
        self.apply(&mut forecast);
        forecast
    }

    fn note(&mut self, forecast: &Forecast) {
        for g in (0..).take_while(|&g| first_step(g) < forecast.horizon()) {
            if self.groups.len() == g {
                self.groups.push(Group::new(self.levels.len()));
            }
            let (first, group) = (first_step(g), &mut self.groups[g]);
            let due = self.now + first as u64 + 1;
            group.step.pending.extend(column(&forecast.paths, first).map(|c| (due, c)));
            group.peak.pending.extend(column(&forecast.peaks, first).map(|c| (due, c)));
        }
    }

    /// Takes in the demand of the next step. A gap, or what may have been more, proves nothing.
    pub fn observe(&mut self, demand: Option<f64>) {
        self.now += 1;
        let demand = demand.unwrap_or(f64::NAN);
        self.recent.push_front(demand);
        self.recent.truncate(first_step(self.groups.len()));
        for (g, group) in self.groups.iter_mut().enumerate() {
            let rate = RATE / ((first_step(g) + 1) as f64).sqrt();
            let covered = self.recent.iter().take(first_step(g) + 1).copied();
            // NaN, once met, stays.
            let highest = covered.fold(0.0, |a: f64, b| if a.is_nan() || b <= a { a } else { b });
            group.step.observe(self.now, demand, &self.levels, rate);
            group.peak.observe(self.now, highest, &self.levels, rate);
        }
    }

    /// Moves the quantiles of a forecast, whichever they are. They stay ordered and non-negative,
    /// and a peak at least as high as the steps that it covers.
    pub fn apply(&self, forecast: &mut Forecast) {
        for (g, group) in self.groups.iter().enumerate() {
            let steps = first_step(g)..first_step(g + 1).min(forecast.horizon());
            group.step.apply(
                &self.levels,
                &forecast.quantiles,
                &mut forecast.paths[..],
                steps.clone(),
            );
            group.peak.apply(&self.levels, &forecast.quantiles, &mut forecast.peaks[..], steps);
        }
        for (path, peaks) in forecast.paths.iter().zip(&mut forecast.peaks) {
            let mut highest = 0.0f64;
            for (peak, step) in peaks.iter_mut().zip(path) {
                highest = highest.max(*peak).max(*step);
                *peak = highest;
            }
        }
    }

    /// Another model is in use: part of the factors stays, and what the one before had forecast is
    /// not held against it.
    pub fn inherit(&mut self) {
        for tracker in self.groups.iter_mut().flat_map(|g| [&mut g.step, &mut g.peak]) {
            tracker.pending.clear();
            tracker.factors.iter_mut().for_each(|f| *f *= INHERITED);
        }
    }
}

impl Group {
    fn new(levels: usize) -> Group {
        let new = Tracker { pending: VecDeque::new(), factors: vec![0.0; levels] };
        Group { step: new.clone(), peak: new }
    }
}

impl Tracker {
    /// Moves the factors by what came of the forecast that is due `now`; NaN moves nothing.
    fn observe(&mut self, now: u64, came: f64, levels: &[f64], rate: f64) {
        let due = self.pending.pop_front_if(|(due, _)| *due <= now);
        let Some((_, quantiles)) = due.filter(|_| came.is_finite()) else { return };
        let Some(median) = interpolate(levels, &quantiles, 0.5) else { return };
        for ((factor, &level), quantile) in self.factors.iter_mut().zip(levels).zip(quantiles) {
            let distance = quantile - median;
            if distance == 0.0 {
                continue;
            }
            let beyond = (came - median) / distance > factor.exp();
            let miss = f64::from(u8::from(beyond)) - level.min(1.0 - level);
            *factor = (*factor + rate * miss).clamp(FACTORS.0.ln(), FACTORS.1.ln());
        }
    }

    /// Moves `paths` of `quantiles` at `steps`; factors between `levels` are interpolated.
    fn apply(
        &self,
        levels: &[f64],
        quantiles: &[f64],
        paths: &mut [Vec<f64>],
        steps: Range<usize>,
    ) {
        let factor = |&q: &f64| interpolate(levels, &self.factors, q).unwrap_or(0.0).exp();
        let factors: Vec<f64> = quantiles.iter().map(factor).collect();
        let Some(middle) = Place::among(quantiles, 0.5) else { return };
        let mut column = Vec::with_capacity(paths.len());
        for h in steps {
            let median = middle.read(|i| paths[i][h]);
            let moved = |(path, factor): (&Vec<f64>, &f64)| median + (path[h] - median) * factor;
            column.clear();
            column.extend(paths.iter().zip(&factors).map(|each| moved(each).max(0.0)));
            column.sort_unstable_by(f64::total_cmp);
            paths.iter_mut().zip(&column).for_each(|(path, quantile)| path[h] = *quantile);
        }
    }
}

/// First step of group `g`, which is also the number of steps before it.
fn first_step(g: usize) -> usize {
    (1 << g) - 1
}

/// All quantiles of step `h`.
fn column(paths: &[Vec<f64>], h: usize) -> Option<Vec<f64>> {
    paths.iter().map(|path| path.get(h).copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::forecast::{Method, accuracy::pinball_loss};
    use crate::series::Time;

    /// Quantiles of the sum of 12 uniform draws less 6, which is nearly normal.
    const LEVELS: [f64; 5] = [0.1, 0.5, 0.9, 0.99, 0.999];
    const NORMAL: [f64; 5] = [-1.2816, 0.0, 1.2816, 2.3263, 3.0902];
    const HORIZON: usize = 12;

    fn forecast(quantiles: &[f64], column: &[f64], horizon: usize) -> Forecast {
        let paths: Vec<Vec<f64>> = column.iter().map(|&q| vec![q; horizon]).collect();
        Forecast {
            method: Method::Naive,
            origin: Time::UNIX_EPOCH,
            step_ms: 1_000,
            quantiles: quantiles.to_vec(),
            point: vec![column[column.len() / 2]; horizon],
            peaks: paths.clone(),
            paths,
        }
    }

    /// Coverage of the 80 % interval and pinball loss in units of that of the model, of steps and
    /// by step ahead, over eight seeds: noise around 100 that the model knows, `size` times as
    /// much of it from step 500 on; counted are the steps `from` to `from + 300` after that.
    fn run(size: f64, from: usize, adapts: bool, h: usize) -> (f64, f64) {
        let column: Vec<f64> = NORMAL.iter().map(|z| 100.0 + z).collect();
        let raw = forecast(&LEVELS, &column, HORIZON);
        let (mut inside, mut loss, mut model_loss) = (0, 0.0, 0.0);
        for seed in 0..8 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut adaptation = Adaptation::default();
            for t in 0..500 + from + 300 {
                let noise = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
                let came = 100.0 + noise * if t < 500 { 1.0 } else { size };
                let said = if adapts { adaptation.adapt(raw.clone()) } else { raw.clone() };
                let at = |said: &Forecast, q: usize| said.paths[q][h];
                let all = |said: &Forecast| -> f64 {
                    (0..5).map(|q| pinball_loss(came, at(said, q), LEVELS[q])).sum()
                };
                if t >= 500 + from {
                    inside += u32::from((at(&said, 0)..=at(&said, 2)).contains(&came));
                    (loss, model_loss) = (loss + all(&said), model_loss + all(&raw));
                }
                adaptation.observe(Some(came));
            }
        }
        (f64::from(inside) / 2_400.0, loss / model_loss)
    }

    #[test]
    fn coverage_comes_back_after_noise_has_grown_threefold() {
        // Two thirds of three times the noise lie outside: P(|z| < 1.28 / 3) = 0.33.
        let (without, _) = run(3.0, 300, false, 0);
        assert!((0.30..0.36).contains(&without), "{without}");
        // Farther ahead errors count for less: the root of 2 at the second step, of 8 at the last.
        for (h, from) in [(0, 200), (1, 300), (11, 600)] {
            let (with, loss) = run(3.0, from, true, h);
            assert!((0.77..0.83).contains(&with), "step {h}: {with}");
            assert!(loss < 0.9, "step {h}: {loss}");
        }
        let (calmer, loss) = run(0.5, 300, true, 0);
        assert!((0.77..0.86).contains(&calmer) && loss < 1.0, "{calmer} {loss}");
    }

    #[test]
    fn where_nothing_changed_it_does_next_to_no_harm() {
        for h in [0, 11] {
            let (coverage, loss) = run(1.0, 0, true, h);
            assert!((0.79..0.81).contains(&coverage), "step {h}: {coverage}");
            assert!(loss < 1.015, "step {h}: {loss}");
        }
    }

    #[test]
    fn peaks_are_followed_too() {
        let mut adaptation = Adaptation::default();
        let raw = forecast(&[0.1, 0.5, 0.9], &[8.0, 10.0, 12.0], 4);
        // Every other step is 10, within, the others 14: so is every peak of two and more.
        for t in 0..400 {
            adaptation.adapt(raw.clone());
            adaptation.observe(Some(if t % 2 == 0 { 10.0 } else { 14.0 }));
        }
        let said = adaptation.adapt(raw);
        // The 0.9 quantile comes to rest at what is above it one time in ten: 14, twice as far.
        assert!((said.paths[2][1] - 14.0).abs() < 0.3, "{:?}", said.paths);
        assert!((said.peaks[2][3] - 14.0).abs() < 0.3, "{:?}", said.peaks);
    }

    #[test]
    fn gaps_prove_nothing_and_forecasts_meet_their_own_step() {
        let mut adaptation = Adaptation::default();
        // What was forecast for the second step ahead is right; for the first it is far too low.
        let mut raw = forecast(&[0.1, 0.5, 0.9], &[8.0, 10.0, 12.0], 2);
        raw.paths.iter_mut().for_each(|path| path[0] = 1.0);
        raw.paths[2][0] = 2.0;
        for t in 0..50 {
            adaptation.adapt(raw.clone());
            // Asked again in the same step, nothing is noted twice.
            adaptation.adapt(raw.clone());
            adaptation.observe((t % 2 == 0).then_some(11.0));
        }
        let (first, second) = (&adaptation.groups[0].step, &adaptation.groups[1].step);
        assert!((first.factors[2] - 25.0 * RATE * 0.9).abs() < 1e-9, "{:?}", first.factors);
        assert!(second.factors[2] < 0.0, "{:?}", second.factors);
        assert_eq!((first.pending.len(), second.pending.len()), (0, 1));
        let before = first.factors[2];
        adaptation.inherit();
        let group = &adaptation.groups[1];
        assert!(group.step.pending.is_empty() && group.peak.pending.is_empty());
        assert_eq!(adaptation.groups[0].step.factors[2], INHERITED * before);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn quantiles_stay_ordered_and_peaks_above_their_steps(
            loads in prop::collection::vec(
                prop_oneof![Just(None), (0.0f64..1e300).prop_map(Some), Just(Some(0.0))], 0..80),
            mut column in prop::collection::vec(0.0f64..1e12, 5),
            horizon in 1usize..40,
        ) {
            column.sort_unstable_by(f64::total_cmp);
            let raw = forecast(&LEVELS, &column, horizon);
            let mut adaptation = Adaptation::default();
            for load in loads {
                adaptation.adapt(raw.clone());
                adaptation.observe(load);
            }
            // Other quantiles than those that were followed are moved as well.
            let mut other = forecast(&[0.05, 0.3, 0.6, 0.95, 0.9995], &column, horizon + 3);
            adaptation.apply(&mut other);
            for said in [adaptation.adapt(raw), other] {
                for h in 0..said.horizon() {
                    for paths in [&said.paths, &said.peaks] {
                        let column: Vec<f64> = paths.iter().map(|path| path[h]).collect();
                        prop_assert!(column.is_sorted() && column[0] >= 0.0, "{column:?}");
                        prop_assert!(column.iter().all(|v| v.is_finite()));
                    }
                }
                for (path, peak) in said.paths.iter().zip(&said.peaks) {
                    prop_assert!(peak.is_sorted() && path.iter().zip(peak).all(|(s, p)| s <= p));
                }
            }
        }
    }
}
