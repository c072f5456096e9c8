//! I/O: the two bodies that stream through: the upload to the replica and its reply.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::dispatcher::Seat;
use super::pool::Wire;
use super::session::{Finish, Session, UploadState};
use super::watch::Phase;
use crate::balancer::{Outcome, OutcomeKind};

/// The body of a request; none costs nothing.
pub(super) struct Upload(Option<Piecewise>);

struct Piecewise {
    body: Incoming,
    session: Arc<Session>,
    /// Longest wait for the head of the answer, once a piece is sent.
    patience: Duration,
    /// Bytes that may still come.
    left: u64,
}

impl Upload {
    pub(super) const EMPTY: Upload = Upload(None);

    pub(super) fn new(body: Incoming, session: &Arc<Session>, patience: Duration) -> Upload {
        if body.is_end_stream() {
            return Upload::EMPTY;
        }
        let left = session.limits().body_bytes.unwrap_or(u64::MAX);
        Upload(Some(Piecewise { body, session: Arc::clone(session), patience, left }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Piecewise {
    /// Takes note of a piece, and says why it is not passed on.
    fn check(
        &mut self,
        frame: Result<Frame<Bytes>, hyper::Error>,
    ) -> Result<Frame<Bytes>, Box<dyn Error + Send + Sync>> {
        let frame = frame.inspect_err(|_| self.session.set_upload(UploadState::Broken))?;
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            None => {
                self.session.set_upload(UploadState::TooLarge);
                return Err("the body of the request is too large".into());
            }
        }
        Ok(frame)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(upload) = &mut self.0 else { return Poll::Ready(None) };
        match Pin::new(&mut upload.body).poll_frame(context) {
            Poll::Pending => {
                upload.session.await_upload();
                Poll::Pending
            }
            Poll::Ready(frame) => {
                upload.session.await_replica(upload.patience);
                Poll::Ready(frame.map(|frame| upload.check(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |upload| upload.body.size_hint())
    }
}

/// The body of an answer to a client. When it is dropped, at its end or the client's, the request
/// is over.
pub(super) enum Answer {
    Reply(Reply),
    /// Short and our own.
    Own {
        bytes: Option<Bytes>,
        _finish: Finish,
    },
}

/// A replica's answer. Its request is in flight as long as this lives.
pub(super) struct Reply {
    body: Incoming,
    wire: Option<Wire>,
    seat: Seat,
    limit: Duration,
    /// How the body broke off, told once what came before is written.
    broke: Option<hyper::Error>,
    finish: Finish,
}

impl Reply {
    pub(super) fn new(body: Incoming, wire: Wire, seat: Seat, finish: Finish) -> Reply {
        let limit = finish.session().timeouts().answer;
        finish.session().watch.enter(Phase::Answer, Some(limit));
        Reply { body, wire: Some(wire), seat, limit, broke: None, finish }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broke.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(wire) = &mut self.wire else { return Poll::Ready(None) };
        let body = &mut self.body;
        let frame = ready!(wire.drive(context, |inner| Pin::new(&mut *body).poll_frame(inner)));
        self.finish.session().watch.enter(Phase::Answer, Some(self.limit));
        match frame {
            Some(Ok(frame)) => {
                self.finish.add_bytes(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.seat.report(OutcomeKind::Broken);
                self.finish.broke();
                self.broke = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.take()
            && self.body.is_end_stream()
        {
            self.finish.session().pool().put(self.seat.address, wire);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Answer::Reply(reply) => reply.poll(context),
            Answer::Own { bytes, .. } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Reply(reply) => reply.body.is_end_stream(),
            Answer::Own { bytes, .. } => bytes.as_ref().is_none_or(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Reply(reply) => reply.body.size_hint(),
            Answer::Own { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}

impl Seat {
    /// Takes in how the request went on after what was reported before.
    pub(super) fn report(&self, kind: OutcomeKind) {
        let now = crate::io::clock::now();
        let latency = now.saturating_sub(self.since);
        self.in_flight.report(now, Outcome { latency, kind });
    }
}
