//! Pure: latencies by size, four buckets to each doubling, so that quantiles are cheap and within
//! about 12 %.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// From 1 µs to 36 minutes.
const BUCKETS: usize = 120;

/// Counts since the start; what happened meanwhile is the difference of two [`Counts`].
#[derive(Debug)]
pub(super) struct Histogram([AtomicU32; BUCKETS]);

/// A histogram at one instant.
pub(super) type Counts = Box<[u32]>;

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Histogram {
    pub(super) fn add(&self, latency: Duration) {
        self.0[bucket(latency)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Quantiles of what was added since `before` in seconds, each the middle of its bucket; `None`
    /// if nothing was.
    pub(super) fn quantiles<const N: usize>(
        &self,
        before: &[u32],
        quantiles: [f64; N],
    ) -> Option<[f64; N]> {
        let before = before.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> = self
            .counts()
            .iter()
            .zip(before)
            .map(|(now, old)| now.wrapping_sub(old).into())
            .collect();
        let total: u64 = counts.iter().sum();
        let at = |quantile: f64| {
            let rank = ((quantile * total as f64).ceil() as u64).max(1);
            let mut below = 0;
            let reached = counts.iter().position(|count| {
                below += count;
                below >= rank
            });
            middle(reached.unwrap_or(0))
        };
        (total > 0).then(|| quantiles.map(at))
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let index = match micros {
        0..4 => micros as usize,
        _ => {
            let doublings = micros.ilog2() as usize;
            4 * (doublings - 1) + (micros >> (doublings - 2) & 3) as usize
        }
    };
    index.min(BUCKETS - 1)
}

fn middle(bucket: usize) -> f64 {
    let micros = match bucket {
        0..4 => bucket as f64 + 0.5,
        _ => (4.5 + (bucket % 4) as f64) * 2_f64.powi(bucket as i32 / 4 - 1),
    };
    micros / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_middle_of_a_bucket_is_within_an_eighth(micros in 4_u64..2_000_000_000) {
            // A bucket reaches from 4 to 5, 5 to 6, 6 to 7 or 7 to 8 parts: half a part is at most
            // an eighth of what lies in it.
            let exact = micros as f64 / 1e6;
            let middle = middle(bucket(Duration::from_micros(micros)));
            prop_assert!((middle / exact - 1.0).abs() <= 0.125, "{middle} for {exact}");
        }

        #[test]
        fn buckets_are_in_order_and_never_out_of_range(a in any::<u64>(), b in any::<u64>()) {
            let bucket = |nanos| bucket(Duration::from_nanos(nanos));
            prop_assert!((a <= b) == (bucket(a) <= bucket(b)) || bucket(a) == bucket(b));
        }
    }

    #[test]
    fn quantiles_are_of_what_came_since() {
        let histogram = Histogram::default();
        let add = |ms, times| (0..times).for_each(|_| histogram.add(Duration::from_millis(ms)));
        assert_eq!(histogram.quantiles(&[], [0.5]), None);
        add(500, 100);
        let before = histogram.counts();
        assert_eq!(histogram.quantiles(&before, [0.5]), None);
        // The 50th of 100 is 10 ms, the 99th 1 s.
        add(10, 98);
        add(1000, 2);
        let [median, high] = histogram.quantiles(&before, [0.5, 0.99]).unwrap();
        assert!((median / 0.010 - 1.0).abs() < 0.125 && (high - 1.0).abs() < 0.125);
    }
}
