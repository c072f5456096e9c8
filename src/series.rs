//! Pure: a series of load on a fixed step, with explicit gaps.
//!
//! Every quantity that Foresail learns from is a [`Series`]: a start, a step and one value for each
//! step. A step without data is a gap, stored as NaN and never filled silently;
//! [`Series::fill_linear`] is the named method.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

/// An instant, UTC, with millisecond resolution wherever it is stored.
pub type Time = DateTime<Utc>;

/// Load on a fixed step. `values[i]` belongs to `[start + i * step, start + (i + 1) * step)`; NaN
/// is a gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    start: Time,
    step_ms: i64,
    #[serde(with = "gaps_as_null")]
    values: Vec<f64>,
}

/// Why points do not make a series.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SeriesError {
    #[error("no data points")]
    Empty,
    #[error("a step of {0:?} is not at least one millisecond")]
    Step(Duration),
    #[error("{steps} steps of {step_ms} ms between the first and the last point exceed {max}", max = MAX_STEPS)]
    TooLong { steps: i64, step_ms: i64 },
    #[error("column `{column}`: {reason}")]
    Column { column: &'static str, reason: String },
}

/// Longest series that is built from points: ten years of 15 s steps, so that one wrong timestamp
/// cannot allocate all memory.
pub const MAX_STEPS: i64 = 22_000_000;

impl Series {
    /// A series from its values; NaN or infinite values become gaps.
    ///
    /// # Panics
    /// If `step` is shorter than one millisecond.
    pub fn new(start: Time, step: Duration, values: Vec<f64>) -> Series {
        let step_ms = step.as_millis() as i64;
        assert!(step_ms >= 1, "a series needs a step of at least one millisecond");
        let values = values.into_iter().map(|v| if v.is_finite() { v } else { f64::NAN }).collect();
        Series { start, step_ms, values }
    }

    /// Resamples points (milliseconds since 1970, value) by their mean to `step`, on a grid that
    /// holds 1970-01-01. Points need no order; those that are not finite are passed over.
    ///
    /// # Errors
    /// [`SeriesError`] if there is no finite point, or the span is longer than [`MAX_STEPS`].
    pub fn from_points(points: &[(i64, f64)], step: Duration) -> Result<Series, SeriesError> {
        let step_ms = step.as_millis() as i64;
        if step_ms < 1 {
            return Err(SeriesError::Step(step));
        }
        let bucket = |ms: i64| ms.div_euclid(step_ms);
        let finite = || points.iter().filter(|(_, v)| v.is_finite());
        let first = finite().map(|&(t, _)| bucket(t)).min().ok_or(SeriesError::Empty)?;
        let last = finite().map(|&(t, _)| bucket(t)).max().ok_or(SeriesError::Empty)?;
        let steps = last.saturating_sub(first).saturating_add(1);
        if steps > MAX_STEPS {
            return Err(SeriesError::TooLong { steps, step_ms });
        }
        let mut sums = vec![(0.0, 0u32); steps as usize];
        for &(t, v) in finite() {
            let cell = &mut sums[(bucket(t) - first) as usize];
            *cell = (cell.0 + v, cell.1 + 1);
        }
        let values = sums
            .iter()
            .map(|&(sum, n)| if n == 0 { f64::NAN } else { sum / f64::from(n) })
            .collect();
        let start = DateTime::from_timestamp_millis(first * step_ms)
            .ok_or(SeriesError::TooLong { steps: first, step_ms })?;
        Ok(Series { start, step_ms, values })
    }

    /// Resamples a frame with the columns `time` (datetime, ms) and `value` (f64) by mean.
    ///
    /// # Errors
    /// [`SeriesError`] if a column is missing or of another type, or as in [`Series::from_points`].
    pub fn from_frame(frame: &DataFrame, step: Duration) -> Result<Series, SeriesError> {
        let wrong = |column, e: PolarsError| SeriesError::Column { column, reason: e.to_string() };
        let times = frame
            .column("time")
            .and_then(|c| c.cast(&DataType::Int64))
            .map_err(|e| wrong("time", e))?;
        let values = frame
            .column("value")
            .and_then(|c| c.cast(&DataType::Float64))
            .map_err(|e| wrong("value", e))?;
        let times = times.i64().map_err(|e| wrong("time", e))?;
        let values = values.f64().map_err(|e| wrong("value", e))?;
        let points: Vec<(i64, f64)> =
            times.iter().zip(values.iter()).filter_map(|(t, v)| Some((t?, v?))).collect();
        Series::from_points(&points, step)
    }

    pub fn start(&self) -> Time {
        self.start
    }

    pub fn step(&self) -> Duration {
        Duration::from_millis(self.step_ms as u64)
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All values, NaN for a gap.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The value of step `i`; `None` for a gap or outside the series.
    pub fn get(&self, i: usize) -> Option<f64> {
        self.values.get(i).copied().filter(|v| v.is_finite())
    }

    /// Start of step `i`.
    pub fn time_at(&self, i: usize) -> Time {
        self.start + TimeDelta::milliseconds(self.step_ms * i as i64)
    }

    /// The step that holds `time`, also beyond the end; `None` before the start.
    pub fn index_at(&self, time: Time) -> Option<usize> {
        let offset = time.timestamp_millis() - self.start.timestamp_millis();
        (offset >= 0).then(|| (offset / self.step_ms) as usize)
    }

    /// End of the last step: the first instant that the series says nothing about.
    pub fn end(&self) -> Time {
        self.time_at(self.len())
    }

    /// Appends one step; a value that is not finite is a gap.
    pub fn push(&mut self, value: f64) {
        self.values.push(if value.is_finite() { value } else { f64::NAN });
    }

    /// Overwrites the last step.
    pub fn set_last(&mut self, value: f64) {
        if let Some(last) = self.values.last_mut() {
            *last = if value.is_finite() { value } else { f64::NAN };
        }
    }

    /// Drops the oldest steps until at most `keep` are left.
    pub fn truncate_front(&mut self, keep: usize) {
        let drop = self.len().saturating_sub(keep);
        self.start = self.time_at(drop);
        self.values.drain(..drop);
    }

    /// The steps `range`, as a series of their own.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Series {
        Series {
            start: self.time_at(range.start),
            step_ms: self.step_ms,
            values: self.values[range].to_vec(),
        }
    }

