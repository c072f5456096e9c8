//! Pure: what a regression knows at an origin: one row of numbers from the recent past and earlier
//! seasons.
//!
//! Every column is relative to the level (the mean of the newest few values), so that the same
//! weights serve a quiet and a busy service and shrinking them leads to "as now". Each season adds
//! the same stretch of time one, two and three seasons ago, relative to its own level then: what
//! followed a moment like this one. With [`Scaling::Relative`] the differences are also divided by
//! their level, for loads whose swings grow with them.
//!
//! One function writes the rows of training and of forecasting, so the two cannot drift apart. It
//! reads at most [`Layout::context`] values and costs a few hundred additions.
//!
//! Known limit: a season that is no whole number of steps smears over its neighbours.

use serde::{Deserialize, Serialize};

/// Values that make the level.
const LEVEL: usize = 3;
/// Windows of rolling means, in steps; those longer than an eighth of the history are left out.
const MEANS: [usize; 8] = [2, 4, 6, 12, 24, 48, 96, 192];
/// Windows of rolling maxima and minima, in steps; each is a window of [`MEANS`] too, which a gap
/// turns into NaN.
const EXTREMES: [usize; 3] = [6, 24, 96];
/// How far the stretch of an earlier season is read at most, evenly spaced over the horizon.
const ANCHORS: usize = 12;

/// The history as one origin sees it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Newest last. Gaps spread: what was computed from one is NaN.
    pub values: &'a [f64],
    /// Number of the newest step, counted from 1970.
    pub clock: i64,
}

impl<'a> View<'a> {
    /// The value `lag` steps before the newest one.
    pub fn ago(&self, lag: usize) -> f64 {
        self.values[self.values.len() - 1 - lag]
    }

    /// `width` values, the newest of them `lag` steps ago.
    pub fn window(&self, lag: usize, width: usize) -> &'a [f64] {
        let end = self.values.len() - lag;
        &self.values[end - width..end]
    }
}

/// Gaps filled on straight lines, the ends with the nearest value; zeros if there is none.
pub fn filled(values: &[f64]) -> Vec<f64> {
    let mut filled = values.to_vec();
    let mut last: Option<usize> = None;
    for i in 0..values.len() {
        if !values[i].is_finite() {
            continue;
        }
        match last {
            None => filled[..i].fill(values[i]),
            Some(from) => {
                let slope = (values[i] - values[from]) / (i - from) as f64;
                for (j, v) in filled[from + 1..i].iter_mut().enumerate() {
                    *v = values[from] + slope * (j + 1) as f64;
                }
            }
        }
        last = Some(i);
    }
    match last {
        Some(from) => filled[from + 1..].fill(values[from]),
        None => filled.fill(0.0),
    }
    filled
}

/// Whether differences are taken as they are or as shares of their level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    Absolute,
    /// Divided by level + `floor`; the floor keeps an idle service from dividing by nothing.
    Relative {
        floor: f64,
    },
}

impl Scaling {
    pub fn unit(self, level: f64) -> f64 {
        match self {
            Scaling::Absolute => 1.0,
            Scaling::Relative { floor } => level.max(0.0) + floor,
        }
    }
}

/// One season: its length in steps, and how many earlier seasons are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Season {
    length: usize,
    repeats: usize,
    harmonics: usize,
}

/// Which columns a row has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    lags: usize,
    means: Vec<usize>,
    extremes: Vec<usize>,
    seasons: Vec<Season>,
    /// Steps ahead (from 0) at which earlier seasons are read.
    anchors: Vec<usize>,
    pub scaling: Scaling,
}

impl Layout {
    /// Columns that a history of `points` steps can teach, for `horizon` steps ahead.
    pub fn new(points: usize, horizon: usize, seasons: &[usize], scaling: Scaling) -> Layout {
        let fitting = |windows: &[usize]| -> Vec<usize> {
            windows.iter().copied().filter(|w| w * 8 <= points).collect()
        };
        let seasons = seasons
            .iter()
            .map(|&length| Season {
                length,
                repeats: (points * 6 / 10 / length).min(3),
                harmonics: (length / 8).min(if points > 8 * length { 4 } else { 2 }),
            })
            .filter(|s| s.repeats > 0)
            .collect();
        let anchors = (0..horizon.min(ANCHORS))
            .map(|a| if horizon <= ANCHORS { a } else { a * (horizon - 1) / (ANCHORS - 1) })
            .collect();
        Layout {
            lags: if points < 500 { 4 } else { 8 },
            means: fitting(&MEANS),
            extremes: fitting(&EXTREMES),
            seasons,
            anchors,
            scaling,
        }
    }

    /// Values that [`Layout::row`] reads.
    pub fn context(&self) -> usize {
        let recent = self.windows().max().unwrap_or(0).max(self.lags).max(LEVEL);
        let oldest = self.seasons.iter().map(|s| s.length * s.repeats).max().unwrap_or(0);
        oldest + recent
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        let season = |s: &Season| {
            s.repeats + 2 * self.anchors.len() + 1 + self.means.len() + 2 * s.harmonics
        };
        self.lags
            + self.means.len()
            + 2 * self.extremes.len()
            + self.seasons.iter().map(season).sum::<usize>()
    }

