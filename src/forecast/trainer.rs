//! Pure: fits every member, weighs them by rolling origin, calibrates the ensemble.
//!
//! All members forecast the same held-out origins, thousands where there is history enough, each
//! with what was known then (a regression walks through the history, see [`super::regression`]).
//! From their errors come the weights of the ensemble (see [`super::ensemble`]) and, from the
//! errors of the ensemble, its quantiles. These are calibrated on the older part of those errors
//! and scored on the newer, and then calibrated again on all of them.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView1, s};

use super::{
    Fitted, ForecastError, MemberSkill, Method, Model, Training,
    accuracy::{MethodScore, SCORED, Tally},
    calibration::{Calibration, HeldOut, demand},
    censoring::for_training,
    ensemble::{Ensemble, HeldOutPaths},
    events::{Effects, Events},
    features::{Layout, Scaling, mean},
    local_scale::ScaleLayout,
    naive::Naive,
    regression,
    sample::Sample,
    seasonal_naive::SeasonalNaive,
};
use crate::series::{Series, Time};

/// Fewest steps with a value that are trained on.
pub const MIN_POINTS: usize = 10;
/// Fewest steps with a value by which members are compared.
const MIN_COMPARED: usize = 30;
/// Origins below which a regression is not tried.
const MIN_ROWS: usize = 60;
/// Held-out origins that a comparison needs.
const MIN_HELD_OUT: usize = 8;
/// Share of the held-out origins that calibrates the score of the rest.
const CALIBRATED: f64 = 0.5;
/// Most refits of the regressions in one training.
const MAX_REFITS: usize = 50;

/// What to train. The defaults serve live use; season lengths are always detected.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Steps ahead that the model must cover.
    pub horizon: usize,
    /// Newest steps that are used; older ones are ignored.
    pub max_history: usize,
    /// Times that the regression is fitted again while the methods are compared on held-out data.
    pub origins: usize,
    /// What is known to have happened and to happen; the methods learn from load without it.
    pub events: Events,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { horizon: 12, max_history: 40_000, origins: 8, events: Events::default() }
    }
}

/// Fits every member that `history` can teach, weighs them and calibrates the ensemble on held-out
/// errors. With fewer points than a comparison needs, but at least [`MIN_POINTS`], a cold start:
/// the last value, with intervals of a random walk as restless as the history.
///
/// # Errors
/// [`ForecastError::TooShort`] below [`MIN_POINTS`] points.
pub fn train(now: Time, history: &Series, options: &TrainOptions) -> Result<Model, ForecastError> {
    let material = Material::new(now, history, options)?;
    let Some(taught) = material.teach() else { return Ok(material.cold_start()) };
    let (fitted, forecasts) = taught.ensemble();
    let Some((calibration, score)) = taught.calibrate(&forecasts, Method::Foresail) else {
        return Ok(material.cold_start());
    };
    let members = taught.skills(&fitted);
    let mut model = material.model(Fitted::Foresail(fitted), calibration);
    model.training.scores = vec![score];
    model.training.members = members;
    Ok(model)
}

/// A fitted method, calibrated, and its score.
pub struct Candidate {
    pub model: Model,
    pub score: MethodScore,
}

/// Every member, each calibrated for itself, the simplest first, and the ensemble of them last.
///
/// # Errors
/// [`ForecastError::TooShort`] if there is none.
pub fn candidates(
    now: Time,
    history: &Series,
    options: &TrainOptions,
) -> Result<Vec<Candidate>, ForecastError> {
    let material = Material::new(now, history, options)?;
    let have = material.training.points;
    let need = material.to_compare();
    let taught = material.teach().ok_or(ForecastError::TooShort { have, need })?;
    let (ensemble, forecasts) = taught.ensemble();
    let members = taught.members.iter().map(|m| (m.fitted.clone(), &m.forecasts));
    let all = members.chain([(Fitted::Foresail(ensemble), &forecasts)]);
    let candidate = |(fitted, forecasts): (Fitted, &Array2<f64>)| {
        let (calibration, score) = taught.calibrate(forecasts, fitted.method())?;
        Some(Candidate { model: material.model(fitted, calibration), score })
    };
    Ok(all.filter_map(candidate).collect())
}

/// The history of one training, and what a model of it says about itself.
struct Material<'a> {
    sample: Sample<'a>,
    effects: Option<Effects>,
    training: Training,
    step_ms: i64,
    refits: usize,
}

