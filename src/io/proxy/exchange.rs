//! I/O: the way of one request: wait for a replica, send, retry where safe, pass the answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::access_log::Entry;
use super::body::{Answer, Reply, Upload};
use super::dispatcher::Seat;
use super::failure::{Failed, Failure};
use super::forwarded::{self, Client};
use super::headers;
use super::pool::Wire;
use super::refusal::Refusal;
use super::session::{Finish, Session, Tunnel, UploadState};
use super::watch::Phase;
use super::{Dispatcher, sticky};
use crate::balancer::{Key, OutcomeKind};

/// Answers the requests of one connection.
pub(super) struct Service(pub(super) Arc<Session>);

type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let session = Arc::clone(&self.0);
        Box::pin(async move { Ok(answer(session, request).await) })
    }
}

async fn answer(session: Arc<Session>, request: Request<Incoming>) -> Response<Answer> {
    session.begin_request();
    let listener = &session.listener;
    let close = headers::must_close_after(&request);
    let trusted = listener.trusts(session.peer);
    let networks = &listener.settings.trusted_proxies;
    let client = Client::of(session.peer, trusted, request.headers(), networks, listener.draw());
    let entry = listener.log.is_some().then(|| Box::new(Entry::new(&request, client.address)));
    let finish = Finish::new(Arc::clone(&session), entry);
    let mut answer = match forward(request, client, finish).await {
        Ok(answer) => answer,
        Err((refusal, mut finish)) => {
            let (mut parts, body) = refusal.answer().into_parts();
            if refusal.ends_connection() {
                headers::close_after(&mut parts.headers);
            }
            if let Some(entry) = finish.entry() {
                entry.status = parts.status.as_u16();
                entry.bytes = body.len() as u64;
            }
            Response::from_parts(parts, Answer::Own { bytes: Some(body), _finish: finish })
        }
    };
    if close {
        headers::close_after(answer.headers_mut());
    }
    answer
}

async fn forward(
    request: Request<Incoming>,
    client: Client,
    mut finish: Finish,
) -> Result<Response<Answer>, (Refusal, Finish)> {
    let session = Arc::clone(finish.session());
    let listener = &session.listener;
    let admitted = headers::checked_host(&request).and_then(|host| {
        headers::check_length(&request, session.limits().body_bytes)?;
        Ok((listener.route(host.as_ref(), request.uri().path())?, host))
    });
    let (dispatcher, host) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return Err((refusal, finish)),
    };
    dispatcher.arrived();
    let (mut head, body) = request.into_parts();
    let key = dispatcher.key(&head, &client);
    let upgrades = headers::upgrade(&head.headers).is_some();
    headers::rewrite_request(&mut head, host, &client, listener.settings.forwarded);
    if let Some(entry) = finish.entry() {
        entry.request_id = head.headers.get(forwarded::REQUEST_ID).cloned();
    }
    let upload = Upload::new(body, &session, dispatcher.settings.response_timeout);
    let result = dispatcher.exchange(&session, key, Request::from_parts(head, upload)).await;
    let (response, wire, seat) = match result {
        Ok(answered) => answered,
        Err(refusal) => return Err((refusal, finish)),
    };
    if let Some(entry) = finish.entry() {
        entry.status = response.status().as_u16();
        entry.replica = seat.replica.clone();
    }
    let (mut head, body) = response.into_parts();
    headers::rewrite_response(&mut head);
    if let (Some(settings), Some(chosen)) = (&dispatcher.settings.sticky, seat.sticky) {
        sticky::set(&mut head.headers, settings, chosen);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if !upgrades {
            return Err((Refusal::ReplicaBroke, finish));
        }
        let (stream, read) = wire.into_stream();
        *session.tunnel() = Some(Tunnel { stream, read, seat });
        return Ok(Response::from_parts(head, Answer::Own { bytes: None, _finish: finish }));
    }
    Ok(Response::from_parts(head, Answer::Reply(Reply::new(body, wire, seat, finish))))
}

