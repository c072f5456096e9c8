//! Pure: what a regression knows at an origin: one row of numbers from the recent past and earlier
//! seasons.
//!
//! Every column is relative to the level (the mean of the newest few values), so that the same
//! weights serve a quiet and a busy service and shrinking them leads to "as now". Each season adds
//! the same stretch of time in up to ten earlier seasons, relative to its own level then: what
//! followed a moment like this one, the newest counting most. Columns are few on purpose: each of
//! them is learned once for every step ahead, and a history holds few seasons to learn from.
//!
//! A [`Scaling`] says what "relative" means: differences as they are, as shares of their level for
//! loads whose swings grow with them, or of logarithms. The same row of readings serves all three.
//!
//! One function writes the rows of training and of forecasting, so the two cannot drift apart. It
//! needs one season of history and uses what there is of ten.
//!
//! Known limit: a season that is no whole number of steps smears over its neighbours.

mod scaling;

use serde::{Deserialize, Serialize};

pub use scaling::{Readings, Scaling, Seen};

/// Values that make the level.
const LEVEL: usize = 3;
/// Windows of rolling means, in steps; those longer than an eighth of the history are left out.
const MEANS: [usize; 5] = [2, 6, 24, 72, 192];
/// Window of the rolling maximum and minimum, in steps, under the same condition.
const EXTREMES: usize = 24;
/// How far the stretch of an earlier season is read at most, evenly spaced over the horizon.
const ANCHORS: usize = 12;
/// Of so many anchors one has a column of its own for the newest season alone.
const SPARSE: usize = 3;
/// Earlier seasons that are read at most.
const SEASONS: usize = 10;
/// Weight of a season against the one after it.
const FADE: f64 = 0.9;
/// Waves whose phase is told, in each season.
const HARMONICS: usize = 2;

/// The history as one origin sees it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Newest last. Gaps spread: what was computed from one is NaN.
    pub values: &'a [f64],
    /// Number of the newest step, counted from 1970.
    pub clock: i64,
    /// `sums[i]` is the sum of the first `i` values of the whole history, where many views share
    /// one: a mean then costs two readings.
    pub sums: Option<&'a [f64]>,
    /// Of this origin, where several regressions share them.
    pub means: Option<&'a Means>,
}

/// What a layout reads of means at one origin, as the load has them.
#[derive(Debug)]
pub struct Means {
    windows: Vec<usize>,
    /// How long ago each row was.
    lags: Vec<usize>,
    /// The level, then the mean of each window, for each lag.
    rows: Vec<f64>,
}

impl Means {
    fn at(&self, lag: usize, windows: &[usize]) -> Option<&[f64]> {
        let row = self.lags.iter().position(|&known| known == lag && self.windows == windows)?;
        self.rows.chunks(1 + windows.len()).nth(row)
    }
}

impl<'a> View<'a> {
    pub fn new(values: &'a [f64], clock: i64) -> View<'a> {
        View { values, clock, sums: None, means: None }
    }

    /// The value `lag` steps before the newest one.
    pub fn ago(&self, lag: usize) -> f64 {
        self.values[self.values.len() - 1 - lag]
    }

    /// `width` values, the newest of them `lag` steps ago.
    pub fn window(&self, lag: usize, width: usize) -> &'a [f64] {
        let end = self.values.len() - lag;
        &self.values[end - width..end]
    }

    /// Mean of `width` values, the newest of them `lag` steps ago.
    fn mean(&self, lag: usize, width: usize) -> f64 {
        let Some(sums) = self.sums else { return mean(self.window(lag, width)) };
        let end = self.values.len() - lag;
        (sums[end] - sums[end - width]) / width as f64
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

/// Which columns a row has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    lags: usize,
    means: Vec<usize>,
    extremes: Option<usize>,
    /// In steps.
    seasons: Vec<usize>,
    /// Steps ahead (from 0) at which earlier seasons are read.
    anchors: Vec<usize>,
}

impl Layout {
    /// Columns that a history of `points` steps can teach, for `horizon` steps ahead.
    pub fn new(points: usize, horizon: usize, seasons: &[usize]) -> Layout {
        let fits = |window: &usize| window * 8 <= points;
        let anchors = (0..horizon.min(ANCHORS))
            .map(|a| if horizon <= ANCHORS { a } else { a * (horizon - 1) / (ANCHORS - 1) })
            .collect();
        Layout {
            lags: if points < 500 { 4 } else { 8 },
            means: MEANS.into_iter().filter(fits).collect(),
            extremes: Some(EXTREMES).filter(fits),
            seasons: seasons.iter().copied().filter(|s| s * 10 <= points * 6).collect(),
            anchors,
        }
    }

