//! Pure: slow start, the rising weight of a replica that has just become ready.

use std::time::Duration;

/// Least weight, so that a cold replica gets something to warm up on (Envoy: `min_weight_percent`).
const MIN_WEIGHT: f64 = 0.1;

/// Weight, 0.1 to 1.0, of a replica `age` after it became ready: Envoy's rule with aggression 1, a
/// straight line that reaches 1.0 at the end of `window`. A window of zero means no slow start.
///
/// | age / window | 0 | 0.05 | 0.1 | 0.5 | 1 and more |
/// |---|---|---|---|---|---|
/// | weight | 0.1 | 0.1 | 0.1 | 0.5 | 1.0 |
pub fn slow_start_weight(age: Duration, window: Duration) -> f64 {
    if age >= window {
        return 1.0;
    }
    // Envoy counts a replica's first second as done.
    let age = age.max(Duration::from_secs(1));
    (age.as_secs_f64() / window.as_secs_f64()).clamp(MIN_WEIGHT, 1.0)
}
