//! Pure: draws by weight, and the mixing of random bits that they need.

use super::Target;

/// Weights of the ready replicas as running sums, so that a draw is one binary search.
#[derive(Debug)]
pub(super) struct Weights {
    /// `ends[i]` is the sum of the weights 0 to i.
    ends: Vec<f64>,
}

impl Weights {
    pub(super) fn new(ready: &[Target]) -> Weights {
        let add = |sum: &mut f64, target: &Target| {
            *sum += target.share();
            Some(*sum)
        };
        Weights { ends: ready.iter().scan(0.0, add).collect() }
    }

    /// Index drawn by weight; zero if there is none.
    pub(super) fn draw(&self, random: u64) -> usize {
        self.at(unit(random) * self.total())
    }

    /// Index drawn by weight among all but `taken`; `None` if there is no other.
    pub(super) fn draw_other(&self, taken: usize, random: u64) -> Option<usize> {
        if self.ends.len() < 2 {
            return None;
        }
        let start = if taken == 0 { 0.0 } else { self.ends[taken - 1] };
        let width = self.ends[taken] - start;
        let point = unit(random) * (self.total() - width);
        let index = self.at(if point < start { point } else { point + width });
        // Rounding can put a point on the very edge of the gap that was cut out.
        Some(if index == taken { (taken + 1) % self.ends.len() } else { index })
    }

    fn total(&self) -> f64 {
        self.ends.last().copied().unwrap_or(0.0)
    }

    fn at(&self, point: f64) -> usize {
        self.ends.partition_point(|end| *end <= point).min(self.ends.len().saturating_sub(1))
    }
}

/// Spreads the bits of `bits` over all 64 (the finalizer of SplitMix64). Over a counter that
/// advances by an odd constant it makes a good stream of draws.
pub fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Random bits to a number in [0, 1).
pub(super) fn unit(bits: u64) -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    (bits >> 11) as f64 / STEPS
}
