//! Pure: scores forecasters on recorded load as if live, by rolling origin.
//!
//! The protocol: the recording in whole blocks of `step` from its first row, n of them. Origins are
//! evenly spaced from `from * n` to the last with `horizon` steps behind it, truncated to whole
//! steps. A forecast at origin o sees the newest 28 days of the steps `..=o`, gaps and all, from a
//! training of its own, and is scored on the `horizon` steps after o that have a value. Errors are
//! in units of the mean |x(t) - x(t - a day)| before the first origin, where alone gaps are filled
//! (in the recording, before it is cut into blocks), as in the benchmark that this protocol is of.
//! What came may be a lower bound: it says that demand was at least so high, and is not held
//! against a forecast above it.
//!
//! Known limit: where a model cannot be trained at an origin (too little history before it, no
//! value just before it) the origin is left out for all of them.

mod reference;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{
    ForecastError, Method, Model, QUANTILES,
    accuracy::{Accuracy, SCORED, Tally, scale_season, seasonal_error},
    features, seasons,
    trainer::{self, TrainOptions},
};
use crate::series::Series;

/// A training uses the newest 28 days.
const MAX_HISTORY_MS: u128 = 28 * 86_400_000;
/// The step unless another is asked for.
pub const DEFAULT_STEP: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq)]
pub struct BacktestOptions {
    /// `None`: five minutes, or the longest multiple of the recording's step below, or that step.
    pub step: Option<Duration>,
    pub horizon: usize,
    pub origins: usize,
    /// Share of the series before the first origin, in (0, 1).
    pub from: f64,
}

impl Default for BacktestOptions {
    fn default() -> BacktestOptions {
        BacktestOptions { step: None, horizon: 12, origins: 12, from: 0.7 }
    }
}

/// Why a recording cannot be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BacktestError {
    #[error("a step of {} is no multiple of the recording's step of {}",
        humantime::format_duration(*.asked), humantime::format_duration(*.recorded))]
    Step { asked: Duration, recorded: Duration },
    #[error(transparent)]
    Forecast(#[from] ForecastError),
}

/// What is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "&'static str")]
pub enum Contender {
    /// What the service would use.
    Foresail,
    /// The value of a season ago: a day, or the strongest season where the step has no days.
    SeasonalNaive,
    /// The last value.
    Naive,
    /// One method of the trainer alone.
    Alone(Method),
}

/// The protocol, laid out over one recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    /// The recording in blocks, with its gaps.
    pub actuals: Series,
    /// Detected before the first origin, in steps, strongest first.
    pub season_lengths: Vec<usize>,
    /// Unit of the scores, above 0.
    pub scale: f64,
    /// The last step that each forecast may see, ascending.
    pub origins: Vec<usize>,
    /// In steps; 1 if there is none.
    season: usize,
    train: TrainOptions,
}

/// What one contender said at one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginForecast {
    pub contender: Contender,
    /// Index of the last step that it has seen.
    pub origin: usize,
    /// Time of its training; of the training of all candidates where they are trained at once.
    pub fit: Duration,
    /// One value a step ahead.
    pub point: Vec<f64>,
    /// `paths[q][h]`: quantile [`QUANTILES`]`[q]` of step `h`.
    pub paths: Vec<Vec<f64>>,
}

/// Accuracy of one contender on one recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContenderScore {
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// Mean over the origins.
    pub fit_seconds: f64,
    /// How many it could be scored at.
    pub origins: usize,
}

impl Backtest {
    /// # Errors
    /// [`BacktestError`] if the step does not fit, or fewer than `horizon` steps lie behind the
    /// first origin.
    pub fn new(recorded: &Series, options: &BacktestOptions) -> Result<Backtest, BacktestError> {
        let step = step_for(recorded.step(), options.step)?;
        let actuals = recorded.blocks(step);
        let (n, horizon) = (actuals.len(), options.horizon.max(1));
        let first = (options.from.clamp(0.0, 1.0) * n as f64) as usize;
        if first + horizon >= n {
            let need = ((horizon + 1) as f64 / (1.0 - options.from)).ceil() as usize;
            return Err(ForecastError::TooShort { have: n, need }.into());
        }
        let step_ms = step.as_millis();
        let filled = recorded.fill_linear().blocks(step);
        let before = &filled.values()[..first];
        let season_lengths = seasons::detect(&features::filled(before), step_ms as i64);
        let season = scale_season(first, step_ms as i64, &season_lengths);
        let max_history = ((MAX_HISTORY_MS / step_ms) as usize).max(1);
        Ok(Backtest {
            scale: seasonal_error(before, season),
            origins: origins(first, n - horizon - 1, options.origins),
            train: TrainOptions { horizon, max_history, ..TrainOptions::default() },
            actuals,
            season_lengths,
            season,
        })
    }