    /// Values that [`Layout::row`] needs.
    pub fn least(&self) -> usize {
        self.recent() + self.seasons.iter().max().unwrap_or(&0)
    }

    /// Values that [`Layout::row`] reads where there are so many.
    pub fn context(&self) -> usize {
        self.recent() + SEASONS * self.seasons.iter().max().unwrap_or(&0)
    }

    fn recent(&self) -> usize {
        let windows = self.means.iter().chain(&self.extremes);
        windows.copied().max().unwrap_or(0).max(self.lags).max(LEVEL)
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        let a = self.anchors.len();
        let season =
            |&length: &usize| 1 + a / SPARSE + a + 1 + self.means.len() + 2 * harmonics(length);
        self.lags
            + self.means.len()
            + 2 * usize::from(self.extremes.is_some())
            + self.seasons.iter().map(season).sum::<usize>()
    }

    /// The level at the origin, in the load's own unit.
    pub fn level(&self, view: View) -> f64 {
        view.mean(0, LEVEL)
    }

    /// Readings of all of `history`; the first means are of the values that there are.
    pub fn readings(&self, history: View, scaling: Scaling) -> Readings {
        let n = history.values.len();
        let mut means = Vec::with_capacity(n * (1 + self.means.len()));
        for newest in 0..n {
            let lag = n - 1 - newest;
            let windows = [LEVEL].into_iter().chain(self.means.iter().copied());
            means.extend(windows.map(|w| scaling.seen(history.mean(lag, w.min(newest + 1)))));
        }
        Readings { values: history.values.iter().map(|&v| scaling.seen(v)).collect(), means }
    }

    /// All means that a row at the origin of `view` is made of.
    pub fn means(&self, view: View) -> Means {
        let earlier = |&length: &usize| (1..=self.known(view, length)).map(move |k| k * length);
        let lags = [0].into_iter().chain(self.seasons.iter().flat_map(earlier)).collect();
        let mut means = Means { windows: self.means.clone(), lags, rows: Vec::new() };
        means.lags.iter().for_each(|&lag| self.read_means(view, lag, &mut means.rows));
        means
    }

    /// Appends the level of `lag` steps ago and the rolling means, each the sum of the one before
    /// and some more.
    fn read_means(&self, view: View, lag: usize, to: &mut Vec<f64>) {
        to.push(view.mean(lag, LEVEL));
        let (mut sum, mut read) = (0.0, 0);
        for &window in &self.means {
            sum += view.window(lag + read, window - read).iter().sum::<f64>();
            read = window;
            to.push(sum / window as f64);
        }
    }

    /// Seasons of `length` steps that are read.
    fn known(&self, view: View, length: usize) -> usize {
        ((view.values.len() - self.recent()) / length).min(SEASONS)
    }

    /// Replaces `row` by the columns at the origin of `seen`.
    pub fn row(&self, seen: Seen, row: &mut Vec<f64>) {
        row.clear();
        let mut means = Vec::with_capacity(1 + self.means.len());
        seen.means(0, self, &mut means);
        let level = means[0];
        let unit = seen.scaling.unit(level);
        let relative = |seen: f64| (seen - level) / unit;
        row.extend((0..self.lags).map(|lag| relative(seen.value(lag))));
        row.extend(means[1..].iter().map(|&mean| relative(mean)));
        if let Some(w) = self.extremes {
            let (low, high) = range(seen.view.window(0, w));
            row.extend([low, high].map(|load| relative(seen.scaling.seen(load))));
        }
        for &length in &self.seasons {
            self.season(length, seen, level, row);
        }
    }

