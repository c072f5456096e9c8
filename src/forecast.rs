//! Pure: forecasts of demand as quantile paths, and the models that give them.
//!
//! [`trainer::train`] fits the candidates, scores them by rolling origin and keeps the best as a
//! [`Model`]; a [`Model`] and the recent history give a [`Forecast`]. One method per file.

pub mod accuracy;
pub mod adaptation;
pub mod backtest;
pub mod calibration;
pub mod censoring;
pub mod challenge;
pub mod drift;
pub mod ensemble;
pub mod events;
pub mod features;
pub mod local_scale;
pub mod naive;
pub mod regression;
mod sample;
pub mod seasonal_naive;
pub mod seasons;
pub mod trainer;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::series::{Series, Time};
use features::View;

/// Steps at the end of the history of which at least one must have a value.
const RECENT: usize = 12;

/// Quantiles that every forecast carries unless others are asked for.
pub const QUANTILES: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

/// How a forecast was made.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The ensemble of all others, weighed by recent skill.
    Foresail,
    Regression,
    RelativeRegression,
    LogRegression,
    SeasonalNaive,
    Naive,
}

impl Method {
    /// As in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Foresail => "foresail",
            Method::Regression => "regression",
            Method::RelativeRegression => "relative_regression",
            Method::LogRegression => "log_regression",
            Method::SeasonalNaive => "seasonal_naive",
            Method::Naive => "naive",
        }
    }
}

/// Demand ahead of `origin`: step `h` (from 0) covers `[origin + h * step, origin + (h + 1) *
/// step)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forecast {
    pub method: Method,
    /// End of the last step that the forecast has seen.
    #[schema(value_type = String, format = DateTime)]
    pub origin: Time,
    /// Milliseconds between steps.
    pub step_ms: u64,
    /// Ascending, each in (0, 1).
    pub quantiles: Vec<f64>,
    /// What the method says, one value a step; the median path may lie beside it, where its errors
    /// were lopsided.
    pub point: Vec<f64>,
    /// `paths[q][h]`: quantile `q` of demand in step `h`; never crossing, never negative.
    pub paths: Vec<Vec<f64>>,
    /// `peaks[q][h]`: quantile `q` of the highest demand in the steps `0..=h`.
    pub peaks: Vec<Vec<f64>>,
}

impl Forecast {
    /// Number of steps ahead.
    pub fn horizon(&self) -> usize {
        self.point.len()
    }

    /// Quantile `q` of the highest demand within the next `steps` steps (at least one, at most the
    /// horizon), linear between the carried quantiles and constant beyond them. `None` for an empty
    /// forecast.
    pub fn peak(&self, steps: usize, q: f64) -> Option<f64> {
        let h = steps.clamp(1, self.horizon().max(1)) - 1;
        self.read(&self.peaks, h, q)
    }

    /// Quantile `q` of demand in step `h`, as [`Forecast::peak`] interpolates.
    pub fn at(&self, h: usize, q: f64) -> Option<f64> {
        self.read(&self.paths, h, q)
    }

    fn read(&self, paths: &[Vec<f64>], h: usize, q: f64) -> Option<f64> {
        let place = Place::among(&self.quantiles, q)?;
        let whole = paths.len() == self.quantiles.len() && paths.iter().all(|p| h < p.len());
        whole.then(|| place.read(|i| paths[i][h]))
    }
}

/// `ys` over ascending `xs` at `x`, linear between, constant outside; `None` if empty or of unequal
/// length.
fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> Option<f64> {
    let place = Place::among(xs, x).filter(|_| xs.len() == ys.len())?;
    Some(place.read(|i| ys[i]))
}

/// Where a number lies among ascending ones: `share` of the way from that at `left` to the next.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: usize,
    share: f64,
}

impl Place {
    /// `None` among none.
    fn among(xs: &[f64], x: f64) -> Option<Place> {
        let last = xs.len().checked_sub(1)?;
        let right = xs.partition_point(|&v| v < x);
        if right == 0 || right > last || xs[right] == x {
            return Some(Place { left: right.min(last), share: 0.0 });
        }
        let share = (x - xs[right - 1]) / (xs[right] - xs[right - 1]);
        Some(Place { left: right - 1, share })
    }

