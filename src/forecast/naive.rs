//! Pure: the last value, for every step ahead; the first bar to beat.

use serde::{Deserialize, Serialize};

use super::features::View;

/// Nothing to learn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Naive {}

impl Naive {
    /// Forecast of `out.len()` steps from the origin of `view`.
    pub fn points(&self, view: View, out: &mut [f64]) {
        out.fill(view.ago(0));
    }
}
