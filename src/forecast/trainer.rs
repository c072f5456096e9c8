//! Pure: fits every candidate, scores them by rolling origin, keeps the best.
//!
//! All candidates forecast the same held-out origins, thousands where there is history enough, each
//! with what was known then (the regression walks through the history, see [`super::regression`]).
//! Their quantiles are calibrated on the older part of those errors and scored on the newer; the
//! kept one is calibrated again on all of them.

use ndarray::Array2;

use super::{
    Fitted, ForecastError, Method, Model, Training,
    accuracy::{MethodScore, SCORED, Tally},
    calibration::{Calibration, HeldOut},
    features::{Layout, Scaling, View, mean},
    local_scale::ScaleLayout,
    naive::Naive,
    regression,
    sample::Sample,
    seasonal_naive::SeasonalNaive,
};
use crate::series::{Series, Time};

/// Fewest steps with a value that are trained on.
pub const MIN_POINTS: usize = 30;
/// Origins below which a regression is not tried.
const MIN_ROWS: usize = 60;
/// Origins that a calibration needs.
const MIN_HELD_OUT: usize = 8;
/// Share of the held-out origins that calibrates the score of the rest.
const CALIBRATED: f64 = 0.5;
/// Most refits of the regression in one training.
const MAX_REFITS: usize = 50;
/// A method replaces a simpler one only if its pinball loss is lower by this factor.
const WORTH: f64 = 0.98;

/// What to train. The defaults serve live use; season lengths are always detected.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Steps ahead that the model must cover.
    pub horizon: usize,
    /// Newest steps that are used; older ones are ignored.
    pub max_history: usize,
    /// Times that the regression is fitted again while the methods are compared on held-out data.
    pub origins: usize,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { horizon: 12, max_history: 40_000, origins: 8 }
    }
}

/// Fits regression, seasonal-naive and naive on `history`, calibrates each on held-out errors and
/// keeps the one with the lowest pinball loss on newer held-out errors; the simpler one where they
/// are close.
///
/// # Errors
/// [`ForecastError::TooShort`] if even the naive method has too little data.
pub fn train(now: Time, history: &Series, options: &TrainOptions) -> Result<Model, ForecastError> {
    let mut candidates = candidates(now, history, options)?;
    let mut kept = candidates.swap_remove(best(&candidates));
    kept.model.training.scores = vec![kept.score];
    candidates.sort_by(|a, b| a.score.pinball.total_cmp(&b.score.pinball));
    kept.model.training.scores.extend(candidates.into_iter().map(|c| c.score));
    Ok(kept.model)
}

/// Index of the candidate to keep: the lowest pinball loss, the simpler one where they are close.
pub fn best(candidates: &[Candidate]) -> usize {
    let pinball = |i: usize| candidates[i].score.pinball;
    (1..candidates.len())
        .fold(0, |best, i| if pinball(i) < WORTH * pinball(best) { i } else { best })
}

/// A fitted method, calibrated, and its score.
pub struct Candidate {
    pub model: Model,
    pub score: MethodScore,
}

/// Every method that `history` can teach, the simplest first.
///
/// # Errors
/// [`ForecastError::TooShort`] if there is none.
pub fn candidates(
    now: Time,
    history: &Series,
    options: &TrainOptions,
) -> Result<Vec<Candidate>, ForecastError> {
    let from = history.len().saturating_sub(options.max_history.max(MIN_POINTS));
    let values = &history.values()[from..];
    let points = values.iter().filter(|v| v.is_finite()).count();
    let horizon = options.horizon.max(1);
    let need = MIN_POINTS.max(2 * horizon + MIN_HELD_OUT);
    if points < need {
        return Err(ForecastError::TooShort { have: points, need });
    }
    let step_ms = history.step().as_millis() as i64;
    let start_ms = history.time_at(from).timestamp_millis();
    let sample = Sample::new(values, start_ms, step_ms, horizon);
    let training = Training {
        trained_at: now,
        from: history.time_at(from),
        to: history.end(),
        points,
        scores: Vec::new(),
    };
    let model = |(fitted, calibration, score)| Candidate {
        model: Model {
            fitted,
            calibration,
            horizon,
            step_ms: step_ms as u64,
            season_lengths: sample.seasons.clone(),
            training: training.clone(),
        },
        score,
    };
    let fits: Vec<_> =
        fits(&sample, options.origins.clamp(1, MAX_REFITS)).into_iter().map(model).collect();
    if fits.is_empty() {
        return Err(ForecastError::TooShort { have: points, need: 2 * need });
    }
    Ok(fits)
}