/// A member and what it would have forecast, out of sample, at the held-out origins.
struct Member {
    fitted: Fitted,
    /// origins × steps ahead.
    forecasts: Array2<f64>,
}

/// All members, on the same held-out origins.
struct Taught {
    members: Vec<Member>,
    /// Edges of the blocks of origins between which the members were fitted again.
    blocks: Vec<usize>,
    scale: ScaleLayout,
    /// origins × columns of `scale`.
    rows: Array2<f64>,
    /// origins × steps ahead.
    actuals: Array2<f64>,
    /// Mean steps from one origin to the next.
    spacing: f64,
    /// Of the scores.
    unit: f64,
}

impl<'a> Material<'a> {
    fn new(
        now: Time,
        history: &'a Series,
        options: &TrainOptions,
    ) -> Result<Material<'a>, ForecastError> {
        let from = history.len().saturating_sub(options.max_history.max(MIN_POINTS));
        let values = for_training(history, from);
        let points = values.iter().filter(|v| v.is_finite()).count();
        if points < MIN_POINTS {
            return Err(ForecastError::TooShort { have: points, need: MIN_POINTS });
        }
        let step_ms = history.step().as_millis() as i64;
        let start_ms = history.time_at(from).timestamp_millis();
        let effects = Effects::fit(&values, start_ms, step_ms, &options.events);
        let quiet = effects.as_ref().and_then(|e| e.removed(&values, start_ms, step_ms));
        let values = quiet.map_or(values, Cow::Owned);
        let training = Training {
            trained_at: now,
            from: history.time_at(from),
            to: history.end(),
            points,
            cold_start: false,
            scores: Vec::new(),
            members: Vec::new(),
        };
        let sample = Sample::new(values, start_ms, step_ms, options.horizon.max(1));
        let refits = options.origins.clamp(1, MAX_REFITS);
        Ok(Material { sample, effects, training, step_ms, refits })
    }

    /// Points below which members are not compared.
    fn to_compare(&self) -> usize {
        MIN_COMPARED.max(2 * self.sample.horizon + MIN_HELD_OUT)
    }

    /// Every member that the sample can teach, the simplest first; `None` with too little to
    /// compare them by.
    fn teach(&self) -> Option<Taught> {
        let sample = &self.sample;
        if self.training.points < self.to_compare() {
            return None;
        }
        let season = sample.seasons.first().copied();
        let scale = ScaleLayout::new(&sample.filled, sample.horizon, season);
        let (walks, origins, blocks) = self.regress(&scale);
        if origins.len() < MIN_HELD_OUT {
            return None;
        }
        let simple = [Some(Fitted::Naive(Naive {})), season.map(SeasonalNaive::fitted)];
        let simple = simple.into_iter().flatten().map(|fitted| {
            let forecasts = sample.forecasts(&origins, |view, out| fitted.points(view, out));
            Member { fitted, forecasts }
        });
        let regressions = walks
            .into_iter()
            .map(|w| Member { fitted: Fitted::Regression(w.regression), forecasts: w.forecasts });
        let mut rows = Array2::zeros((origins.len(), scale.width()));
        let mut row = Vec::new();
        for (i, &o) in origins.iter().enumerate() {
            scale.row(sample.view(o), &mut row);
            rows.row_mut(i).iter_mut().zip(&row).for_each(|(to, v)| *to = *v);
        }
        Some(Taught {
            members: simple.chain(regressions).collect(),
            blocks,
            scale,
            rows,
            actuals: sample.actuals(&origins),
            spacing: spacing(&origins),
            unit: sample.unit,
        })
    }

    /// The regressions' walks, if there is history enough for any, the held-out origins and the
    /// edges of their blocks.
    fn regress(&self, scale: &ScaleLayout) -> (Vec<regression::Walk>, Vec<usize>, Vec<usize>) {
        let sample = &self.sample;
        let layout = Layout::new(sample.filled.len(), sample.horizon, &sample.seasons);
        let origins = sample.origins(layout.least().max(scale.context()));
        let floor = 0.05 * mean(&sample.filled).abs();
        let mut scalings = vec![Scaling::Absolute];
        if floor > 0.0 {
            scalings.extend([Scaling::Relative { floor }, Scaling::Log { floor }]);
        }
        if origins.len() < MIN_ROWS {
            scalings.clear();
        }
        let walks: Vec<regression::Walk> = scalings
            .into_iter()
            .filter_map(|s| regression::fit(&sample.rows(&layout, s, &origins), self.refits).ok())
            .collect();
        if let Some(regression::Walk { from, tested, .. }) = walks.first() {
            let blocks = tested.iter().map(|row| row - from).collect();
            let held_out = origins[*from..].to_vec();
            return (walks, held_out, blocks);
        }
        let context = scale.context().max(sample.seasons.first().copied().unwrap_or(1));
        let origins = sample.origins(context);
        let blocks = (0..=self.refits).map(|b| b * origins.len() / self.refits).collect();
        (Vec::new(), origins, blocks)
    }

    fn model(&self, fitted: Fitted, calibration: Calibration) -> Model {
        Model {
            fitted,
            calibration,
            horizon: self.sample.horizon,
            step_ms: self.step_ms as u64,
            season_lengths: self.sample.seasons.clone(),
            training: self.training.clone(),
            effects: self.effects.clone(),
        }
    }

    fn cold_start(&self) -> Model {
        let calibration = Calibration::random_walk(&self.sample.values, self.sample.horizon);
        let mut model = self.model(Fitted::Naive(Naive {}), calibration);
        model.training.cold_start = true;
        model
    }
}

