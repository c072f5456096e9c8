//! Pure: the past as a regression sees it: relative to a level.

use serde::{Deserialize, Serialize};

use super::{Layout, View};

/// What differences are taken of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    Absolute,
    /// Of the load, divided by level + `floor`; the floor keeps an idle service from dividing by
    /// nothing.
    Relative {
        floor: f64,
    },
    /// Of the logarithm of load + `floor`.
    Log {
        floor: f64,
    },
}

impl Scaling {
    /// Where `load` lies, seen from `level`; both in the load's own unit.
    pub fn relative(self, load: f64, level: f64) -> f64 {
        let level = self.seen(level);
        (self.seen(load) - level) / self.unit(level)
    }

    /// What differences are taken of, for `load`.
    pub(super) fn seen(self, load: f64) -> f64 {
        match self {
            Scaling::Absolute | Scaling::Relative { .. } => load,
            Scaling::Log { floor } => (load.max(0.0) + floor).ln(),
        }
    }

    /// What differences from `level` (as seen) are shares of.
    pub(super) fn unit(self, level: f64) -> f64 {
        match self {
            Scaling::Absolute | Scaling::Log { .. } => 1.0,
            Scaling::Relative { floor } => level.max(0.0) + floor,
        }
    }

    /// The load that lies at `relative`, seen from `level`.
    pub fn load(self, relative: f64, level: f64) -> f64 {
        match self {
            Scaling::Absolute => level + relative,
            Scaling::Relative { floor } => level + relative * (level.max(0.0) + floor),
            Scaling::Log { floor } => (level.max(0.0) + floor) * relative.exp() - floor,
        }
    }
}

/// A view through a scaling.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub view: View<'a>,
    pub scaling: Scaling,
    /// Of the whole history, where many rows share them: a logarithm costs more than a reading.
    pub readings: Option<&'a Readings>,
}

/// What rows read of a history, as a scaling sees it.
pub struct Readings {
    pub(super) values: Vec<f64>,
    /// For each step the level, then each of the layout's rolling means.
    pub(super) means: Vec<f64>,
}

impl<'a> Seen<'a> {
    pub fn new(view: View<'a>, scaling: Scaling) -> Seen<'a> {
        Seen { view, scaling, readings: None }
    }

    pub(super) fn value(&self, lag: usize) -> f64 {
        match self.readings {
            Some(readings) => readings.values[self.view.values.len() - 1 - lag],
            None => self.scaling.seen(self.view.ago(lag)),
        }
    }

    /// Replaces `to` by the level of `lag` steps ago and the rolling means of the layout.
    pub(super) fn means(&self, lag: usize, layout: &Layout, to: &mut Vec<f64>) {
        to.clear();
        if let Some(readings) = self.readings {
            let width = 1 + layout.means.len();
            let from = (self.view.values.len() - 1 - lag) * width;
            to.extend_from_slice(&readings.means[from..from + width]);
            return;
        }
        match self.view.means.and_then(|means| means.at(lag, &layout.means)) {
            Some(shared) => to.extend_from_slice(shared),
            None => layout.read_means(self.view, lag, to),
        }
        to.iter_mut().for_each(|load| *load = self.scaling.seen(*load));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALINGS: [Scaling; 3] =
        [Scaling::Absolute, Scaling::Relative { floor: 0.1 }, Scaling::Log { floor: 0.1 }];

    #[test]
    fn a_scaling_leads_there_and_back() {
        for scaling in SCALINGS {
            for (load, level) in [(0.0, 0.0), (3.0, 2.0), (0.0, 5.0), (7.0, 0.0)] {
                let back = scaling.load(scaling.relative(load, level), level);
                assert!((back - load).abs() < 1e-9, "{scaling:?}: {load} is not {back}");
            }
        }
    }
}
