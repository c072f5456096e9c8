//! I/O: the one compute lane of a worker: requests queue for it and it burns real CPU time for
//! each.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use tokio::sync::oneshot;

use super::allowance::Allowance;

/// Handle of the lane's thread; the thread ends with its last handle.
#[derive(Debug, Clone)]
pub struct Lane {
    queue: mpsc::Sender<oneshot::Sender<()>>,
}

impl Lane {
    /// Starts the thread. Each job burns `cost` of CPU time; the whole process, with what the HTTP
    /// side uses, stays below `cpu_limit` cores.
    pub fn start(cost: Duration, cpu_limit: f64) -> Lane {
        let (queue, jobs) = mpsc::channel();
        thread::spawn(move || run(&jobs, cost, cpu_limit));
        Lane { queue }
    }

    /// Queues one job and waits for it. Whoever drops this future gives up its place.
    pub async fn work(&self) {
        let (done, finished) = oneshot::channel();
        // The thread holds the receiver for as long as a handle exists, so neither step can fail.
        let _ = self.queue.send(done);
        let _ = finished.await;
    }
}

fn run(jobs: &mpsc::Receiver<oneshot::Sender<()>>, cost: Duration, cpu_limit: f64) {
    let start = Instant::now();
    let used = || cpu_time(ClockId::CLOCK_PROCESS_CPUTIME_ID, start);
    let mut allowance = Allowance::new(cpu_limit, cost, start.elapsed(), used());
    for done in jobs {
        // Pausing before the work, not after it, lets an idle worker answer at once.
        loop {
            let pause = allowance.pause(start.elapsed(), used());
            if pause.is_zero() || done.is_closed() {
                break;
            }
            thread::sleep(pause);
        }
        if !done.is_closed() {
            burn(cost);
            let _ = done.send(());
        }
    }
}

/// Uses `cost` of this thread's CPU time: a chain of multiplications that the compiler cannot
/// shorten.
fn burn(cost: Duration) {
    let start = Instant::now();
    let clock = || cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID, start);
    let (begin, mut x) = (clock(), 0x9e37_79b9_7f4a_7c15_u64);
    while clock().saturating_sub(begin) < cost {
        for _ in 0..5_000 {
            x = black_box(x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
    }
}

/// The reading of a CPU clock; wall time where the system has none, so that no loop waits for ever.
fn cpu_time(clock: ClockId, start: Instant) -> Duration {
    clock.now().map_or_else(|_| start.elapsed(), Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_uses_the_cost_in_cpu_time_not_in_wall_time() {
        let start = Instant::now();
        let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID, start);
        burn(Duration::from_millis(20));
        let used = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID, start) - before;
        assert!(used >= Duration::from_millis(20), "{used:?}");
        assert!(used < Duration::from_millis(40), "{used:?}");
    }

    #[tokio::test]
    async fn an_abandoned_job_is_passed_over() {
        let lane = Lane::start(Duration::from_millis(1), 1.0);
        assert!(futures_util::poll!(Box::pin(lane.work())).is_pending());
        lane.work().await;
    }
}
