//! Pure: smooth weighted round robin, by the rule of nginx.
//!
//! Each pick adds its weight to the current weight of every ready replica, takes the largest (the
//! first of equal ones) and subtracts the sum of all weights from it. Weights 5, 1, 1 give a a b a
//! c a a, not a a a a a b c.
//!
//! nginx also lowers the weight of a replica that fails and lets it recover by one per pick. Here
//! health is not the algorithm's business: a replica that fails its checks is not ready.

use std::sync::{Mutex, PoisonError};

use super::Target;

/// Current weights, in the order of the snapshot's targets. A mutex, not atomics: a pick reads and
/// writes all of them as one, and holds the lock for a few additions only.
#[derive(Debug)]
pub(super) struct Smooth(Mutex<Vec<f64>>);

impl Smooth {
    /// Takes over the current weights of the replicas that `before` knows; new ones start at zero.
    pub(super) fn new(targets: &[Target], before: Option<(&Smooth, &[Target])>) -> Smooth {
        let mut current = vec![0.0; targets.len()];
        if let Some((before, known)) = before {
            let before = before.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (current, target) in current.iter_mut().zip(targets) {
                let index = known.iter().position(|known| known.id == target.id);
                *current = index.map_or(0.0, |index| before[index]);
            }
        }
        Smooth(Mutex::new(current))
    }

    /// Index into `ready`, the leading targets; zero if there are none.
    pub(super) fn pick(&self, ready: &[Target]) -> usize {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0.0;
        let mut best = 0;
        for (index, target) in ready.iter().enumerate() {
            current[index] += target.share();
            total += target.share();
            if current[index] > current[best] {
                best = index;
            }
        }
        if let Some(current) = current.get_mut(best) {
            *current -= total;
        }
        best
    }
}
