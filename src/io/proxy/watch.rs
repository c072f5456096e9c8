//! I/O: the time limits of a connection's phases, by one coarse clock for all of a listener.
//!
//! A timer for each wait of each request would cost more than the request's own work. Here a phase
//! is two stores, and a look at everyone twenty times a second wakes those that are overdue. So a
//! limit bites up to two [`TICK`]s late and never early.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

pub(super) const TICK: Duration = Duration::from_millis(50);

/// Due at no time.
const NEVER: u64 = u64::MAX;

/// What a client connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of its head.
    Head,
    /// Nothing with a limit here: a replica with room, or a connection to it.
    Elsewhere,
    /// More of the request's body.
    Upload,
    /// The head of the replica's answer.
    Replica,
    /// More of the answer, or the client to take it.
    Answer,
}

const PHASES: [Phase; 6] =
    [Phase::Idle, Phase::Head, Phase::Elsewhere, Phase::Upload, Phase::Replica, Phase::Answer];

/// The clock of one listener and whom it wakes.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    /// In ticks.
    now: AtomicU64,
    watches: Mutex<Vec<Weak<Watch>>>,
    joined: Notify,
    stopping: AtomicBool,
    aborting: AtomicBool,
}

impl Ticker {
    /// Ticks while anybody is watched; never ends.
    pub(super) async fn run(&self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            if self.sweep() {
                ticks.tick().await;
            } else {
                self.joined.notified().await;
                ticks.reset();
            }
        }
    }

    /// Every connection ends as soon as it has no request.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Every connection ends.
    pub(super) fn abort(&self) {
        self.aborting.store(true, Ordering::Release);
        self.wake_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.aborting.load(Ordering::Acquire)
    }

    fn wake_all(&self) {
        for watch in self.watches.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(watch) = watch.upgrade() {
                watch.task.wake();
            }
        }
    }

    /// Whether anybody is left to watch.
    fn sweep(&self) -> bool {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            if watch.due.load(Ordering::Acquire) <= now {
                watch.task.wake();
            }
            true
        });
        !watches.is_empty()
    }
}

/// One client connection under the clock.
#[derive(Debug)]
pub(super) struct Watch {
    ticker: Arc<Ticker>,
    phase: AtomicU8,
    due: AtomicU64,
    task: AtomicWaker,
}

impl Watch {
    pub(super) fn begin(ticker: &Arc<Ticker>) -> Arc<Watch> {
        let watch = Arc::new(Watch {
            ticker: Arc::clone(ticker),
            phase: AtomicU8::new(Phase::Idle as u8),
            due: AtomicU64::new(NEVER),
            task: AtomicWaker::new(),
        });
        let mut watches = ticker.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.push(Arc::downgrade(&watch));
        if watches.len() == 1 {
            ticker.joined.notify_one();
        }
        watch
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// Whom to wake when the phase is overdue, or the listener stops.
    pub(super) fn wakes(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Begins a phase, or begins it anew after progress in it.
    pub(super) fn enter(&self, phase: Phase, limit: Option<Duration>) {
        let ticks = |limit: Duration| limit.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        let now = self.ticker.now.load(Ordering::Acquire);
        let due = limit.map_or(NEVER, |limit| now.saturating_add(ticks(limit)));
        self.phase.store(phase as u8, Ordering::Release);
        self.due.store(due, Ordering::Release);
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// The phase, if it has lasted too long.
    pub(super) fn overdue(&self) -> Option<Phase> {
        let now = self.ticker.now.load(Ordering::Acquire);
        (self.due.load(Ordering::Acquire) <= now).then(|| self.phase())
    }
}