    /// What is `y(i)` at number `i`, here.
    fn read(self, y: impl Fn(usize) -> f64) -> f64 {
        let left = y(self.left);
        if self.share == 0.0 {
            return left;
        }
        // Rounding must not carry it past its neighbour: quantiles would cross.
        let right = y(self.left + 1);
        (left + self.share * (right - left)).min(right)
    }
}

/// Why there is no forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ForecastError {
    #[error("{have} steps of history, at least {need} are needed")]
    TooShort { have: usize, need: usize },
    #[error("the history has a step of {have:?}, the model one of {need:?}")]
    Step { have: Duration, need: Duration },
    #[error("no value in the last {0} steps of history")]
    NoRecentData(usize),
    #[error("the regression did not give finite coefficients: {0}")]
    Singular(String),
}

/// A fitted method. Closed: a new method is a new variant and a new file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "one model a service; the regression is the usual case"
)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Fitted {
    Foresail(ensemble::Ensemble),
    Regression(regression::Regression),
    SeasonalNaive(seasonal_naive::SeasonalNaive),
    Naive(naive::Naive),
}

/// A fitted method with its calibration and where it comes from; what a model file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub fitted: Fitted,
    pub calibration: calibration::Calibration,
    /// Steps ahead that the model was fitted for.
    pub horizon: usize,
    pub step_ms: u64,
    /// Detected, in steps, strongest first; empty if none.
    pub season_lengths: Vec<usize>,
    pub training: Training,
    /// What known events do to the load, if a calendar told of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<events::Effects>,
}

/// What a model was trained on, and how accurate it was in the backtest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Training {
    #[schema(value_type = String, format = DateTime)]
    pub trained_at: Time,
    #[schema(value_type = String, format = DateTime)]
    pub from: Time,
    #[schema(value_type = String, format = DateTime)]
    pub to: Time,
    /// Steps with a value.
    pub points: usize,
    /// There was too little to hold anything out: the model says "as now", with the intervals of a
    /// random walk.
    #[serde(default)]
    pub cold_start: bool,
    /// Of the model, on held-out steps; empty after a cold start.
    pub scores: Vec<accuracy::MethodScore>,
    /// Of the ensemble, the heaviest first; empty after a cold start.
    #[serde(default)]
    pub members: Vec<MemberSkill>,
}

/// What one member did and counts for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberSkill {
    pub method: Method,
    /// Mean absolute error on held-out steps, in the unit of the scores.
    pub mase: f64,
    /// Share in the forecast, mean over the steps ahead.
    pub weight: f64,
}

impl Fitted {
    pub fn method(&self) -> Method {
        match self {
            Fitted::Foresail(_) => Method::Foresail,
            Fitted::Regression(regression) => match regression.scaling() {
                features::Scaling::Absolute => Method::Regression,
                features::Scaling::Relative { .. } => Method::RelativeRegression,
                features::Scaling::Log { .. } => Method::LogRegression,
            },
            Fitted::SeasonalNaive(_) => Method::SeasonalNaive,
            Fitted::Naive(_) => Method::Naive,
        }
    }

    /// Values that [`Fitted::points`] needs.
    fn least(&self) -> usize {
        match self {
            Fitted::Foresail(ensemble) => most(&ensemble.members, Fitted::least),
            Fitted::Regression(regression) => regression.least(),
            Fitted::SeasonalNaive(seasonal) => seasonal.season_length,
            Fitted::Naive(_) => 1,
        }
    }

    /// Values that [`Fitted::points`] reads where there are so many.
    fn context(&self) -> usize {
        match self {
            Fitted::Foresail(ensemble) => most(&ensemble.members, Fitted::context),
            Fitted::Regression(regression) => regression.context(),
            other => other.least(),
        }
    }

