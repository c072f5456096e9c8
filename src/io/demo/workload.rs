//! Pure: the demo's load: compressed days with two steep peaks, different each day, and noise.
//!
//! A day is quiet at first, rises within 6 % of its length to its main peak, falls back, and has a
//! second, lower peak. A rule that adds a worker when the load is there is late by a worker's
//! startup delay, twice a day; one that knows yesterday need not be. Heights and times differ from
//! day to day, so that yesterday is no exact copy.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// (center as a share of the day, height as a share of the top).
const PEAKS: [(f64, f64); 2] = [(0.32, 1.0), (0.72, 0.6)];
/// Half the width of a peak's plateau, and the width of each flank, as shares of the day.
const PLATEAU: f64 = 0.07;
const FLANK: f64 = 0.06;
/// Load of the quiet hours, as a share of the top.
const BASE: f64 = 0.09;
/// How much heights, times (in days) and the load from moment to moment vary, to either side.
const HEIGHT_SPREAD: f64 = 0.1;
const TIME_SPREAD: f64 = 0.01;
const NOISE: f64 = 0.05;
/// Independent draws of noise in a day.
const NOISE_KNOTS: f64 = 20.0;

/// Load over time, the same for the same seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    pub seed: u64,
    pub day: Duration,
    /// Requests per second at the top of the main peak of an average day.
    pub top: f64,
}

impl Workload {
    /// Requests per second at `t` from the start; always above 0.
    pub fn rate(&self, t: Duration) -> f64 {
        let days = t.as_secs_f64() / self.day.as_secs_f64();
        let (today, phase) = (days.floor(), days.fract());
        let peaks: f64 = PEAKS
            .iter()
            .enumerate()
            .map(|(i, &(center, height))| {
                let draw = |what| self.draw(1 + 4 * today as u64 + 2 * i as u64 + what);
                let center = center + TIME_SPREAD * draw(0);
                height * (1.0 + HEIGHT_SPREAD * draw(1)) * bump(phase - center)
            })
            .sum();
        self.top * (BASE + (1.0 - BASE) * peaks) * (1.0 + NOISE * self.noise(days * NOISE_KNOTS))
    }

    /// The times at which requests arrive, from the start on, without end: a Poisson process of
    /// this rate.
    pub fn arrivals(&self) -> impl Iterator<Item = Duration> + use<> {
        let workload = *self;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut now = Duration::ZERO;
        std::iter::repeat_with(move || {
            let gap = -(1.0 - rng.random::<f64>()).ln() / workload.rate(now);
            now += Duration::from_secs_f64(gap.min(3600.0));
            now
        })
    }

    /// Noise between -1 and 1: draws at whole numbers, a smooth way between them.
    fn noise(&self, x: f64) -> f64 {
        let knot = |k: f64| self.draw((1 << 40) + k as u64);
        let weight = (1.0 - (x.fract() * TAU / 2.0).cos()) / 2.0;
        knot(x.floor()) * (1.0 - weight) + knot(x.floor() + 1.0) * weight
    }

    /// A uniform draw between -1 and 1 that depends on nothing but the seed and `stream`.
    fn draw(&self, stream: u64) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        2.0 * rng.random::<f64>() - 1.0
    }
}

/// 1 on the plateau around 0, 0 beyond the flanks, smooth between.
fn bump(distance: f64) -> f64 {
    let x = ((PLATEAU + FLANK - distance.abs()) / FLANK).clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(10);

    fn workload(seed: u64) -> Workload {
        Workload { seed, day: DAY, top: 300.0 }
    }

    #[test]
    fn a_day_is_quiet_then_has_a_main_peak_and_a_lower_one() {
        let at = |phase: f64| workload(1).rate(DAY.mul_f64(3.0 + phase));
        let check = |phase, low, high| {
            let share = at(phase) / 300.0;
            assert!((low..=high).contains(&share), "{share} at {phase}");
        };
        // Shares of the top, with 10 % of height and 5 % of noise to either side; base 0.09.
        check(0.05, 0.08, 0.10);
        check(0.32, 0.85, 1.16);
        check(0.52, 0.08, 0.10);
        check(0.72, 0.50, 0.76);
        check(0.95, 0.08, 0.10);
    }

    #[test]
    fn days_and_seeds_differ_and_the_same_seed_does_not() {
        let top = |seed, day: f64| workload(seed).rate(DAY.mul_f64(day + 0.32));
        assert_ne!(top(1, 2.0), top(1, 3.0));
        assert_ne!(top(1, 2.0), top(2, 2.0));
        let first: Vec<Duration> = workload(7).arrivals().take(500).collect();
        assert!(first.iter().eq(workload(7).arrivals().take(500).collect::<Vec<_>>().iter()));
        assert!(first.is_sorted());
    }

    #[test]
    fn as_many_requests_arrive_as_the_rate_says() {
        let expected: f64 =
            (0..2_000).map(|i| workload(1).rate(DAY * i / 1_000)).sum::<f64>() * 0.01;
        let arrived = workload(1).arrivals().take_while(|&t| t < 2 * DAY).count() as f64;
        // Some 1 600 of them: a standard deviation is 2.5 %.
        assert!((arrived / expected - 1.0).abs() < 0.1, "{arrived} of {expected}");
    }

    proptest! {
        #[test]
        fn the_rate_stays_within_its_spread(seed: u64, ms in 0u64..10_000_000) {
            let rate = workload(seed).rate(Duration::from_millis(ms));
            // Base less noise; the highest main peak with the most noise.
            prop_assert!(rate >= 300.0 * 0.09 * 0.95 - 1e-9, "{}", rate);
            prop_assert!(rate <= 300.0 * (0.09 + 0.91 * 1.1) * 1.05 + 1e-9, "{}", rate);
        }
    }
}
