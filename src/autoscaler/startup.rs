//! Pure: the startup delays that were measured, and the high one that planning uses.

use std::collections::VecDeque;
use std::time::Duration;

use super::Autoscaler;

/// Measurements kept: old ones describe an image that is gone.
const KEPT: usize = 20;

/// The quantile that planning uses: later than that a start is a fault, not a delay.
const QUANTILE: f64 = 0.95;

/// The newest measured startup delays.
#[derive(Debug, Clone, Default)]
pub struct StartupDelays {
    measured: VecDeque<Duration>,
    high: Option<Duration>,
}

impl StartupDelays {
    pub fn add(&mut self, delays: &[Duration]) {
        self.measured.extend(delays);
        let excess = self.measured.len().saturating_sub(KEPT);
        self.measured.drain(..excess);
        // Once for each measurement: it is read many times in every step.
        if !delays.is_empty() {
            let mut sorted: Vec<Duration> = self.measured.iter().copied().collect();
            sorted.sort();
            let rank = (QUANTILE * sorted.len() as f64).ceil() as usize;
            self.high = sorted.get(rank.saturating_sub(1)).copied();
        }
    }

    /// Oldest first.
    pub fn measured(&self) -> Vec<Duration> {
        self.measured.iter().copied().collect()
    }

    /// The 0.95 quantile by nearest rank; `None` before the first measurement.
    pub fn high(&self) -> Option<Duration> {
        self.high
    }
}

impl Autoscaler {
    /// High quantile of the measured startup delays (the assumed one before the first), no higher
    /// than the highest one planned for.
    pub fn startup_delay(&self) -> Duration {
        let delay = self.startup_delays.high().unwrap_or(self.settings.startup_delay);
        match self.settings.max_startup_delay {
            Duration::ZERO => delay,
            highest => delay.min(highest),
        }
    }

    /// The newest measured startup delays, oldest first.
    pub fn startup_delays(&self) -> Vec<Duration> {
        self.startup_delays.measured()
    }

    /// Takes in startup delays measured before the first step (restart).
    pub fn restore_startup_delays(&mut self, measured: &[Duration]) {
        self.startup_delays.add(measured);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_delay_is_the_nearest_rank_of_the_newest_twenty() {
        let check = |delays: &[u64], want: Option<u64>| {
            let mut startup = StartupDelays::default();
            startup.add(&delays.iter().map(|&s| Duration::from_secs(s)).collect::<Vec<_>>());
            assert_eq!(startup.high(), want.map(Duration::from_secs), "{delays:?}");
        };
        check(&[], None);
        check(&[7], Some(7));
        check(&[9, 3], Some(9));
        // Rank ceil(0.95 x 20) = 19: the highest of twenty is taken for a fault.
        check(&(1..=20).collect::<Vec<_>>(), Some(19));
        // 100 is the oldest of 21 and forgotten.
        check(&[&[100][..], &[1; 20][..]].concat(), Some(1));
    }
}
