//! Pure: the demand window of one service, on the grid of its evaluation interval.
//!
//! Samples come at about every interval, never exactly, and in any phase to the grid. The window
//! follows that phase slowly: a sample belongs to the step whose end it is expected nearest to, and
//! moves the expectation by an eighth of its error. Only where that strays more than a step from
//! the fixed grid does the grid win. So neither jitter nor a phase that lies on a border makes a
//! gap beside a collision.

use std::time::Duration;

use chrono::TimeDelta;

use crate::series::{Series, Time};

/// Recorded demand, newest last.
#[derive(Debug, Clone)]
pub struct Window {
    series: Series,
    /// End of the newest sample's interval.
    newest: Option<Time>,
    /// When the last step ended by the phase of the samples.
    ended: Time,
    /// Steps that are never dropped.
    keep: usize,
}

impl Window {
    /// An empty window of at least `keep` steps, and at most an eighth more, so that dropping stays
    /// rare.
    pub fn new(step: Duration, keep: usize) -> Window {
        let step = step.max(Duration::from_millis(1));
        let series = Series::new(Time::UNIX_EPOCH, step, vec![]);
        Window { series, newest: None, ended: Time::UNIX_EPOCH, keep: keep.max(1) }
    }

    pub fn series(&self) -> &Series {
        &self.series
    }

    /// The newest `keep` steps.
    pub fn newest_steps(&self) -> Series {
        let len = self.series.len();
        self.series.slice(len.saturating_sub(self.keep)..len)
    }

    /// Replaces everything by `history`, in whole blocks if its step is a part of the window's. A
    /// history of any other step, or an empty one, is passed over.
    pub fn restore(&mut self, history: &Series) {
        let history = history.blocks(self.series.step());
        if history.step() == self.series.step() && !history.is_empty() {
            self.newest = Some(history.end());
            self.ended = history.end();
            self.series = history;
            self.series.truncate_front(self.keep);
        }
    }

    /// Takes in the demand of the interval that ends at `time`, or the least that it was, and gives
    /// the number of steps that the window grew: more than 1 if steps were missing. `None` if the
    /// sample is no news, or its step was given up already.
    pub fn push(&mut self, time: Time, demand: f64, lower_bound: bool) -> Option<usize> {
        if self.newest.is_some_and(|newest| time <= newest) {
            return None;
        }
        let grown = self.reach(time)?;
        self.series.set_last(demand, lower_bound);
        self.newest = Some(time);
        self.ended += (time - self.ended) / 8;
        Some(grown)
    }

    /// Makes gaps of the steps that ended more than one interval before `now`, for a sample may be
    /// late by one, and gives their number.
    pub fn expire(&mut self, now: Time) -> usize {
        let given_up = now - TimeDelta::milliseconds(self.step_ms());
        if self.series.is_empty() { 0 } else { self.reach(given_up).unwrap_or(0) }
    }

    /// Grows by gaps until the last step is the one that ends at about `time`; `None` if that step
    /// lies back.
    fn reach(&mut self, time: Time) -> Option<usize> {
        let step_ms = self.step_ms();
        let steps_since = |then: Time| {
            (time - then).num_milliseconds().saturating_add(step_ms / 2).div_euclid(step_ms)
        };
        let (by_grid, by_sample) = (steps_since(self.series.end()), steps_since(self.ended));
        let missing = if (by_grid - by_sample).abs() <= 1 { by_sample } else { by_grid };
        if self.series.is_empty() || missing > self.keep as i64 {
            // Nothing older is worth a link across so wide a gap.
            let start = time - TimeDelta::milliseconds(step_ms);
            self.series = Series::new(start, self.series.step(), vec![f64::NAN]);
            self.ended = time;
            return Some(1);
        }
        let missing = usize::try_from(missing).ok()?;
        (0..missing).for_each(|_| self.series.push(f64::NAN));
        self.ended += TimeDelta::milliseconds(step_ms * missing as i64);
        if self.series.len() > self.keep + self.keep / 8 {
            self.series.truncate_front(self.keep);
        }
        Some(missing)
    }

    fn step_ms(&self) -> i64 {
        self.series.step().as_millis() as i64
    }
}

/// Whole steps that cover `span`.
pub fn steps(span: Duration, step: Duration) -> usize {
    span.as_millis().div_ceil(step.as_millis().max(1)) as usize
}

/// From `then` to `now`; zero if that is backwards.
pub fn elapsed(then: Time, now: Time) -> Duration {
    (now - then).to_std().unwrap_or_default()
}