    fn windows(&self) -> impl Iterator<Item = usize> {
        self.means.iter().chain(&self.extremes).copied()
    }

    /// The level at the origin.
    pub fn level(&self, view: View) -> f64 {
        mean(view.window(0, LEVEL))
    }

    /// Replaces `row` by the columns at the origin of `view`.
    pub fn row(&self, view: View, row: &mut Vec<f64>) {
        row.clear();
        let level = self.level(view);
        let unit = self.scaling.unit(level);
        row.extend((0..self.lags).map(|lag| (view.ago(lag) - level) / unit));
        row.extend(self.means.iter().map(|&w| (mean(view.window(0, w)) - level) / unit));
        for &w in &self.extremes {
            let (low, high) = range(view.window(0, w));
            row.extend([(low - level) / unit, (high - level) / unit]);
        }
        for season in &self.seasons {
            self.season(season, view, level, unit, row);
        }
    }

    /// What happened around this moment in earlier seasons: how their level differed, their paths
    /// ahead (the newest one and the mean of all), their peak ahead, how they had come to it, and
    /// the phase.
    fn season(&self, season: &Season, view: View, level: f64, unit: f64, row: &mut Vec<f64>) {
        let (a, m) = (self.anchors.len(), self.means.len());
        let start = row.len();
        let (paths, sums) = (start + season.repeats, start + season.repeats + a);
        row.resize(sums + a + 1 + m, 0.0);
        let share = 1.0 / season.repeats as f64;
        for k in 1..=season.repeats {
            let lag = k * season.length;
            let then = mean(view.window(lag, LEVEL));
            let unit_then = self.scaling.unit(then);
            row[start + k - 1] = (then - level) / unit;
            let mut peak = f64::NEG_INFINITY;
            for (i, &ahead) in self.anchors.iter().enumerate() {
                let value = (view.ago(lag - 1 - ahead % season.length) - then) / unit_then;
                peak = peak.max(value);
                if k == 1 {
                    row[paths + i] = value;
                }
                row[sums + i] += value * share;
            }
            row[sums + a] += peak * share;
            for (i, &w) in self.means.iter().enumerate() {
                row[sums + a + 1 + i] += (mean(view.window(lag, w)) - then) / unit_then * share;
            }
        }
        let phase = view.clock.rem_euclid(season.length as i64) as f64 / season.length as f64;
        for k in 1..=season.harmonics {
            let (sin, cos) = (std::f64::consts::TAU * phase * k as f64).sin_cos();
            row.extend([sin, cos]);
        }
    }
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: f64 = f64::NAN;

    #[test]
    fn gaps_are_filled_as_the_series_does() {
        let cases: [(&[f64], &[f64]); 4] = [
            (&[GAP, 1.0, GAP, GAP, 4.0, GAP], &[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]),
            (&[2.0, 3.0], &[2.0, 3.0]),
            (&[GAP, GAP], &[0.0, 0.0]),
            (&[], &[]),
        ];
        for (values, want) in cases {
            assert_eq!(filled(values), want);
        }
    }

    fn row(layout: &Layout, values: &[f64], clock: i64) -> Vec<f64> {
        let mut row = vec![99.0];
        layout.row(View { values: &values[values.len() - layout.context()..], clock }, &mut row);
        row
    }

    #[test]
    fn a_row_has_the_promised_width_and_reads_no_more_than_its_context() {
        for (points, horizon, seasons) in
            [(30, 12, &[][..]), (240, 12, &[40]), (2_000, 1, &[24, 168]), (2_000, 50, &[4])]
        {
            let values: Vec<f64> = (0..points).map(|i| ((i * 37) % 11) as f64).collect();
            for scaling in [Scaling::Absolute, Scaling::Relative { floor: 0.1 }] {
                let layout = Layout::new(points, horizon, seasons, scaling);
                let row = row(&layout, &values, 5);
                assert_eq!(row.len(), layout.width());
                assert!(row.iter().all(|v| v.is_finite()));
            }
        }
    }

    #[test]
    fn rows_do_not_see_the_level_and_relative_ones_not_the_size() {
        let values: Vec<f64> = (0..300).map(|i| 5.0 + ((i * 37) % 11) as f64).collect();
        let changed = |f: &dyn Fn(f64) -> f64| values.iter().map(|&v| f(v)).collect::<Vec<f64>>();
        let same = |scaling, other: Vec<f64>| {
            let layout = Layout::new(300, 12, &[40], scaling);
            let (a, b) = (row(&layout, &values, 7), row(&layout, &other, 7));
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9)
        };
        assert!(same(Scaling::Absolute, changed(&|v| v + 1_000.0)));
        assert!(same(Scaling::Relative { floor: 0.0 }, changed(&|v| v * 3.0)));
        assert!(!same(Scaling::Absolute, changed(&|v| v * 3.0)));
    }
}