    fn points(&self, view: View, out: &mut [f64]) {
        match self {
            Fitted::Foresail(ensemble) => ensemble.points(view, out),
            Fitted::Regression(regression) => regression.points(view, out),
            Fitted::SeasonalNaive(seasonal) => seasonal.points(view, out),
            Fitted::Naive(naive) => naive.points(view, out),
        }
    }
}

fn most(members: &[Fitted], of: fn(&Fitted) -> usize) -> usize {
    members.iter().map(of).max().unwrap_or(1)
}

impl Model {
    pub fn method(&self) -> Method {
        self.fitted.method()
    }

    /// What is known of each kind of event; empty without a calendar.
    pub fn events(&self) -> Vec<events::EventEffect> {
        self.effects.as_ref().map(events::Effects::card).unwrap_or_default()
    }

    /// Takes over a calendar that changed since the training. What was learned of a kind stays.
    pub fn schedule(&mut self, events: &events::Events) {
        if self.effects.is_some() || !events.is_empty() {
            self.effects.get_or_insert_default().schedule(events);
        }
    }

    /// Steps of history that [`Model::forecast`] needs.
    pub fn least(&self) -> usize {
        self.fitted.least().max(self.calibration.context())
    }

    /// Steps of history that [`Model::forecast`] reads; passing more changes nothing.
    pub fn context(&self) -> usize {
        self.fitted.context().max(self.calibration.context()).max(RECENT)
    }

    /// Forecast from the end of `history`, at most `self.horizon` steps ahead. `quantiles`
    /// ascending in (0, 1). Runs once for each planning step: cost does not grow with the length of
    /// `history`.
    ///
    /// # Errors
    /// [`ForecastError`] if the history is too short, of another step, or without recent data.
    pub fn forecast(
        &self,
        history: &Series,
        horizon: usize,
        quantiles: &[f64],
    ) -> Result<Forecast, ForecastError> {
        let step_ms = history.step().as_millis() as u64;
        if step_ms != self.step_ms {
            let need = Duration::from_millis(self.step_ms);
            return Err(ForecastError::Step { have: history.step(), need });
        }
        let need = self.least();
        if history.len() < need {
            return Err(ForecastError::TooShort { have: history.len(), need });
        }
        let from = history.len().saturating_sub(self.context());
        let values = &censoring::for_forecast(history, from, &self.season_lengths)[..];
        if values.iter().rev().take(RECENT).all(|v| !v.is_finite()) {
            return Err(ForecastError::NoRecentData(RECENT));
        }
        let newest = history.time_at(history.len() - 1).timestamp_millis();
        let clock = newest.div_euclid(step_ms as i64);
        let start_ms = newest - (values.len() as i64 - 1) * step_ms as i64;
        let quiet = self.effects.as_ref();
        let quiet = quiet.and_then(|e| e.removed(values, start_ms, step_ms as i64));
        let values = quiet.as_deref().unwrap_or(values);
        let mut method_says = vec![0.0; horizon.min(self.horizon)];
        // Looking for gaps would cost more than the forecast does: they show in what was computed
        // from them.
        let mut scale = self.says(View::new(values, clock), &mut method_says);
        if !scale.is_finite() || method_says.iter().any(|y| !y.is_finite()) {
            let filled = features::filled(values);
            scale = self.says(View::new(&filled, clock), &mut method_says);
        }
        let (paths, peaks) = self.calibration.quantile_paths(&method_says, scale, quantiles);
        let mut forecast = Forecast {
            method: self.method(),
            origin: history.end(),
            step_ms,
            quantiles: quantiles.to_vec(),
            point: method_says.into_iter().map(|y| y.max(0.0)).collect(),
            paths,
            peaks,
        };
        if let Some(effects) = &self.effects {
            effects.apply(&mut forecast);
        }
        Ok(forecast)
    }

    /// Writes what the method says to `points`; gives the scale of its error.
    fn says(&self, view: View, points: &mut [f64]) -> f64 {
        self.fitted.points(view, points);
        self.calibration.scale(view)
    }
}
