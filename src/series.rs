//! Pure: a series of load on a fixed step, with explicit gaps.
//!
//! Every quantity that Foresail learns from is a [`Series`]: a start, a step and one value for each
//! step. A step without data is a gap, stored as NaN and never filled silently;
//! [`Series::fill_linear`] is the named method. A step whose workers were saturated is a lower
//! bound: demand was at least its value. A series without any carries no mask.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
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
    /// One flag for each value, at least one of them set; a gap is never a lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lower_bounds: Option<Vec<bool>>,
}

/// One measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Milliseconds since 1970.
    pub ms: i64,
    pub value: f64,
    /// Workers were saturated: demand was at least `value`.
    pub lower_bound: bool,
}

impl From<(i64, f64)> for Point {
    fn from((ms, value): (i64, f64)) -> Point {
        Point { ms, value, lower_bound: false }
    }
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
}

/// Longest series that is built from points: ten years of 15 s steps, so that one wrong timestamp
/// cannot allocate all memory.
pub const MAX_STEPS: i64 = 22_000_000;

/// No load is beyond this; what claims to be is a gap, for its square would overflow.
pub const IMPOSSIBLE: f64 = 1e100;

/// NaN for what cannot be a load.
fn known(value: f64) -> f64 {
    if value.abs() < IMPOSSIBLE { value } else { f64::NAN }
}

impl Series {
    /// A series from its values; NaN or infinite values become gaps.
    ///
    /// # Panics
    /// If `step` is shorter than one millisecond.
    pub fn new(start: Time, step: Duration, values: Vec<f64>) -> Series {
        let step_ms = step.as_millis() as i64;
        assert!(step_ms >= 1, "a series needs a step of at least one millisecond");
        let values = values.into_iter().map(known).collect();
        Series { start, step_ms, values, lower_bounds: None }
    }

    /// The same values, those flagged as lower bounds; steps beyond the flags are none.
    pub fn with_lower_bounds(mut self, mut flags: Vec<bool>) -> Series {
        flags.resize(self.len(), false);
        flags.iter_mut().zip(&self.values).for_each(|(flag, v)| *flag &= v.is_finite());
        self.lower_bounds = mask(flags);
        self
    }

    /// Resamples points by their mean to `step`, on a grid that holds 1970-01-01; a step is a lower
    /// bound if any of its points is. Points need no order; those that are not finite are passed
    /// over.
    ///
    /// # Errors
    /// [`SeriesError`] if there is no finite point, or the span is longer than [`MAX_STEPS`].
    pub fn from_points<P>(points: &[P], step: Duration) -> Result<Series, SeriesError>
    where
        P: Copy + Into<Point>,
    {
        let step_ms = step.as_millis() as i64;
        if step_ms < 1 {
            return Err(SeriesError::Step(step));
        }
        let bucket = |point: &Point| point.ms.div_euclid(step_ms);
        let finite =
            || points.iter().map(|&p| p.into()).filter(|p: &Point| !known(p.value).is_nan());
        let first = finite().map(|p| bucket(&p)).min().ok_or(SeriesError::Empty)?;
        let last = finite().map(|p| bucket(&p)).max().ok_or(SeriesError::Empty)?;
        let steps = last.saturating_sub(first).saturating_add(1);
        if steps > MAX_STEPS {
            return Err(SeriesError::TooLong { steps, step_ms });
        }
        let start = DateTime::from_timestamp_millis(first * step_ms)
            .ok_or(SeriesError::TooLong { steps: first, step_ms })?;
        let cell = |p: &Point| (bucket(p) - first) as usize;
        Ok(Series::of_means(start, step, steps as usize, finite().map(|p| (cell(&p), p))))
    }

    /// The mean of the points in each of `steps` cells; a cell without a point is a gap, one with a
    /// lower bound is one.
    ///
    /// # Panics
    /// If a cell is beyond `steps`, or as [`Series::new`].
    pub fn of_means(
        start: Time,
        step: Duration,
        steps: usize,
        points: impl Iterator<Item = (usize, Point)>,
    ) -> Series {
        let mut sums = vec![(0.0, 0u32); steps];
        let mut flags = Vec::new();
        for (cell, point) in points {
            sums[cell] = (sums[cell].0 + point.value, sums[cell].1 + 1);
            if point.lower_bound {
                flags.resize(steps, false);
                flags[cell] = true;
            }
        }
        // 0 / 0 is NaN, a gap.
        let values = sums.into_iter().map(|(sum, n)| sum / f64::from(n)).collect();
        Series::new(start, step, values).with_lower_bounds(flags)
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

    /// Which steps are lower bounds, one flag a step; `None` if none is.
    pub fn lower_bounds(&self) -> Option<&[bool]> {
        self.lower_bounds.as_deref()
    }

    /// Whether step `i` is a lower bound.
    pub fn is_lower_bound(&self, i: usize) -> bool {
        self.lower_bounds.as_ref().is_some_and(|flags| flags.get(i) == Some(&true))
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
        self.values.push(known(value));
        if let Some(flags) = &mut self.lower_bounds {
            flags.push(false);
        }
    }

    /// Overwrites the last step.
    pub fn set_last(&mut self, value: f64, lower_bound: bool) {
        let steps = self.len();
        let Some(last) = self.values.last_mut() else { return };
        *last = known(value);
        if lower_bound && last.is_finite() {
            self.lower_bounds.get_or_insert_with(|| vec![false; steps])[steps - 1] = true;
        } else if self.is_lower_bound(steps - 1) {
            self.lower_bounds = self.lower_bounds.take().and_then(|mut flags| {
                flags[steps - 1] = false;
                mask(flags)
            });
        }
    }

    /// Drops the oldest steps until at most `keep` are left.
    pub fn truncate_front(&mut self, keep: usize) {
        let drop = self.len().saturating_sub(keep);
        self.start = self.time_at(drop);
        self.values.drain(..drop);
        self.lower_bounds = self.lower_bounds.take().and_then(|mut flags| {
            flags.drain(..drop);
            mask(flags)
        });
    }

    /// The steps `range`, as a series of their own.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Series {
        Series {
            start: self.time_at(range.start),
            step_ms: self.step_ms,
            values: self.values[range.clone()].to_vec(),
            lower_bounds: self.lower_bounds().and_then(|flags| mask(flags[range].to_vec())),
        }
    }

    /// Means of whole blocks of `step` counted from the first value, as the shared benchmark
    /// protocol does; gaps inside a block are left out of its mean, a block of gaps is a gap, one
    /// with a lower bound is one, an unfinished block is dropped. A `step` that is no multiple of
    /// this series' step gives the series back unchanged.
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
        let width = (step_ms / self.step_ms) as usize;
        let values = self.values.chunks_exact(width).map(mean).collect();
        let lower_bounds = self
            .lower_bounds()
            .and_then(|flags| mask(flags.chunks_exact(width).map(|b| b.contains(&true)).collect()));
        Series { start: self.start, step_ms, values, lower_bounds }
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
        Series { values, ..self.clone() }
    }
}

/// Flags that say something.
fn mask(flags: Vec<bool>) -> Option<Vec<bool>> {
    flags.contains(&true).then_some(flags)
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
mod tests;