    /// What each of `contenders` says at `origin`, one of `self.origins`; nothing of those that the
    /// history cannot teach. `clock` is the time since any fixed instant.
    ///
    /// # Errors
    /// [`ForecastError`] of the first whose training fails.
    pub fn forecast(
        &self,
        origin: usize,
        contenders: &[Contender],
        clock: &mut dyn FnMut() -> Duration,
    ) -> Result<Vec<OriginForecast>, ForecastError> {
        let oldest = (origin + 1).saturating_sub(self.train.max_history);
        let history = self.actuals.slice(oldest..origin + 1);
        let filled = history.fill_linear();
        let (now, train) = (history.end(), &self.train);
        let ask = |model: &Model| {
            let said = model.forecast(&history, train.horizon, &QUANTILES)?;
            Ok::<_, ForecastError>(Some((said.point, said.paths)))
        };
        let alone = contenders.iter().any(|c| matches!(c, Contender::Alone(_)));
        let (candidates, shared_fit) = timed(clock, || match alone {
            true => trainer::candidates(now, &history, train),
            false => Ok(Vec::new()),
        });
        let candidates = candidates?;
        let mut forecasts = Vec::with_capacity(contenders.len());
        for &contender in contenders {
            let (said, fit) = match contender {
                Contender::Foresail => {
                    let (model, fit) = timed(clock, || trainer::train(now, &history, train));
                    (ask(&model?)?, fit)
                }
                Contender::Alone(method) => {
                    let taught = candidates.iter().find(|c| c.model.method() == method);
                    (taught.map_or(Ok(None), |c| ask(&c.model))?, shared_fit)
                }
                Contender::SeasonalNaive if self.season == 1 => continue,
                Contender::SeasonalNaive | Contender::Naive => {
                    let season = if contender == Contender::Naive { 1 } else { self.season };
                    timed(clock, || reference::repeat(filled.values(), season, train.horizon))
                }
            };
            forecasts.extend(said.map(|(point, paths)| OriginForecast {
                contender,
                origin,
                fit,
                point,
                paths,
            }));
        }
        Ok(forecasts)
    }

    /// The scores of what was said at any number of origins; nothing of a contender that met no
    /// value.
    pub fn score(&self, forecasts: &[OriginForecast]) -> BTreeMap<Contender, ContenderScore> {
        let mut tallies = BTreeMap::<Contender, (Tally, Duration, usize)>::new();
        for forecast in forecasts {
            let (tally, fit, origins) = tallies.entry(forecast.contender).or_default();
            for h in 0..forecast.point.len() {
                let step = forecast.origin + 1 + h;
                let Some(actual) = self.actuals.get(step) else { continue };
                let (point, quantiles) = (forecast.point[h], forecast.scored(h));
                match self.actuals.is_lower_bound(step) {
                    true => tally.add_at_least(actual, point, quantiles),
                    false => tally.add_point(actual, point, quantiles),
                }
            }
            *fit += forecast.fit;
            *origins += 1;
        }
        let score = |(contender, (tally, fit, origins)): (_, (Tally, Duration, usize))| {
            let accuracy = tally.accuracy(self.scale)?;
            let fit_seconds = fit.as_secs_f64() / origins as f64;
            Some((contender, ContenderScore { accuracy, fit_seconds, origins }))
        };
        tallies.into_iter().filter_map(score).collect()
    }
}

impl OriginForecast {
    /// The [`SCORED`] quantiles of step `h`.
    fn scored(&self, h: usize) -> [f64; SCORED.len()] {
        SCORED.map(|scored| {
            let carried = QUANTILES.iter().position(|q| *q == scored);
            self.paths[carried.expect("QUANTILES holds SCORED, a test says")][h]
        })
    }
}

impl Contender {
    pub const ALL: [Contender; 6] = [
        Contender::Foresail,
        Contender::SeasonalNaive,
        Contender::Naive,
        Contender::Alone(Method::Regression),
        Contender::Alone(Method::RelativeRegression),
        Contender::Alone(Method::LogRegression),
    ];

    /// As in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Foresail => "foresail",
            Contender::SeasonalNaive => Method::SeasonalNaive.name(),
            Contender::Naive => Method::Naive.name(),
            Contender::Alone(method) => method.name(),
        }
    }
}

impl From<Contender> for &'static str {
    fn from(contender: Contender) -> &'static str {
        contender.name()
    }
}

/// The step to score at; `asked` must be a whole number of `recorded` ones.
fn step_for(recorded: Duration, asked: Option<Duration>) -> Result<Duration, BacktestError> {
    let whole = |asked: Duration| asked.as_millis() / recorded.as_millis();
    match asked {
        None => Ok(recorded * whole(DEFAULT_STEP).max(1) as u32),
        Some(asked) if asked >= recorded && recorded * whole(asked) as u32 == asked => Ok(asked),
        Some(asked) => Err(BacktestError::Step { asked, recorded }),
    }
}

/// `count` origins evenly spaced from `first` to `last`, truncated to whole steps, each once.
fn origins(first: usize, last: usize, count: usize) -> Vec<usize> {
    let width = (last - first) as f64 / (count.max(2) - 1) as f64;
    let spaced =
        |i| if i > 0 && i + 1 == count { last } else { first + (i as f64 * width) as usize };
    let mut origins: Vec<usize> = (0..count).map(spaced).collect();
    origins.dedup();
    origins
}

fn timed<T>(clock: &mut dyn FnMut() -> Duration, work: impl FnOnce() -> T) -> (T, Duration) {
    let started = clock();
    let done = work();
    (done, clock().saturating_sub(started))
}

#[cfg(test)]
mod tests;
