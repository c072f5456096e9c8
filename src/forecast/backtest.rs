//! Pure: scores forecasters on recorded load as if live, by rolling origin.

use serde::Serialize;

use super::{
    Forecast, ForecastError, Method,
    accuracy::{MethodScore, SCORED, Tally, scale_season, seasonal_error},
    seasons,
    trainer::{self, TrainOptions},
};
use crate::series::Series;

/// A training uses the newest 28 days.
const MAX_HISTORY_MS: i64 = 28 * 86_400_000;

/// The protocol: `origins` evenly spaced from `from * n` to `n - horizon - 1`; a forecast at origin
/// o sees points 0..=o, of which the trainer uses the newest 28 days. Every origin has a training
/// of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestOptions {
    pub horizon: usize,
    pub origins: usize,
    /// Share of the series before the first origin, in (0, 1).
    pub from: f64,
}

impl Default for BacktestOptions {
    fn default() -> BacktestOptions {
        BacktestOptions { horizon: 12, origins: 12, from: 0.7 }
    }
}

/// Scores of one series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BacktestReport {
    pub points: usize,
    pub season_lengths: Vec<usize>,
    /// Of each method, over the origins where it could be trained.
    pub scores: Vec<MethodScore>,
    /// Of the method that the trainer kept at each origin; `None` if there was none. Its `method`
    /// is the one kept last.
    pub kept: Option<MethodScore>,
}

/// Trains and forecasts at each origin and scores what came.
///
/// # Errors
/// [`ForecastError::TooShort`] if the series does not hold the protocol.
pub fn backtest(
    series: &Series,
    options: &BacktestOptions,
) -> Result<BacktestReport, ForecastError> {
    let series = series.fill_linear();
    let n = series.len();
    let first = (options.from.clamp(0.0, 1.0) * n as f64) as usize;
    let need = trainer::MIN_POINTS + 2 * options.horizon;
    if n < need || first + options.horizon >= n {
        return Err(ForecastError::TooShort { have: n, need });
    }
    let before = &series.values()[..first];
    let step_ms = series.step().as_millis() as i64;
    let season_lengths = seasons::detect(before, step_ms);
    let season = scale_season(first, step_ms, &season_lengths);
    let unit = seasonal_error(before, season);

    const METHODS: [Method; 3] = [Method::Regression, Method::SeasonalNaive, Method::Naive];
    let mut tallies = METHODS.map(|m| (m, Tally::default(), 0));
    let mut kept = (Method::Naive, Tally::default(), 0);
    let max_history = (MAX_HISTORY_MS / step_ms) as usize;
    let train = TrainOptions { horizon: options.horizon, max_history, ..Default::default() };
    for origin in origins(first, n - options.horizon - 1, options.origins) {
        let history = series.slice(0..origin + 1);
        let actuals = &series.values()[origin + 1..];
        let candidates = trainer::candidates(history.end(), &history, &train)?;
        let best = trainer::best(&candidates);
        for (i, candidate) in candidates.iter().enumerate() {
            let forecast = candidate.model.forecast(&history, options.horizon, &SCORED)?;
            for slot in tallies.iter_mut().filter(|t| t.0 == candidate.model.method()) {
                tally(&forecast, actuals, &mut slot.1);
                slot.2 += 1;
            }
            if i == best {
                tally(&forecast, actuals, &mut kept.1);
                kept = (candidate.model.method(), kept.1, kept.2 + 1);
            }
        }
    }
    let score =
        |(method, tally, origins): &(Method, Tally, usize)| tally.score(*method, unit, *origins);
    Ok(BacktestReport {
        points: n,
        season_lengths,
        scores: tallies.iter().filter_map(score).collect(),
        kept: score(&kept),
    })
}

/// `count` origins evenly spaced from `first` to `last`, truncated to whole steps.
fn origins(first: usize, last: usize, count: usize) -> impl Iterator<Item = usize> {
    let width = (last - first) as f64 / (count.max(2) - 1) as f64;
    (0..count).map(move |i| first + (i as f64 * width) as usize)
}

fn tally(forecast: &Forecast, actuals: &[f64], tally: &mut Tally) {
    for (h, &actual) in actuals.iter().take(forecast.horizon()).enumerate() {
        tally.add(actual, std::array::from_fn(|q| forecast.paths[q][h]));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;

    fn wave(n: usize) -> Series {
        let start = DateTime::from_timestamp_millis(0).expect("in range");
        let value = |i: usize| 5.0 + 4.0 * (i as f64 * std::f64::consts::TAU / 24.0).sin();
        let noise = |i: usize| ((i * 7919) % 499) as f64 / 499.0;
        Series::new(
            start,
            Duration::from_secs(3_600),
            (0..n).map(|i| value(i) + noise(i)).collect(),
        )
    }

    #[test]
    fn origins_are_truncated_as_the_protocol_says() {
        // linspace(70, 87, 4) = 70, 75.67, 81.33, 87.
        assert_eq!(origins(70, 87, 4).collect::<Vec<_>>(), [70, 75, 81, 87]);
        assert_eq!(origins(70, 87, 1).collect::<Vec<_>>(), [70]);
    }

    #[test]
    fn a_season_is_worth_more_than_the_last_value() {
        let options = BacktestOptions { horizon: 6, origins: 3, ..BacktestOptions::default() };
        let report = backtest(&wave(480), &options).unwrap();
        assert_eq!(report.season_lengths.first(), Some(&24));
        let mase = |m: Method| report.scores.iter().find(|s| s.method == m).unwrap().mase;
        assert!(mase(Method::Regression) < 1.2 && mase(Method::SeasonalNaive) < 1.3);
        assert!(mase(Method::Naive) > 4.0);
        assert_eq!(report.kept.unwrap().origins, 3);
    }

    #[test]
    fn a_short_series_is_refused() {
        let options = BacktestOptions::default();
        for n in [0, 1, 40, 53] {
            let error = backtest(&wave(n), &options).unwrap_err();
            assert!(matches!(error, ForecastError::TooShort { have, .. } if have == n), "{error}");
        }
        let whole = BacktestOptions { from: 1.0, ..options };
        assert!(matches!(backtest(&wave(99), &whole), Err(ForecastError::TooShort { .. })));
    }
}
