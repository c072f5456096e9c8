//! Pure: seeded load for tests, benchmarks and scenarios.
//!
//! Four characters of load that planners must live with: a steep daily season, a season with
//! recurring spikes, bursts without any season, and flat noise. The same workload and seed give the
//! same series on every machine.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::series::{Series, Time};

/// The character of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A low night and a high day with steep flanks.
    Daily,
    /// The same, with a spike of three times the level at the same two times of each day.
    Spiky,
    /// A low base with bursts at random times, steep to rise and slow to decay.
    Bursty,
    /// One level.
    Flat,
}

/// A load to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub shape: Shape,
    pub step: Duration,
    /// Steps of one day, at least 1; a compressed day is a short one.
    pub day: usize,
    pub days: usize,
    /// Demand of a busy hour.
    pub level: f64,
    /// Standard deviation of the noise, as a share of the value.
    pub noise: f64,
}

impl Workload {
    /// The series from 1970 on, never negative, without gaps.
    pub fn series(&self, seed: u64) -> Series {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut burst = 0.0;
        let values = (0..self.day * self.days).map(|t| {
            let hour = (t % self.day) as f64 / self.day as f64 * 24.0;
            // A day of about ten bursts, each half gone after an eightieth of it.
            burst *= 0.5f64.powf(80.0 / self.day as f64);
            if rng.random::<f64>() < 10.0 / self.day as f64 {
                burst += 2.0 * rng.random::<f64>();
            }
            let share = match self.shape {
                Shape::Daily => daily(hour),
                Shape::Spiky => daily(hour) + spike(hour, 9.5) + spike(hour, 19.0),
                Shape::Bursty => 0.2 + burst,
                Shape::Flat => 1.0,
            };
            (self.level * share * (1.0 + self.noise * normal(&mut rng))).max(0.0)
        });
        Series::new(Time::UNIX_EPOCH, self.step, values.collect())
    }
}

/// 0.1 at night, 1 by day, most of the rise between 7 and 9, of the fall between 19 and 21.
fn daily(hour: f64) -> f64 {
    let sun = -(TAU * (hour - 2.0) / 24.0).cos();
    0.1 + 0.9 / (1.0 + (-6.0 * sun).exp())
}

/// Half an hour at both sides of `peak`.
fn spike(hour: f64, peak: f64) -> f64 {
    2.0 * (1.0 - 2.0 * (hour - peak).abs()).max(0.0)
}

/// Mean 0, deviation 1, within +-6: twelve uniform draws less their mean (Irwin-Hall).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_series_and_every_shape_its_level() {
        for (shape, mean) in [
            (Shape::Daily, 0.4..0.8),
            (Shape::Spiky, 0.5..0.9),
            (Shape::Bursty, 0.2..0.7),
            (Shape::Flat, 0.95..1.05),
        ] {
            let step = Duration::from_secs(300);
            let load = Workload { shape, step, day: 288, days: 14, level: 1.0, noise: 0.05 };
            let series = load.series(7);
            assert_eq!(series.values(), load.series(7).values());
            assert_ne!(series.values(), load.series(8).values());
            assert!(series.values().iter().all(|&v| v >= 0.0));
            let got = series.values().iter().sum::<f64>() / series.len() as f64;
            assert!(mean.contains(&got), "{shape:?}: mean {got}");
        }
    }
}
