//! Pure: every forecast of a backtest as one Parquet file, beside what came.

use polars::prelude::*;

use super::scored::{Evidence, ScoredSeries};
use crate::forecast::QUANTILES;

/// Rows as in [`frame`].
pub fn parquet(series: &[ScoredSeries]) -> PolarsResult<Vec<u8>> {
    let mut content = Vec::new();
    ParquetWriter::new(&mut content).finish(&mut frame(series)?)?;
    Ok(content)
}

/// One row for each series, model, origin, step ahead and quantile. `quantile` is null for the
/// point forecast, `actual` where nothing was recorded. `origin` is the last step that the forecast
/// has seen, `time` = `origin` + `horizon` steps is the one that it is for; both are where the step
/// begins, in UTC.
fn frame(series: &[ScoredSeries]) -> PolarsResult<DataFrame> {
    let mut columns = Columns::default();
    for series in series {
        if let Some(evidence) = &series.evidence {
            columns.push(&series.name, evidence);
        }
    }
    let instants = |name: &str, ms: Vec<i64>| {
        // A cast would lose the zone: this build of Polars does without time zones but for UTC.
        Int64Chunked::from_vec(name.into(), ms)
            .into_datetime(TimeUnit::Milliseconds, Some(TimeZone::UTC))
            .into_column()
    };
    let columns = vec![
        Column::new("series".into(), columns.series),
        Column::new("model".into(), columns.model),
        instants("origin", columns.origin),
        instants("time", columns.time),
        Column::new("horizon".into(), columns.horizon),
        Column::new("quantile".into(), columns.quantile),
        Column::new("forecast".into(), columns.forecast),
        Column::new("actual".into(), columns.actual),
    ];
    DataFrame::new(columns[0].len(), columns)
}

#[derive(Default)]
struct Columns<'a> {
    series: Vec<&'a str>,
    model: Vec<&'a str>,
    origin: Vec<i64>,
    time: Vec<i64>,
    horizon: Vec<u32>,
    quantile: Vec<Option<f64>>,
    forecast: Vec<f64>,
    actual: Vec<Option<f64>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, series: &'a str, evidence: &Evidence) {
        let actuals = &evidence.backtest.actuals;
        let mut forecasts: Vec<_> = evidence.forecasts.iter().collect();
        forecasts.sort_by_key(|f| (f.contender, f.origin));
        for said in forecasts {
            for (h, &point) in said.point.iter().enumerate() {
                let quantiles = QUANTILES.iter().zip(&said.paths);
                let quantiles = quantiles.map(|(&q, path)| (Some(q), path[h]));
                for (quantile, forecast) in std::iter::once((None, point)).chain(quantiles) {
                    let step = said.origin + 1 + h;
                    self.series.push(series);
                    self.model.push(said.contender.name());
                    self.origin.push(actuals.time_at(said.origin).timestamp_millis());
                    self.time.push(actuals.time_at(step).timestamp_millis());
                    self.horizon.push(h as u32 + 1);
                    self.quantile.push(quantile);
                    self.forecast.push(forecast);
                    self.actual.push(actuals.get(step));
                }
            }
        }
    }
}
