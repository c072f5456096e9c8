//! I/O: the way of one request: wait for a replica, send, retry where safe, pass the answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};

use tokio::sync::Notify;

use super::access_log::Entry;
use super::body::{Answer, Reply, Upload};
use super::failure::{Failed, Failure};
use super::forwarded::{self, Client};
use super::headers;
use super::pool::Wire;
use super::refusal::Refusal;
use super::session::{Finish, Session, Tunnel, UploadState};
use super::watch::Phase;
use super::{Proxy, sticky};
use crate::balancer::{InFlight, Key, OutcomeKind, Session as Sticky, Target, Waiting};
use crate::io::clock;

/// A replica chosen for a request, which counts as in flight there from now on.
pub(super) struct Seat {
    pub(super) address: SocketAddr,
    /// When it was chosen.
    pub(super) since: Duration,
    pub(super) in_flight: InFlight,
    /// Dropped after `in_flight`.
    _freed: Freed,
    /// For the client's cookie, if there is one to be set.
    sticky: Option<Sticky>,
    /// For the log, if there is one.
    replica: Option<String>,
}

/// Tells one who waits for room, where there is a limit, that there may be some.
struct Freed(Option<Arc<Notify>>);

impl Drop for Freed {
    fn drop(&mut self) {
        if let Some(freed) = &self.0 {
            freed.notify_one();
        }
    }
}

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
    let proxy = Arc::clone(&session.proxy);
    let close = headers::must_close_after(&request);
    let trusted = proxy.trusts(session.peer);
    let networks = &proxy.settings.proxy.trusted_proxies;
    let client = Client::of(session.peer, trusted, request.headers(), networks, proxy.draw());
    let entry = proxy.log.is_some().then(|| Box::new(Entry::new(&request, client.address)));
    let finish = Finish::new(Arc::clone(&session), entry);
    let mut answer = match forward(&proxy, request, client, finish).await {
        Ok(answer) => answer,
        Err((refusal, mut finish)) => {
            let (mut parts, body) = refusal.answer(&proxy.settings).into_parts();
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
    proxy: &Proxy,
    request: Request<Incoming>,
    client: Client,
    mut finish: Finish,
) -> Result<Response<Answer>, (Refusal, Finish)> {
    let session = Arc::clone(finish.session());
    proxy.snapshots.borrow().offered().arrived.fetch_add(1, Ordering::Relaxed);
    proxy.budget.arrived();
    let host = match headers::checked_host(&request).and_then(|host| {
        headers::check_length(&request, session.limits().body_bytes)?;
        Ok(host)
    }) {
        Ok(host) => host,
        Err(refusal) => return Err((refusal, finish)),
    };
    let (mut head, body) = request.into_parts();
    let key = proxy.key(&head, &client);
    let upgrades = headers::upgrade(&head.headers).is_some();
    headers::rewrite_request(&mut head, host, &client, proxy.settings.proxy.forwarded);
    if let Some(entry) = finish.entry() {
        entry.request_id = head.headers.get(forwarded::REQUEST_ID).cloned();
    }
    let upload = Upload::new(body, &session);
    let result = proxy.exchange(&session, key, Request::from_parts(head, upload)).await;
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
    if let (Some(settings), Some(chosen)) = (&proxy.settings.sticky, seat.sticky) {
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

impl Proxy {
    /// Brings the request to a replica, and to another one if that cannot do harm.
    async fn exchange(
        &self,
        session: &Arc<Session>,
        key: Key,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Wire, Seat), Refusal> {
        let repeatable = request.method().is_idempotent() && request.body().is_empty();
        let copy = repeatable.then(|| copy_of(&request));
        let seat = self.seat(key).await?;
        let failed = match self.attempt(session, &seat, request).await {
            Ok((response, wire)) => return Ok((response, wire, seat)),
            Err(failed) => failed,
        };
        let again = match failed.why {
            Failure::Unreached { .. } => failed.unsent.or(copy),
            Failure::Broken => copy,
            Failure::TimedOut | Failure::Upload(_) | Failure::UploadTimedOut => None,
        };
        let (Some(request), Some(seat)) = (again, self.second_seat(seat)) else {
            return Err(failed.why.into());
        };
        match self.attempt(session, &seat, request).await {
            Ok((response, wire)) => Ok((response, wire, seat)),
            Err(failed) => Err(failed.why.into()),
        }
    }

    /// Chooses a replica, and waits for one while none is ready with room.
    async fn seat(&self, key: Key) -> Result<Seat, Refusal> {
        let take = |snapshot: &crate::balancer::Snapshot| {
            let now = clock::now();
            let (target, in_flight) = snapshot.take(key, self.draw(), now)?;
            Some(self.seated(target, in_flight, now, key.session))
        };
        // Chosen and counted while the snapshot is borrowed: see the head of `crate::balancer`.
        if let Some(seat) = take(&self.snapshots.borrow()) {
            return Ok(seat);
        }
        let offered = Arc::clone(self.snapshots.borrow().offered());
        let refused = || {
            offered.refused.fetch_add(1, Ordering::Relaxed);
            if self.snapshots.borrow().is_full() { Refusal::Full } else { Refusal::NoReplicaReady }
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
    fn second_seat(&self, failed: Seat) -> Option<Seat> {
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
        let taken = snapshot.take_other(address, self.draw());
        let taken = taken.or_else(|| snapshot.take(Key::default(), self.draw(), now));
        taken.map(|(target, in_flight)| self.seated(target, in_flight, now, None))
    }

    fn seated(
        &self,
        target: &Target,
        in_flight: InFlight,
        since: Duration,
        session: Option<Sticky>,
    ) -> Seat {
        let chosen = self.settings.sticky.is_some().then(|| target.session());
        Seat {
            address: target.address,
            since,
            in_flight,
            _freed: Freed(self.settings.max_in_flight.map(|_| Arc::clone(&self.freed))),
            sticky: chosen.filter(|chosen| session != Some(*chosen)),
            replica: self.log.is_some().then(|| target.id.clone()),
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
            let kept = self.pool.take(seat.address);
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

    /// What the choice may depend on.
    fn key(&self, head: &Parts, client: &Client) -> Key {
        let header = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let session = self.settings.sticky.as_ref().and_then(|s| sticky::read(&head.headers, s));
        Key { client: Some(client.address), key: self.settings.key.hash(target, header), session }
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
