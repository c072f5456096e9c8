//! I/O: the replicas of one service as its requests meet them: chosen, waited for, chosen again.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::http::HeaderValue;
use hyper::http::request::Parts;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::forwarded::Client;
use super::refusal::Refusal;
use super::{Listener, sticky};
use crate::balancer::{InFlight, Key, RetryBudget, Session as Sticky, Snapshot, Target, Waiting};
use crate::config::Balancer;
use crate::io::clock;

/// Sends the requests of one service to its replicas.
pub struct Dispatcher {
    pub(super) settings: Balancer,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    budget: RetryBudget,
    /// A replica at its limit may have room again.
    freed: Notify,
    /// Cancelled when neither a listener nor a request needs it any more.
    gone: CancellationToken,
    _gone: DropGuard,
}

/// A replica chosen for a request, which counts as in flight there from now on.
pub(super) struct Seat {
    pub(super) address: SocketAddr,
    /// When it was chosen.
    pub(super) since: Duration,
    pub(super) in_flight: InFlight,
    /// Dropped after `in_flight`.
    _freed: Freed,
    /// For the client's cookie, if there is one to be set.
    pub(super) sticky: Option<Sticky>,
    /// For the log, if there is one.
    pub(super) replica: Option<String>,
}

/// Tells one who waits for room, where there is a limit, that there may be some.
struct Freed(Arc<Dispatcher>);

impl Drop for Freed {
    fn drop(&mut self) {
        if self.0.settings.max_in_flight.is_some() {
            self.0.freed.notify_one();
        }
    }
}

impl Dispatcher {
    /// The writer of `snapshots` should build each from the one before, so that counters go on.
    /// After its `send` has returned, no request can reach a replica that is not ready there and is
    /// not already counted in flight.
    pub fn new(settings: Balancer, snapshots: watch::Receiver<Arc<Snapshot>>) -> Dispatcher {
        let gone = CancellationToken::new();
        Dispatcher {
            budget: RetryBudget::new(settings.retry.share, settings.retry.min_per_second),
            settings,
            snapshots,
            freed: Notify::new(),
            _gone: gone.clone().drop_guard(),
            gone,
        }
    }

    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Counts a request.
    pub(super) fn arrived(&self) {
        self.snapshots.borrow().offered().arrived.fetch_add(1, Ordering::Relaxed);
        self.budget.arrived();
    }

    /// Chooses a replica, and waits for one while none is ready with room.
    pub(super) async fn seat(
        self: &Arc<Self>,
        key: Key,
        listener: &Listener,
    ) -> Result<Seat, Refusal> {
        let take = |snapshot: &Snapshot| {
            let now = clock::now();
            let (target, in_flight) = snapshot.take(key, listener.draw(), now)?;
            Some(self.seated(target, in_flight, now, key.session, listener))
        };
        // Chosen and counted while the snapshot is borrowed: see the head of `crate::balancer`.
        if let Some(seat) = take(&self.snapshots.borrow()) {
            return Ok(seat);
        }
        let offered = Arc::clone(self.snapshots.borrow().offered());
        let refused = || {
            offered.refused.fetch_add(1, Ordering::Relaxed);
            let retry_after = self.settings.queue.timeout;
            if self.snapshots.borrow().is_full() {
                Refusal::Full { retry_after }
            } else {
                Refusal::NoReplicaReady { retry_after }
            }
        };
        let Some(_waiting) = Waiting::begin(&offered, self.settings.queue.max) else {
            return Err(refused());
        };
        let mut snapshots = self.snapshots.clone();
        let wait = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                freed.as_mut().enable();
                if let Some(seat) = take(&snapshots.borrow_and_update()) {
                    return Some(seat);
                }
                tokio::select! {
                    changed = snapshots.changed() => changed.ok()?,
                    () = freed => {}
                }
            }
        };
        let seat = tokio::time::timeout(self.settings.queue.timeout, wait).await;
        // Too late, or nobody is left to publish a snapshot: the same to the client.
        seat.ok().flatten().ok_or_else(refused)
    }

    /// Another replica than the one that failed; the same if it is the only one. `None` if the
    /// budget for retries is spent.
    pub(super) fn second_seat(self: &Arc<Self>, failed: Seat, listener: &Listener) -> Option<Seat> {
        let now = clock::now();
        let snapshot = self.snapshots.borrow();
        let offered = snapshot.offered();
        if !self.budget.try_retry(now) {
            offered.retries_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        offered.retried.fetch_add(1, Ordering::Relaxed);
        let address = failed.address;
        drop(failed);
        let taken = snapshot.take_other(address, listener.draw());
        let taken = taken.or_else(|| snapshot.take(Key::default(), listener.draw(), now));
        taken.map(|(target, in_flight)| self.seated(target, in_flight, now, None, listener))
    }

    fn seated(
        self: &Arc<Self>,
        target: &Target,
        in_flight: InFlight,
        since: Duration,
        session: Option<Sticky>,
        listener: &Listener,
    ) -> Seat {
        let chosen = self.settings.sticky.is_some().then(|| target.session());
        Seat {
            address: target.address,
            since,
            in_flight,
            _freed: Freed(Arc::clone(self)),
            sticky: chosen.filter(|chosen| session != Some(*chosen)),
            replica: listener.log.is_some().then(|| target.id.clone()),
        }
    }

    /// What the choice may depend on.
    pub(super) fn key(&self, head: &Parts, client: &Client) -> Key {
        let header = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let session = self.settings.sticky.as_ref().and_then(|s| sticky::read(&head.headers, s));
        Key { client: Some(client.address), key: self.settings.key.hash(target, header), session }
    }
}
