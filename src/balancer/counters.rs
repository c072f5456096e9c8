//! Pure: what changes with every request, in atomics that clones of a target share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use super::latency::Latency;
use super::room::Place;

/// What changes with every request to one replica. On a cache line of its own, so that requests to
/// two replicas do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Requests sent and unanswered; one counts until the last byte of its answer is passed on.
    pub in_flight: AtomicU32,
    /// Errors in a row, up to now and at most since the last look at them.
    row: AtomicU32,
    longest_row: AtomicU32,
    /// Requests answered since the start.
    pub requests: AtomicU64,
    /// Requests that failed at the replica: not reached, broken off or too late. An answer with a
    /// status of 500 and above is an answer, not a failure.
    pub failures: AtomicU64,
    /// Answers with a status of 500 and above.
    pub errors: AtomicU64,
    pub(super) latency: Latency,
    pub(super) histogram: Histogram,
    pub(super) place: Place,
}

impl Counters {
    pub(super) fn at(place: Place) -> Counters {
        Counters { place, ..Counters::default() }
    }

    /// Takes in how one request ended. Once a request; a second time only if its answer broke off
    /// after its head was reported.
    pub fn report(&self, now: Duration, outcome: Outcome) {
        let error = match outcome.kind {
            OutcomeKind::Answered(status) => {
                self.requests.fetch_add(1, Ordering::Relaxed);
                let error = status >= 500;
                self.errors.fetch_add(u64::from(error), Ordering::Relaxed);
                error
            }
            OutcomeKind::Unreached | OutcomeKind::Broken | OutcomeKind::TimedOut => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                true
            }
        };
        self.latency.sample(now, outcome.latency, error);
        self.histogram.add(outcome.latency);
        if error {
            let row = self.row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            self.longest_row.fetch_max(row, Ordering::Relaxed);
        } else if self.row.load(Ordering::Relaxed) != 0 {
            self.row.store(0, Ordering::Relaxed);
        }
    }

    /// Most errors in a row since the last call.
    pub(super) fn take_longest_row(&self) -> u32 {
        self.longest_row.swap(self.row.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    /// Errors in a row are counted from here on.
    pub(super) fn forgive(&self) {
        self.row.store(0, Ordering::Relaxed);
        self.longest_row.store(0, Ordering::Relaxed);
    }

    /// Requests that ended, and how many of them in an error or a failure.
    pub(super) fn ended(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let failures = load(&self.failures);
        (load(&self.requests) + failures, load(&self.errors) + failures)
    }
}

/// How one request ended at its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// From the choice to the head of the answer, or to the failure.
    pub latency: Duration,
    pub kind: OutcomeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// By its status; 500 and above is the replica's error.
    Answered(u16),
    /// No connection.
    Unreached,
    /// The connection or the answer broke off.
    Broken,
    TimedOut,
}

/// One request in flight, from [`super::Target::begin`] to its drop.
#[derive(Debug)]
pub struct InFlight(Arc<Counters>);

impl InFlight {
    /// Counts one more, whatever the limit.
    pub(super) fn begin(counters: &Arc<Counters>) -> InFlight {
        let before = counters.in_flight.fetch_add(1, Ordering::SeqCst);
        if before.saturating_add(1) >= counters.place.limit() {
            counters.place.full(&counters.in_flight);
        }
        InFlight(Arc::clone(counters))
    }

    /// Counts one more, if that keeps within the limit.
    pub(super) fn within(counters: &Arc<Counters>) -> Option<InFlight> {
        let limit = counters.place.limit();
        if limit == u32::MAX {
            return Some(InFlight::begin(counters));
        }
        let add = |count: u32| (count < limit).then_some(count + 1);
        let added = counters.in_flight.try_update(Ordering::SeqCst, Ordering::SeqCst, add).ok()?;
        if added + 1 >= limit {
            counters.place.full(&counters.in_flight);
        }
        Some(InFlight(Arc::clone(counters)))
    }

    pub fn counters(&self) -> &Counters {
        &self.0
    }

    /// As [`Counters::report`].
    pub fn report(&self, now: Duration, outcome: Outcome) {
        self.0.report(now, outcome);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.place.left(before);
    }
}

/// Load that reached the balancer, whatever became of it: demand that the replicas' CPU cannot show
/// once they are saturated or none is ready.
#[derive(Debug, Default)]
pub struct Offered {
    /// Requests that arrived since the start.
    pub arrived: AtomicU64,
    /// Requests that wait now for a ready replica with room.
    pub waiting: AtomicU32,
    /// Requests refused since the start because no replica became ready in time, or too many waited
    /// already.
    pub refused: AtomicU64,
    /// Requests sent a second time, and those that were not for want of budget.
    pub retried: AtomicU64,
    pub retries_refused: AtomicU64,
}

/// One request that waits for a ready replica, until dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Offered>);

impl Waiting {
    /// Joins the queue, unless `max` wait in it already.
    pub fn begin(offered: &Arc<Offered>, max: u32) -> Option<Waiting> {
        let add = |count: u32| (count < max).then_some(count + 1);
        offered.waiting.try_update(Ordering::AcqRel, Ordering::Acquire, add).ok()?;
        Some(Waiting(Arc::clone(offered)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
