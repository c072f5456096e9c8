//! Pure: the last season repeated; the second bar to beat, and what people mean by "like
//! yesterday".

use serde::{Deserialize, Serialize};

use super::{Fitted, features::View};

/// Repeats the values of one season ago.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SeasonalNaive {
    /// In steps, at least 1.
    pub season_length: usize,
}

impl SeasonalNaive {
    pub fn fitted(season_length: usize) -> Fitted {
        Fitted::SeasonalNaive(SeasonalNaive { season_length })
    }

    /// Forecast of `out.len()` steps from the origin of `view`; beyond one season it repeats
    /// itself.
    pub fn points(&self, view: View, out: &mut [f64]) {
        let season = view.window(0, self.season_length);
        for (h, y) in out.iter_mut().enumerate() {
            *y = season[h % self.season_length];
        }
    }
}