    /// What happened around this moment in earlier seasons: how their level differed, their paths
    /// ahead (a few steps of the newest one, the mean of all), their peak ahead, how they had come
    /// to it, and the phase.
    fn season(&self, length: usize, seen: Seen, level: f64, row: &mut Vec<f64>) {
        let (a, m) = (self.anchors.len(), self.means.len());
        let start = row.len();
        let newest = start + 1;
        let paths = newest + a / SPARSE;
        let peak = paths + a;
        let means = peak + 1;
        row.resize(means + m, 0.0);
        let unit_now = seen.scaling.unit(level);
        let known = self.known(seen.view, length);
        let mut of_then = Vec::with_capacity(1 + m);
        let mut weight = (1.0 - FADE) / (1.0 - FADE.powi(known as i32));
        for k in 1..=known {
            let lag = k * length;
            seen.means(lag, self, &mut of_then);
            let then = of_then[0];
            let unit = seen.scaling.unit(then);
            row[start] += weight * (then - level) / unit_now;
            let mut highest = f64::NEG_INFINITY;
            for (i, &ahead) in self.anchors.iter().enumerate() {
                let ahead = if ahead < length { ahead } else { ahead % length };
                let value = (seen.value(lag - 1 - ahead) - then) / unit;
                highest = highest.max(value);
                if k == 1 && i % SPARSE == SPARSE - 1 {
                    row[newest + i / SPARSE] = value;
                }
                row[paths + i] += weight * value;
            }
            row[peak] += weight * highest;
            for (i, mean) in of_then[1..].iter().enumerate() {
                row[means + i] += weight * (mean - then) / unit;
            }
            weight *= FADE;
        }
        let phase = seen.view.clock.rem_euclid(length as i64) as f64 / length as f64;
        for k in 1..=harmonics(length) {
            let (sin, cos) = (std::f64::consts::TAU * phase * k as f64).sin_cos();
            row.extend([sin, cos]);
        }
    }
}

/// Waves that a season of `length` steps can show.
fn harmonics(length: usize) -> usize {
    (length / 8).min(HARMONICS)
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Lowest and highest of `values`.
pub fn range(values: &[f64]) -> (f64, f64) {
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

    fn row(layout: &Layout, values: &[f64], scaling: Scaling) -> Vec<f64> {
        let mut row = vec![99.0];
        let newest = &values[values.len().saturating_sub(layout.context())..];
        layout.row(Seen::new(View::new(newest, 7), scaling), &mut row);
        row
    }

    const SCALINGS: [Scaling; 3] =
        [Scaling::Absolute, Scaling::Relative { floor: 0.1 }, Scaling::Log { floor: 0.1 }];

    #[test]
    fn a_row_has_the_promised_width_and_reads_what_there_is() {
        for (points, horizon, seasons) in
            [(30, 12, &[][..]), (240, 12, &[40]), (2_000, 1, &[24, 168]), (2_000, 50, &[4])]
        {
            let values: Vec<f64> = (0..points).map(|i| ((i * 37) % 11) as f64).collect();
            let layout = Layout::new(points, horizon, seasons);
            assert!(layout.least() <= points);
            for scaling in SCALINGS {
                for values in [&values[..], &values[points - layout.least()..]] {
                    let row = row(&layout, values, scaling);
                    assert_eq!(row.len(), layout.width());
                    assert!(row.iter().all(|v| v.is_finite()));
                }
            }
        }
    }

    #[test]
    fn shared_readings_give_the_same_row() {
        let values: Vec<f64> = (0..300).map(|i| 5.0 + ((i * 37) % 11) as f64).collect();
        let mut sums = vec![0.0];
        values.iter().for_each(|v| sums.push(sums[sums.len() - 1] + v));
        let layout = Layout::new(300, 12, &[40]);
        let mut shared = Vec::new();
        for scaling in SCALINGS {
            let view = View { sums: Some(&sums), ..View::new(&values, 7) };
            let readings = layout.readings(view, scaling);
            layout.row(Seen { view, scaling, readings: Some(&readings) }, &mut shared);
            let direct = row(&layout, &values, scaling);
            assert!(shared.iter().zip(direct).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }

    #[test]
    fn rows_do_not_see_the_level_and_scaled_ones_not_the_size() {
        let values: Vec<f64> = (0..300).map(|i| 5.0 + ((i * 37) % 11) as f64).collect();
        let changed = |f: &dyn Fn(f64) -> f64| values.iter().map(|&v| f(v)).collect::<Vec<f64>>();
        let layout = Layout::new(300, 12, &[40]);
        let same = |scaling, other: Vec<f64>| {
            let (a, b) = (row(&layout, &values, scaling), row(&layout, &other, scaling));
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9)
        };
        assert!(same(Scaling::Absolute, changed(&|v| v + 1_000.0)));
        assert!(!same(Scaling::Absolute, changed(&|v| v * 3.0)));
        for scaling in [Scaling::Relative { floor: 0.0 }, Scaling::Log { floor: 0.0 }] {
            assert!(same(scaling, changed(&|v| v * 3.0)), "{scaling:?}");
        }
    }
}
