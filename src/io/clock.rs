//! I/O: the clock of the balancer, which never goes back.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since the first call in this process.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
