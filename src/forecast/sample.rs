//! Pure: the history as the candidates of one training share it: gaps filled, seasons found,
//! origins chosen.

use std::borrow::Cow;

use ndarray::Array2;

use super::{
    accuracy::{scale_season, seasonal_error},
    features::{Layout, Scaling, Seen, View, filled},
    regression::Rows,
    seasons,
};

/// Origins that are learned from at most, spread over the history.
const MAX_ROWS: usize = 3_000;

/// A history and what the candidates share of it.
pub struct Sample<'a> {
    /// With gaps.
    pub values: Cow<'a, [f64]>,
    pub filled: Vec<f64>,
    /// `sums[i]`: sum of the first `i` of `filled`.
    sums: Vec<f64>,
    /// Number of the first step, counted from 1970.
    pub clock: i64,
    pub horizon: usize,
    pub seasons: Vec<usize>,
    /// Unit of the scores.
    pub unit: f64,
}

impl<'a> Sample<'a> {
    pub fn new(values: Cow<'a, [f64]>, start_ms: i64, step_ms: i64, horizon: usize) -> Sample<'a> {
        let filled = filled(&values);
        let mut sums = vec![0.0; filled.len() + 1];
        for (i, v) in filled.iter().enumerate() {
            sums[i + 1] = sums[i] + v;
        }
        let seasons = seasons::detect(&filled, step_ms);
        let unit = seasonal_error(&values, scale_season(values.len(), step_ms, &seasons));
        let clock = start_ms.div_euclid(step_ms);
        Sample { values, filled, sums, clock, horizon, seasons, unit }
    }

    pub fn view(&self, origin: usize) -> View<'_> {
        View {
            values: &self.filled[..=origin],
            clock: self.clock + origin as i64,
            sums: Some(&self.sums),
            means: None,
        }
    }

    /// At most [`MAX_ROWS`] origins that have `context` values up to them and `horizon` values
    /// after them. Where not all are taken, their spacing varies, so that they meet every phase of
    /// every season.
    pub fn origins(&self, context: usize) -> Vec<usize> {
        let mut gaps = vec![0u32; self.values.len() + 1];
        for (i, v) in self.values.iter().enumerate() {
            gaps[i + 1] = gaps[i] + u32::from(!v.is_finite());
        }
        let whole = |o: &usize| gaps[*o] == gaps[o + self.horizon + 1];
        let last = self.values.len().saturating_sub(self.horizon);
        let all: Vec<usize> = (context.max(1) - 1..last).filter(whole).collect();
        if all.len() <= MAX_ROWS {
            return all;
        }
        let spacing = all.len() as f64 / MAX_ROWS as f64;
        let jitter = |i: usize| (i as f64 * 0.618_033_988_749_895).fract();
        (0..MAX_ROWS).map(|i| all[((i as f64 + jitter(i)) * spacing) as usize]).collect()
    }

    /// Rows to learn from, one for each of `origins`.
    pub fn rows(&self, layout: &Layout, scaling: Scaling, origins: &[usize]) -> Rows {
        let newest = self.filled.len() - 1;
        let readings = layout.readings(self.view(newest), scaling);
        let mut x = Array2::zeros((origins.len(), layout.width()));
        let mut row = Vec::new();
        for (i, &o) in origins.iter().enumerate() {
            let seen = Seen { view: self.view(o), scaling, readings: Some(&readings) };
            layout.row(seen, &mut row);
            x.row_mut(i).iter_mut().zip(&row).for_each(|(to, v)| *to = *v);
        }
        Rows {
            layout: layout.clone(),
            scaling,
            x,
            y: self.actuals(origins),
            levels: origins.iter().map(|&o| layout.level(self.view(o))).collect(),
            highest: self.filled.iter().copied().fold(0.0, f64::max),
            origins: origins.to_vec(),
        }
    }

    /// What a method says at each of `origins`: origins × steps ahead.
    pub fn forecasts(&self, origins: &[usize], says: impl Fn(View, &mut [f64])) -> Array2<f64> {
        let mut forecasts = Array2::zeros((origins.len(), self.horizon));
        let mut path = vec![0.0; self.horizon];
        for (&o, mut row) in origins.iter().zip(forecasts.rows_mut()) {
            says(self.view(o), &mut path);
            row.iter_mut().zip(&path).for_each(|(to, y)| *to = *y);
        }
        forecasts
    }

    /// What came after each of `origins`: origins × steps ahead.
    pub fn actuals(&self, origins: &[usize]) -> Array2<f64> {
        Array2::from_shape_fn((origins.len(), self.horizon), |(i, h)| {
            self.values[origins[i] + 1 + h]
        })
    }
}