/// Every method that the sample can teach, the simplest first.
fn fits(sample: &Sample, refits: usize) -> Vec<(Fitted, Calibration, MethodScore)> {
    let scale = ScaleLayout::new(&sample.filled, sample.horizon, sample.seasons.first().copied());
    let (walk, origins) = regress(sample, &scale, refits);
    let mut rows = Array2::zeros((origins.len(), scale.width()));
    let mut actuals = Array2::zeros((origins.len(), sample.horizon));
    let mut row = Vec::new();
    for (i, &o) in origins.iter().enumerate() {
        scale.row(sample.view(o), &mut row);
        rows.row_mut(i).iter_mut().zip(&row).for_each(|(to, v)| *to = *v);
        actuals.row_mut(i).iter_mut().zip(&sample.values[o + 1..]).for_each(|(to, v)| *to = *v);
    }
    let forecasts = |points: &dyn Fn(View, &mut [f64])| {
        let mut out = Vec::with_capacity(origins.len() * sample.horizon);
        let mut path = vec![0.0; sample.horizon];
        for &o in &origins {
            points(sample.view(o), &mut path);
            out.extend_from_slice(&path);
        }
        Array2::from_shape_vec((origins.len(), sample.horizon), out)
            .expect("one path of `horizon` steps for each origin")
    };
    let naive = Naive {};
    let mut methods = vec![(Fitted::Naive(naive), forecasts(&|view, out| naive.points(view, out)))];
    if let Some(&season_length) = sample.seasons.first() {
        let seasonal = SeasonalNaive { season_length };
        let paths = forecasts(&|view, out| seasonal.points(view, out));
        methods.push((Fitted::SeasonalNaive(seasonal), paths));
    }
    methods.extend(walk.map(|w| (Fitted::Regression(w.regression), w.forecasts)));
    methods
        .into_iter()
        .filter_map(|(fitted, forecasts)| {
            let held_out =
                HeldOut { rows: rows.view(), forecasts: forecasts.view(), actuals: actuals.view() };
            let (calibration, score) = calibrate(held_out, &scale, fitted.method(), sample.unit)?;
            Some((fitted, calibration, score))
        })
        .collect()
}

/// The regression's walk, if there is history enough for one, and the held-out origins.
fn regress(
    sample: &Sample,
    scale: &ScaleLayout,
    refits: usize,
) -> (Option<regression::Walk>, Vec<usize>) {
    let floor = 0.05 * mean(&sample.filled).abs();
    let layout = |s| Layout::new(sample.filled.len(), sample.horizon, &sample.seasons, s);
    let context = layout(Scaling::Absolute).context().max(scale.context());
    let origins = sample.origins(context);
    if origins.len() >= MIN_ROWS {
        let mut walks =
            [Some(Scaling::Absolute), (floor > 0.0).then_some(Scaling::Relative { floor })]
                .into_iter()
                .flatten()
                .filter_map(|s| regression::fit(&sample.rows(layout(s), &origins), refits).ok());
        let best = walks
            .next()
            .map(|first| walks.fold(first, |best, w| if w.error < best.error { w } else { best }));
        if let Some(walk) = best {
            let held_out = origins[walk.from..].to_vec();
            return (Some(walk), held_out);
        }
    }
    let context = scale.context().max(sample.seasons.first().copied().unwrap_or(1));
    (None, sample.origins(context))
}

