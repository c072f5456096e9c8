//! I/O: the two bodies that stream through: the upload to the replica and its reply.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::balancer::InFlight;

/// The body of a request. Clones share it, so that it is still there for a second replica if the
/// first could not even be connected to. The lock is free whenever it is asked for: only one
/// attempt is under way at a time.
#[derive(Clone)]
pub(super) struct Upload(Arc<Mutex<Shared>>);

struct Shared {
    body: Incoming,
    last_progress: Instant,
    broken: bool,
}

impl Upload {
    pub(super) fn new(body: Incoming) -> Upload {
        Upload(Arc::new(Mutex::new(Shared { body, last_progress: Instant::now(), broken: false })))
    }

    /// When the client's newest piece was passed on.
    pub(super) fn last_progress(&self) -> Instant {
        self.lock().last_progress
    }

    /// Whether the client broke off or sent what is no body.
    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut shared = self.lock();
        let frame = ready!(Pin::new(&mut shared.body).poll_frame(context));
        shared.last_progress = Instant::now();
        shared.broken = matches!(frame, Some(Err(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

/// The body of an answer; its request is in flight until the body is dropped, at its end or the
/// client's.
pub(super) struct Reply {
    body: Incoming,
    in_flight: InFlight,
}

impl Reply {
    pub(super) fn new(body: Incoming, in_flight: InFlight) -> Reply {
        Reply { body, in_flight }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Err(_)) = &frame {
            self.in_flight.counters().failures.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