impl Taught {
    /// The members with their weights, and what they would have forecast together.
    fn ensemble(&self) -> (Ensemble, Array2<f64>) {
        let paths = HeldOutPaths {
            members: self.members.iter().map(|m| m.forecasts.view()).collect(),
            actuals: self.actuals.view(),
        };
        let (weights, forecasts) = paths.walk(&self.blocks);
        let members = self.members.iter().map(|m| m.fitted.clone()).collect();
        (Ensemble { members, weights }, forecasts)
    }

    /// Errors of each member on the newer held-out origins, and its weight; the heaviest first.
    fn skills(&self, ensemble: &Ensemble) -> Vec<MemberSkill> {
        let newer = s![self.older().., ..];
        let skill = |(member, weights): (&Member, ArrayView1<f64>)| {
            let errors = &member.forecasts.slice(newer) - &self.actuals.slice(newer);
            MemberSkill {
                method: member.fitted.method(),
                mase: errors.mapv(f64::abs).mean().unwrap_or(0.0) / self.unit,
                weight: weights.mean().unwrap_or(0.0),
            }
        };
        let mut skills: Vec<MemberSkill> =
            self.members.iter().zip(ensemble.weights.rows()).map(skill).collect();
        skills.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        skills
    }

    /// Held-out origins that calibrate the score of the rest.
    fn older(&self) -> usize {
        (self.actuals.nrows() as f64 * CALIBRATED) as usize
    }

    fn calibrate(
        &self,
        forecasts: &Array2<f64>,
        method: Method,
    ) -> Option<(Calibration, MethodScore)> {
        let held_out = HeldOut {
            rows: self.rows.view(),
            forecasts: forecasts.view(),
            actuals: self.actuals.view(),
            spacing: self.spacing,
        };
        calibrate(held_out, self.older(), &self.scale, method, self.unit)
    }
}

/// Mean steps from one origin to the next.
fn spacing(origins: &[usize]) -> f64 {
    let steps = origins.last().zip(origins.first()).map_or(0, |(last, first)| last - first);
    (steps as f64 / origins.len().saturating_sub(1).max(1) as f64).max(1.0)
}

/// Calibrates on the older held-out errors and scores on the newer, with a local and with a
/// constant scale; the better of the two is calibrated again on all errors. `None` with too few of
/// them.
fn calibrate(
    held_out: HeldOut,
    older: usize,
    layout: &ScaleLayout,
    method: Method,
    unit: f64,
) -> Option<(Calibration, MethodScore)> {
    let (older, newer) = held_out.split_at(older);
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
    let errors = SCORED.map(|q| calibration.step_errors(q));
    let mut row = Vec::new();
    for i in 0..held_out.origins() {
        row.clear();
        row.extend(held_out.rows.row(i));
        let scale = calibration.scale_of(&row);
        let steps = held_out.forecasts.row(i).into_iter().zip(held_out.actuals.row(i));
        for (h, (&forecast, &actual)) in steps.enumerate() {
            let quantile = |k: usize| demand(forecast, scale, errors[k][h]);
            tally.add(actual, std::array::from_fn(quantile));
        }
    }
    tally.score(method, unit, held_out.origins())
}

#[cfg(test)]
mod tests;
