//! I/O: query parameters to bounded values, and recorded rows to the step that was asked for.
//!
//! Nothing here touches the world; it stays beside the handlers because it speaks their errors.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use crate::balancer::{Algorithm, Key, hash};
use crate::io::store::DemandRow;
use crate::series::Time;

/// Most steps of one history answer.
pub const MAX_STEPS: i64 = 10_000;
/// Steps of a history answer whose step was not asked for, at most, before it is widened to whole
/// steps.
const DEFAULT_STEPS: i64 = 1_000;
/// Most quantiles of one forecast answer.
const MAX_QUANTILES: usize = 50;

/// Which recorded load.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// RFC 3339; one hour before `to` without it.
    #[param(format = DateTime, example = "2026-01-05T12:00:00Z")]
    from: Option<String>,
    /// RFC 3339; now without it.
    #[param(format = DateTime)]
    to: Option<String>,
    /// A duration; the evaluation interval without it, longer where that would be more than about
    /// 1000 steps. At most 10 000 steps.
    #[param(example = "1m")]
    step: Option<String>,
}

/// A window of recorded load on a grid that holds 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub from: Time,
    pub to: Time,
    pub step: Duration,
}

impl HistoryQuery {
    /// `from` and `to` are widened to whole steps.
    ///
    /// # Errors
    /// A sentence about the parameter that is wrong.
    pub fn window(&self, now: Time, interval: Duration) -> Result<Window, ApiError> {
        let to = self.to.as_deref().map_or(Ok(now), |text| time("to", text))?;
        let from = match &self.from {
            Some(text) => time("from", text)?,
            None => to - TimeDelta::hours(1),
        };
        if from >= to {
            let (from, to) = (rfc3339(from), rfc3339(to));
            return Err(ApiError::parameter("from", format!("{from} is not before to = {to}")));
        }
        let span = (to - from).num_milliseconds();
        let interval = interval.as_millis().max(1) as i64;
        let step = match &self.step {
            Some(text) => {
                let step = duration(text, "1ms", "366d");
                step.map_err(|message| ApiError::parameter("step", message))?.as_millis() as i64
            }
            None => interval * (span / interval / DEFAULT_STEPS + 1),
        };
        let (first, last) = (from.timestamp_millis().div_euclid(step), ceil(to, step));
        if last - first > MAX_STEPS {
            let message = format!(
                "{} steps; at most {MAX_STEPS}, so at least {} ms each",
                last - first,
                span / MAX_STEPS + 1
            );
            return Err(ApiError::parameter("step", message));
        }
        let at = |k: i64| DateTime::from_timestamp_millis(k * step);
        let (from, to) = at(first)
            .zip(at(last))
            .ok_or_else(|| ApiError::parameter("from", "outside of what a calendar can hold"))?;
        Ok(Window { from, to, step: Duration::from_millis(step as u64) })
    }
}

/// The number of the first step end at or after `time`.
fn ceil(time: Time, step: i64) -> i64 {
    -(-time.timestamp_millis()).div_euclid(step)
}

/// One step of history: means over the recorded rows in it; null where nothing was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryRow {
    /// End of the step.
    #[schema(value_type = String, format = DateTime)]
    pub time: Time,
    pub demand: Option<f64>,
    /// Workers were saturated somewhere in the step: true demand may be higher.
    pub lower_bound: bool,
    pub ready_replicas: Option<f64>,
    pub current_replicas: Option<f64>,
    pub desired_replicas: Option<f64>,
}

/// One row for every step of the window. Rows are at most a window's worth, in any order.
pub fn resample(rows: &[DemandRow], window: &Window) -> Vec<HistoryRow> {
    let step = window.step.as_millis() as i64;
    let first = window.from.timestamp_millis().div_euclid(step) + 1;
    let steps = (ceil(window.to, step) - first + 1).max(0) as usize;
    let mut cells = vec![Vec::new(); steps];
    for row in rows {
        let cell = usize::try_from(ceil(row.time, step) - first).ok();
        if let Some(cell) = cell.and_then(|i| cells.get_mut(i)) {
            cell.push(row);
        }
    }
    let cells = cells.iter().zip(first..);
    cells
        .filter_map(|(cell, k)| Some(mean_row(DateTime::from_timestamp_millis(k * step)?, cell)))
        .collect()
}