    /// Means of whole blocks of `step` counted from the first value, as the shared benchmark
    /// protocol does; gaps inside a block are left out of its mean, a block of gaps is a gap, an
    /// unfinished block is dropped. A `step` that is no multiple of this series' step gives the
    /// series back unchanged.
    pub fn blocks(&self, step: Duration) -> Series {
        let step_ms = step.as_millis() as i64;
        if step_ms <= self.step_ms || step_ms % self.step_ms != 0 {
            return self.clone();
        }
        let mean = |block: &[f64]| {
            let (sum, n) =
                block.iter().filter(|v| v.is_finite()).fold((0.0, 0), |(s, n), v| (s + v, n + 1));
            if n == 0 { f64::NAN } else { sum / f64::from(n) }
        };
        let values =
            self.values.chunks_exact((step_ms / self.step_ms) as usize).map(mean).collect();
        Series { start: self.start, step_ms, values }
    }

    /// Fills gaps on straight lines between their neighbours; gaps at either end take the nearest
    /// value. A series of nothing but gaps stays as it is.
    pub fn fill_linear(&self) -> Series {
        let mut values = self.values.clone();
        let known: Vec<usize> = (0..values.len()).filter(|&i| values[i].is_finite()).collect();
        let (Some(&first), Some(&last)) = (known.first(), known.last()) else {
            return self.clone();
        };
        let (head, tail) = (values[first], values[last]);
        values[..first].fill(head);
        values[last + 1..].fill(tail);
        for pair in known.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let slope = (values[b] - values[a]) / (b - a) as f64;
            for i in a + 1..b {
                values[i] = values[a] + slope * (i - a) as f64;
            }
        }
        Series { start: self.start, step_ms: self.step_ms, values }
    }
}

/// JSON has no NaN: gaps travel as null.
mod gaps_as_null {
    use serde::{Deserialize, Deserializer, Serializer, ser::SerializeSeq};

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(values.len()))?;
        for v in values {
            seq.serialize_element(&v.is_finite().then_some(*v))?;
        }
        seq.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        DateTime::from_timestamp_millis(ms).expect("in range")
    }

    /// Compares with NaN equal to NaN.
    fn check(got: &[f64], want: &[f64]) {
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        assert!(
            got.len() == want.len() && got.iter().zip(want).all(same),
            "{got:?} is not {want:?}"
        );
    }

    const GAP: f64 = f64::NAN;

    #[test]
    fn points_are_averaged_by_step_and_missing_steps_are_gaps() {
        let s = Series::from_points(
            &[(2_500, 3.0), (1_000, 1.0), (1_900, 2.0), (4_000, 5.0)],
            Duration::from_secs(1),
        );
        let s = s.unwrap();
        assert_eq!(s.start(), at(1_000));
        check(s.values(), &[1.5, 3.0, GAP, 5.0]);
        assert_eq!(s.end(), at(5_000));
        assert_eq!((s.index_at(at(3_999)), s.index_at(at(999))), (Some(2), None));
    }

    #[test]
    fn impossible_spans_and_empty_input_are_refused() {
        let sec = Duration::from_secs(1);
        assert_eq!(Series::from_points(&[], sec), Err(SeriesError::Empty));
        assert_eq!(Series::from_points(&[(0, GAP)], sec), Err(SeriesError::Empty));
        assert!(matches!(
            Series::from_points(&[(i64::MIN, 1.0), (i64::MAX, 1.0)], sec),
            Err(SeriesError::TooLong { .. })
        ));
        assert!(matches!(
            Series::from_points(&[(0, 1.0)], Duration::ZERO),
            Err(SeriesError::Step(_))
        ));
    }

    #[test]
    fn gaps_are_filled_on_lines_and_edges_with_the_nearest() {
        let s = Series::new(at(0), Duration::from_secs(1), vec![GAP, 1.0, GAP, GAP, 4.0, GAP]);
        check(s.fill_linear().values(), &[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
    }

    #[test]
    fn blocks_are_whole_and_counted_from_the_first_value() {
        let s = Series::new(at(0), Duration::from_secs(1), vec![1.0, GAP, 3.0, GAP, GAP, GAP, 7.0]);
        check(s.blocks(Duration::from_secs(3)).values(), &[2.0, GAP]);
        check(s.blocks(Duration::from_millis(2_500)).values(), s.values());
    }

    #[test]
    fn a_series_survives_json_with_its_gaps() {
        let s = Series::new(at(5), Duration::from_millis(250), vec![0.1, GAP, 0.3]);
        let back: Series = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
        assert_eq!((back.start(), back.step()), (s.start(), s.step()));
        check(back.values(), s.values());
    }
}