impl Dispatcher {
    /// Brings the request to a replica, and to another one if that cannot do harm.
    async fn exchange(
        self: &Arc<Self>,
        session: &Arc<Session>,
        key: Key,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Wire, Seat), Refusal> {
        let repeatable = request.method().is_idempotent() && request.body().is_empty();
        let copy = repeatable.then(|| copy_of(&request));
        let seat = self.seat(key, &session.listener).await?;
        let failed = match self.attempt(session, &seat, request).await {
            Ok((response, wire)) => return Ok((response, wire, seat)),
            Err(failed) => failed,
        };
        let again = match failed.why {
            Failure::Unreached { .. } => failed.unsent.or(copy),
            Failure::Broken => copy,
            Failure::TimedOut | Failure::Upload(_) | Failure::UploadTimedOut => None,
        };
        let (Some(request), Some(seat)) = (again, self.second_seat(seat, &session.listener)) else {
            return Err(failed.why.into());
        };
        match self.attempt(session, &seat, request).await {
            Ok((response, wire)) => Ok((response, wire, seat)),
            Err(failed) => Err(failed.why.into()),
        }
    }

    /// Sends the request to one replica, up to the head of its answer.
    async fn attempt(
        &self,
        session: &Session,
        seat: &Seat,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Wire), Failed> {
        loop {
            let kept = session.pool().take(seat.address);
            let reused = kept.is_some();
            let mut wire = match kept {
                Some(wire) => wire,
                None => match self.connect(session, seat.address).await {
                    Ok(wire) => wire,
                    Err(why) => {
                        seat.report(why.outcome());
                        return Err(Failed { why, unsent: Some(request) });
                    }
                },
            };
            let sent = self.send(session, &mut wire, request).await;
            let (why, unsent) = match sent {
                Ok(response) => {
                    seat.report(OutcomeKind::Answered(response.status().as_u16()));
                    return Ok((response, wire));
                }
                Err(failed) => (failed.why, failed.unsent),
            };
            match unsent {
                // The replica closed a kept connection just now; that is nobody's failure.
                Some(unsent) if reused => request = unsent,
                unsent => {
                    if !matches!(why, Failure::Upload(_) | Failure::UploadTimedOut) {
                        seat.report(why.outcome());
                    }
                    return Err(Failed { why, unsent });
                }
            }
        }
    }

    async fn connect(&self, session: &Session, address: SocketAddr) -> Result<Wire, Failure> {
        session.watch.enter(Phase::Elsewhere, None);
        let connected = Wire::connect(address);
        match tokio::time::timeout(self.settings.connect_timeout, connected).await {
            Ok(Ok(wire)) => Ok(wire),
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "the replica cannot be reached");
                let timed_out = error.kind() == std::io::ErrorKind::TimedOut;
                Err(Failure::Unreached { timed_out })
            }
            Err(_) => Err(Failure::Unreached { timed_out: true }),
        }
    }

    async fn send(
        &self,
        session: &Session,
        wire: &mut Wire,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Failed> {
        session.watch.enter(Phase::Replica, Some(self.settings.response_timeout));
        let mut sent = pin!(wire.send(request));
        let failed = |why| Failed { why, unsent: None };
        poll_fn(|context| {
            let polled = wire.drive(context, |inner| sent.as_mut().poll(inner));
            if let Poll::Ready(Ok(response)) = polled {
                return Poll::Ready(Ok(response));
            }
            let state = session.upload();
            if state != UploadState::Whole {
                return Poll::Ready(Err(failed(Failure::Upload(state))));
            }
            match (polled, session.watch.overdue()) {
                (Poll::Ready(Err(mut error)), _) => {
                    let unsent = error.take_message();
                    tracing::debug!(error = %error.error(), "no answer from the replica");
                    let why = match unsent {
                        Some(_) => Failure::Unreached { timed_out: false },
                        None => Failure::Broken,
                    };
                    Poll::Ready(Err(Failed { why, unsent }))
                }
                (_, Some(Phase::Replica)) => Poll::Ready(Err(failed(Failure::TimedOut))),
                (_, Some(Phase::Upload)) => Poll::Ready(Err(failed(Failure::UploadTimedOut))),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

/// A request without a body, once more.
fn copy_of(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::EMPTY);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