fn mean_row(time: Time, rows: &[&DemandRow]) -> HistoryRow {
    let count = |read: fn(&DemandRow) -> u32| mean(rows.iter().map(|row| f64::from(read(row))));
    HistoryRow {
        time,
        demand: mean(rows.iter().filter_map(|row| row.demand)),
        lower_bound: rows.iter().any(|row| row.lower_bound),
        ready_replicas: count(|row| row.ready_replicas),
        current_replicas: count(|row| row.current_replicas),
        desired_replicas: count(|row| row.desired_replicas),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// Which forecast.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ForecastQuery {
    /// A duration; the model's own horizon without it, which is also the longest.
    #[param(example = "5m")]
    horizon: Option<String>,
    /// Ascending, each between 0 and 1, separated by commas.
    #[param(example = "0.1,0.5,0.9")]
    quantiles: Option<String>,
}

impl ForecastQuery {
    /// # Errors
    /// A sentence about what is wrong with the horizon.
    pub fn horizon(&self) -> Result<Option<Duration>, ApiError> {
        let horizon = self.horizon.as_deref().map(|text| duration(text, "1ms", "366d")).transpose();
        horizon.map_err(|message| ApiError::parameter("horizon", message))
    }

    /// # Errors
    /// A sentence about the quantile that is wrong.
    pub fn quantiles(&self) -> Result<Vec<f64>, ApiError> {
        let wrong = |message: String| ApiError::parameter("quantiles", message);
        let Some(text) = &self.quantiles else { return Ok(crate::forecast::QUANTILES.to_vec()) };
        let mut quantiles: Vec<f64> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let q = word.parse::<f64>().ok().filter(|q| 0.0 < *q && *q < 1.0);
            let q = q.ok_or_else(|| wrong(format!("`{}` is not between 0 and 1", shown(word))))?;
            if quantiles.last().is_some_and(|&last| last >= q) {
                return Err(wrong(format!("{q} is not above the one before; sort them")));
            }
            if quantiles.len() == MAX_QUANTILES {
                return Err(wrong(format!("more than {MAX_QUANTILES}")));
            }
            quantiles.push(q);
        }
        Ok(quantiles)
    }
}

/// How many decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DecisionsQuery {
    /// 1 to 1000; 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

impl DecisionsQuery {
    /// # Errors
    /// A sentence if it is no number within the bounds.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = &self.limit else { return Ok(100) };
        let limit = text.parse().ok().filter(|n| (1..=1000).contains(n));
        limit.ok_or_else(|| {
            let message = format!("`{}` is no whole number between 1 and 1000", shown(text));
            ApiError::parameter("limit", message)
        })
    }
}

/// Which balancing choice.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TargetQuery {
    /// Address of the client; under `key_hash` the key, whatever it is.
    #[param(example = "192.0.2.7")]
    key: Option<String>,
}

impl TargetQuery {
    /// # Errors
    /// A sentence if the key should be an IP address and is none.
    pub fn key(&self, algorithm: Algorithm) -> Result<Key, ApiError> {
        let Some(text) = &self.key else { return Ok(Key::default()) };
        if algorithm == Algorithm::KeyHash {
            return Ok(Key { key: Some(hash(text.as_bytes())), ..Key::default() });
        }
        let client = text.parse().map_err(|_| {
            ApiError::parameter("key", format!("`{}` is no IP address", shown(text)))
        })?;
        Ok(Key { client: Some(client), ..Key::default() })
    }
}

/// A duration such as `30s` within bounds.
///
/// # Errors
/// A sentence, to follow the name of the parameter or field.
pub fn duration(text: &str, min: &str, max: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|_| format!("`{}` is no duration; write for instance 30s or 5m", shown(text)))?;
    let bound = |text| humantime::parse_duration(text).expect("bounds are written in this program");
    if parsed < bound(min) || parsed > bound(max) {
        return Err(format!("`{}` is not between {min} and {max}", shown(text)));
    }
    Ok(parsed)
}

fn time(name: &str, text: &str) -> Result<Time, ApiError> {
    let parsed = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc));
    // Four-digit years only, so that no arithmetic below leaves the calendar.
    let parsed = parsed.ok().filter(|time| time.timestamp() >= 0);
    parsed.ok_or_else(|| {
        let right = "write RFC 3339 from 1970 on, for instance 2026-01-05T12:00:00Z (+ as %2B)";
        ApiError::parameter(name, format!("`{}` is no time; {right}", shown(text)))
    })
}

/// What the client sent, short enough to send back.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

