//! Pure: round robin, one ready replica after the other, whatever its weight.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the turns. After a change of the ready set the order goes on from the same count, so at
/// most one round is uneven.
#[derive(Debug, Default)]
pub(super) struct Rotation(AtomicU64);

impl Rotation {
    /// Index below `ready`, which must not be zero.
    pub(super) fn pick(&self, ready: usize) -> usize {
        (self.0.fetch_add(1, Ordering::Relaxed) % ready as u64) as usize
    }
}

impl Clone for Rotation {
    fn clone(&self) -> Rotation {
        Rotation(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}