/// Calibrates on the older held-out errors and scores on the newer, with a local and with a
/// constant scale; the better of the two is calibrated again on all errors. `None` with too few of
/// them.
fn calibrate(
    held_out: HeldOut,
    layout: &ScaleLayout,
    method: Method,
    unit: f64,
) -> Option<(Calibration, MethodScore)> {
    let n = held_out.origins();
    if n < MIN_HELD_OUT {
        return None;
    }
    let (older, newer) = held_out.split_at((n as f64 * CALIBRATED) as usize);
    let score = |local: bool| {
        let calibration = Calibration::fit(older, layout, local)?;
        Some((local, score(&calibration, newer, method, unit)?))
    };
    let constant = score(false)?;
    let best = match score(true) {
        Some(local) if local.1.pinball < constant.1.pinball => local,
        _ => constant,
    };
    Some((Calibration::fit(held_out, layout, best.0)?, best.1))
}

fn score(
    calibration: &Calibration,
    held_out: HeldOut,
    method: Method,
    unit: f64,
) -> Option<MethodScore> {
    let mut tally = Tally::default();
    let mut row = Vec::new();
    for i in 0..held_out.origins() {
        row.clear();
        row.extend(held_out.rows.row(i));
        let scale = calibration.scale_of(&row);
        for h in 0..held_out.forecasts.ncols() {
            let forecast = held_out.forecasts[[i, h]];
            let quantiles = SCORED.map(|q| calibration.step(h, forecast, scale, q));
            tally.add(held_out.actuals[[i, h]], quantiles);
        }
    }
    tally.score(method, unit, held_out.origins())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::forecast::QUANTILES;

    fn series(values: Vec<f64>) -> Series {
        let start = DateTime::from_timestamp_millis(1_700_000_000_000).expect("in range");
        Series::new(start, Duration::from_millis(250), values)
    }

    fn trained(values: Vec<f64>, horizon: usize) -> Result<(Series, Model), ForecastError> {
        let history = series(values);
        let options = TrainOptions { horizon, origins: 3, ..TrainOptions::default() };
        train(history.end(), &history, &options).map(|model| (history, model))
    }

    /// A steep peak in every 40 steps on a noise that repeats only after a long time.
    fn peaks(i: usize) -> f64 {
        let noise = ((i * 7919) % 101) as f64 / 101.0 - 0.5;
        (if (24..32).contains(&(i % 40)) { 3.0 } else { 0.6 }) + 0.4 * noise
    }

    /// Trains, and forecasts with quantiles that are finite, ordered and not negative.
    fn check(values: Vec<f64>, horizon: usize) -> Option<Method> {
        let (history, model) = match trained(values, horizon) {
            Ok(trained) => trained,
            Err(ForecastError::TooShort { .. }) => return None,
            Err(e) => panic!("{e}"),
        };
        let recent = &history.values()[history.len() - 12..];
        let forecast = match model.forecast(&history, horizon, &QUANTILES) {
            Err(ForecastError::NoRecentData(_)) if recent.iter().all(|v| v.is_nan()) => {
                return None;
            }
            other => other.expect("a model forecasts from what it was trained on"),
        };
        assert_eq!(forecast.horizon(), horizon);
        for paths in [&forecast.paths, &forecast.peaks] {
            for h in 0..horizon {
                let column: Vec<f64> = paths.iter().map(|path| path[h]).collect();
                assert!(column.iter().all(|v| v.is_finite() && *v >= 0.0), "{column:?}");
                assert!(column.is_sorted(), "{column:?}");
            }
        }
        for (path, peak) in forecast.paths.iter().zip(&forecast.peaks) {
            assert!(peak.is_sorted() && path.iter().zip(peak).all(|(s, p)| s <= p));
        }
        assert_eq!(
            forecast.point,
            forecast.paths[QUANTILES.iter().position(|&q| q == 0.5).unwrap()]
        );
        Some(model.method())
    }

    #[test]
    fn degenerate_loads_are_trained_on_without_a_fuss() {
        let n = 240;
        let shift = |i: usize| if i < 160 { 1.0 } else { 50.0 };
        check((0..n).map(shift).collect(), 12);
        check((0..n).map(|i| if i % 97 == 0 { 1e6 } else { 0.0 }).collect(), 12);
        check((0..n).map(|i| if i % 3 == 0 { f64::NAN } else { peaks(i) }).collect(), 12);
        check(
            (0..n).map(|i| if (100..160).contains(&i) { f64::NAN } else { peaks(i) }).collect(),
            12,
        );
        check((0..n).map(|i| if i > 220 { f64::NAN } else { peaks(i) }).collect(), 12);
        check((0..n).map(|i| if i % 2 == 0 { 1e150 } else { -1e150 }).collect(), 3);
        check(vec![f64::NAN; n], 12);
        for constant in [0.0, 7.5] {
            let (history, model) = trained(vec![constant; n], 12).unwrap();
            assert_eq!(model.method(), Method::Naive, "nothing is worth more than the simplest");
            let forecast = model.forecast(&history, 12, &QUANTILES).unwrap();
            assert!(forecast.paths.iter().flatten().all(|v| *v == constant));
        }
    }

    #[test]
    fn too_little_history_is_refused_with_what_is_needed() {
        // At least 30 points, and for long horizons 2 x 20 + 8.
        for (points, horizon, need) in [(0, 12, 32), (31, 12, 32), (47, 20, 48), (29, 1, 30)] {
            let error = trained(vec![1.0; points], horizon).unwrap_err();
            assert_eq!(error, ForecastError::TooShort { have: points, need });
        }
        assert_eq!(check((0..32).map(peaks).collect(), 12), Some(Method::Naive));
    }

    #[test]
    fn recurring_peaks_are_foreseen() {
        let (mut history, model) = trained((0..244).map(peaks).collect(), 12).unwrap();
        assert_eq!(model.season_lengths.first(), Some(&40));
        assert_ne!(model.method(), Method::Naive);
        // 260 is 20 into a period: 0.6 now, the peak of 3.0 four to eleven steps ahead.
        for i in 244..260 {
            history.push(peaks(i));
        }
        let forecast = model.forecast(&history, 12, &QUANTILES).unwrap();
        assert!(forecast.point[2] < 1.2 && forecast.point[6] > 2.4, "{:?}", forecast.point);
        assert!(forecast.peak(4, 0.5).unwrap() < 1.4 && forecast.peak(12, 0.5).unwrap() > 2.6);
    }

    #[test]
    fn only_the_context_matters_and_it_must_be_there() {
        let (history, model) = trained((0..400).map(peaks).collect(), 6).unwrap();
        let context = model.context();
        let last = history.slice(history.len() - context..history.len());
        assert_eq!(model.forecast(&last, 6, &QUANTILES), model.forecast(&history, 6, &QUANTILES));
        let short = history.slice(history.len() - context + 1..history.len());
        let error = ForecastError::TooShort { have: context - 1, need: context };
        assert_eq!(model.forecast(&short, 6, &QUANTILES), Err(error));
        let other = Series::new(history.start(), Duration::from_secs(1), vec![1.0; 400]);
        assert!(matches!(model.forecast(&other, 6, &QUANTILES), Err(ForecastError::Step { .. })));
    }

    #[test]
    fn a_model_survives_json_exactly() {
        let (history, model) = trained((0..400).map(peaks).collect(), 6).unwrap();
        let back: Model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
        assert_eq!(back, model);
        assert_eq!(back.forecast(&history, 6, &[0.9]), model.forecast(&history, 6, &[0.9]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn whatever_came_quantiles_are_finite_ordered_and_not_negative(
            pieces in prop::collection::vec((0usize..5, 1usize..90, -1e3f64..1e6), 1..6),
            horizon in 1usize..16,
        ) {
            let mut values = Vec::new();
            for (kind, length, size) in pieces {
                values.extend((0..length).map(|i| match kind {
                    0 => f64::NAN,
                    1 => size,
                    2 => size * peaks(i),
                    3 => if i % 17 == 0 { size * 100.0 } else { 0.0 },
                    _ => (i as f64 * size).sin() * size,
                }));
            }
            check(values, horizon);
        }
    }
}