pub fn rfc3339(time: Time) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Time {
        DateTime::from_timestamp_millis(ms).expect("in range")
    }

    fn row(ms: i64, demand: Option<f64>, ready: u32) -> DemandRow {
        DemandRow {
            time: at(ms),
            demand,
            lower_bound: false,
            ready_replicas: ready,
            current_replicas: ready,
            desired_replicas: ready,
        }
    }

    #[test]
    fn rows_are_averaged_by_the_step_that_ends_with_them() {
        let window = Window { from: at(0), to: at(40_000), step: Duration::from_secs(10) };
        let rows = [
            row(10_000, Some(1.0), 1), // the end of (0, 10 s]
            row(10_001, Some(2.0), 2),
            row(20_000, Some(4.0), 3), // (2 + 4) / 2 = 3, (2 + 3) / 2 = 2.5
            row(25_000, None, 4),
            row(99_000, Some(9.0), 9), // outside
        ];
        let got = resample(&rows, &window);
        let demand: Vec<_> = got.iter().map(|r| r.demand).collect();
        let ready: Vec<_> = got.iter().map(|r| r.ready_replicas).collect();
        assert_eq!(demand, [Some(1.0), Some(3.0), None, None]);
        assert_eq!(ready, [Some(1.0), Some(2.5), Some(4.0), None]);
        assert_eq!((got[0].time, got[3].time), (at(10_000), at(40_000)));
    }

    fn window(from: &str, to: &str, step: &str) -> Result<Window, ApiError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        let query = HistoryQuery { from: some(from), to: some(to), step: some(step) };
        query.window(at(3_600_000 * 24 * 365), Duration::from_secs(15))
    }

    #[test]
    fn windows_have_defaults_and_bounds() {
        let day = window("", "", "").unwrap();
        assert_eq!((day.to - day.from, day.step), (TimeDelta::hours(1), Duration::from_secs(15)));
        // 363 days of 15 s are 2 090 880 steps; 2091 in one keep them below 1000.
        let year = window("1970-01-02T00:00:00Z", "1970-12-31T00:00:00Z", "").unwrap();
        assert_eq!(year.step, Duration::from_secs(15 * 2091));
        let cases = [
            ("yesterday", "", "", "from: `yesterday` is no time; write RFC 3339"),
            ("1969-01-01T00:00:00Z", "", "", "from: `1969-01-01T00:00:00Z` is no time"),
            ("", "2026-01-05 12:00", "", "to: `2026-01-05 12:00` is no time"),
            ("1980-01-01T00:00:00Z", "", "", "from: 1980-01-01T00:00:00Z is not before to"),
            ("", "", "15", "step: `15` is no duration; write for instance"),
            ("", "", "0s", "step: `0s` is not between 1ms and 366d"),
            ("", "", "100ms", "step: 36000 steps; at most 10000, so at least 361 ms each"),
        ];
        for (from, to, step, expected) in cases {
            let error = window(from, to, step).unwrap_err();
            assert!(error.message.starts_with(expected), "{} is not {expected}", error.message);
        }
    }

    #[test]
    fn quantiles_are_ascending_and_between_0_and_1() {
        let read = |text: &str| {
            let query = ForecastQuery { horizon: None, quantiles: Some(text.into()) };
            query.quantiles().map_err(|e| e.message)
        };
        assert_eq!(read("0.1, 0.5,0.9"), Ok(vec![0.1, 0.5, 0.9]));
        for wrong in ["", "0", "1", "nan", "-0.5", "0.5,", "0.9,0.1", "0.5,0.5", "a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let many: Vec<String> = (1..=51).map(|i| format!("{}", f64::from(i) / 100.0)).collect();
        assert!(read(&many.join(",")).unwrap_err().contains("more than 50"));
    }

    #[test]
    fn limits_and_keys_are_bounded() {
        let limit = |text: &str| DecisionsQuery { limit: Some(text.into()) }.limit();
        assert_eq!(limit("1000"), Ok(1000));
        assert!(["0", "1001", "-1", "x", ""].iter().all(|text| limit(text).is_err()));
        let key = |text: &str, algorithm| TargetQuery { key: Some(text.into()) }.key(algorithm);
        assert!(key("2001:db8::1", Algorithm::IpHash).unwrap().client.is_some());
        assert!(key("localhost", Algorithm::LeastRequest).is_err());
        let named = Key { key: Some(hash(b"localhost")), ..Key::default() };
        assert_eq!(key("localhost", Algorithm::KeyHash).unwrap(), named);
    }

    proptest! {
        #[test]
        fn no_query_panics_and_no_answer_is_unbounded(
            from in prop::option::of("\\PC{0,30}|[0-9]{4}-01-01T00:00:00Z"),
            to in prop::option::of("[0-9]{4}-12-31T23:59:59(Z|\\+01:00)"),
            step in prop::option::of("[0-9]{0,20}(ms|s|m|d|y)?"),
            interval in 0u64..10_000_000,
        ) {
            let query = HistoryQuery { from, to, step };
            let interval = Duration::from_millis(interval);
            if let Ok(window) = query.window(at(1_800_000_000_000), interval) {
                prop_assert!(resample(&[], &window).len() <= MAX_STEPS as usize);
            }
        }
    }
}
