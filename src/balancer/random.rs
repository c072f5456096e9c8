//! Pure: draws by weight, and the mixing of random bits that they need.
//!
//! A draw takes one of n equal cells, and then the cell's own replica or its alias: Walker's method
//! with Vose's tables, one look whatever n is.

use super::Target;

/// Weights of the eligible replicas, made for drawing.
#[derive(Debug)]
pub(super) struct Weights {
    cells: Box<[Cell]>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    /// Draws below stay here, the others go to `alias`.
    own: u64,
    alias: u32,
}

impl Weights {
    pub(super) fn new(eligible: &[Target]) -> Weights {
        let total: f64 = eligible.iter().map(Target::share).sum();
        let n = eligible.len() as f64;
        // 1.0 fills a cell.
        let mut parts: Vec<f64> = eligible.iter().map(|t| t.share() * n / total).collect();
        let mut cells: Box<[Cell]> =
            (0..parts.len()).map(|i| Cell { own: u64::MAX, alias: i as u32 }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..parts.len()).partition(|i| parts[*i] < 1.0);
        while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
            // The cast saturates.
            cells[poor] = Cell { own: (parts[poor] * 2_f64.powi(64)) as u64, alias: rich as u32 };
            parts[rich] -= 1.0 - parts[poor];
            if parts[rich] < 1.0 { small.push(rich) } else { large.push(rich) }
        }
        // What is left is full but for rounding.
        Weights { cells }
    }

    /// Index drawn by weight; zero if there is none.
    pub(super) fn draw(&self, random: u64) -> usize {
        let (index, rest) = scaled(random, self.cells.len());
        match self.cells.get(index) {
            Some(cell) if rest >= cell.own => cell.alias as usize,
            _ => index,
        }
    }

    /// Index drawn by weight among all but `taken`; `None` if there is no other. If `taken`
    /// outweighs all others so much that four draws give nothing else, any of the others.
    pub(super) fn draw_other(&self, taken: usize, random: u64) -> Option<usize> {
        let others = self.cells.len().checked_sub(1).filter(|others| *others > 0)?;
        let mut random = random;
        for _ in 0..4 {
            random = mix(random.wrapping_add(STRIDE));
            let other = self.draw(random);
            if other != taken {
                return Some(other);
            }
        }
        let (other, _) = scaled(mix(random.wrapping_add(STRIDE)), others);
        Some(other + usize::from(other >= taken))
    }
}

/// A number below `n`, and fresh bits.
fn scaled(random: u64, n: usize) -> (usize, u64) {
    let wide = u128::from(random) * n as u128;
    ((wide >> 64) as usize, wide as u64)
}

/// The golden ratio, SplitMix64's stride through a counter.
pub const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

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

/// A hash that stays the same over restarts and versions, as the standard one need not: eight bytes
/// at a time, folded by a multiplication of 64 by 64 bits.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |state: u64, word: u64| {
        let wide = u128::from(state ^ word) * u128::from(STRIDE);
        (wide as u64) ^ (wide >> 64) as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(mix(bytes.len() as u64 ^ STRIDE), |state, word| {
        fold(state, u64::from_le_bytes(*word)).wrapping_add(STRIDE)
    });
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(fold(state, u64::from_le_bytes(last)))
}
