//! Pure: how long a worker must pause so that its CPU share stays below a limit.
//!
//! A bucket of CPU seconds fills at `limit` seconds a second up to `burst`, and what the process
//! used is taken out. Below zero the worker owes time and pauses until the debt is paid. This is
//! what a container's CPU quota does, except that the debt is paid by sleeping instead of by being
//! stopped in the middle of an instruction.

use std::time::Duration;

/// Shortest pause. A wake-up costs CPU time too, some 20 us: at 0.1 cores that takes 0.2 ms to
/// earn, and shorter pauses would spend what they earn (measured: 90 of them, 2 ms of CPU, for each
/// request).
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The bucket. Times are readings of two clocks that both only rise: wall time, and CPU time used.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowance {
    limit: f64,
    burst: f64,
    balance: f64,
    elapsed: Duration,
    used: Duration,
}

impl Allowance {
    /// An empty bucket. `limit` in cores, above 0; `burst` is the CPU time that idleness can save
    /// up.
    pub fn new(limit: f64, burst: Duration, elapsed: Duration, used: Duration) -> Allowance {
        Allowance { limit, burst: burst.as_secs_f64(), balance: 0.0, elapsed, used }
    }

    /// Books what happened since the last call; the pause to make before more work, zero if none.
    pub fn pause(&mut self, elapsed: Duration, used: Duration) -> Duration {
        let earned = elapsed.saturating_sub(self.elapsed).as_secs_f64() * self.limit;
        let spent = used.saturating_sub(self.used).as_secs_f64();
        self.balance = (self.balance + earned - spent).min(self.burst);
        (self.elapsed, self.used) = (elapsed, used);
        // Not in debt: negative, and so no duration.
        let debt = Duration::try_from_secs_f64(-self.balance / self.limit);
        debt.map_or(
            Duration::ZERO,
            |pause| if pause.is_zero() { pause } else { pause.max(PAUSE_MIN) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Each row: wall clock, CPU clock, expected pause (all ms), at 0.1 cores and a burst of 5 ms.
    #[test]
    fn debt_is_paid_at_the_limit_and_idleness_saves_at_most_the_burst() {
        let mut allowance = Allowance::new(0.1, ms(5), ms(0), ms(0));
        for (elapsed, used, pause) in [
            (5, 5, 45),      // 0.5 earned - 5 spent = -4.5 ms of CPU: 45 ms at 0.1 cores.
            (49, 5, 1),      // 4.4 earned: 0.1 short.
            (51, 5, 0),      // 4.6 earned: even.
            (1_000, 5, 0),   // 95 earned, 5 kept.
            (1_010, 15, 40), // 5 + 1 - 10 = -4.
            (1_000, 15, 40), // A clock that stands or goes back changes nothing.
        ] {
            let got = allowance.pause(ms(elapsed), ms(used));
            assert!(got.abs_diff(ms(pause)) < ms(1), "{elapsed} {used}: {got:?}, not {pause} ms");
        }
    }

    proptest! {
        /// Whoever pauses as told never exceeds limit x time + burst + one piece of work.
        #[test]
        fn the_share_stays_below_the_limit(
            limit in 0.01f64..1.0,
            works in prop::collection::vec((1u64..20_000, 0u64..100_000), 1..50),
        ) {
            let (mut elapsed, mut used) = (Duration::ZERO, Duration::ZERO);
            let burst = ms(10);
            let mut allowance = Allowance::new(limit, burst, elapsed, used);
            for (cpu_us, idle_us) in works {
                let work = Duration::from_micros(cpu_us);
                elapsed += work + Duration::from_micros(idle_us);
                used += work;
                let most = elapsed.mul_f64(limit) + burst + work;
                prop_assert!(used <= most + ms(1), "{used:?} of {most:?}");
                elapsed += allowance.pause(elapsed, used);
            }
        }
    }
}
