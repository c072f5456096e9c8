//! I/O: the way of one request: wait for a replica, send, retry once where safe, pass the answer.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Reply, Upload};
use super::refusal::Refusal;
use super::{headers, tunnel};
use crate::balancer::{InFlight, Key, Snapshot, Target, Waiting, mix};
use crate::config::Balancer;
use crate::io::clock;

/// An idle connection to a replica is closed after this time: below the 5 s after which common
/// servers (Node, uvicorn) close it themselves, for a request sent into that moment is lost, and a
/// POST may not be sent twice.
const REPLICA_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// What the client gets: a replica's answer, or a short text of our own.
pub(super) type Answer = Response<Either<Reply, Full<Bytes>>>;

/// What all connections of one listener share.
pub(super) struct Proxy {
    settings: Balancer,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    client: Client<HttpConnector, Upload>,
    /// Counts the draws; starts at a random place.
    draws: AtomicU64,
    /// Client connections and tunnels, awaited at shutdown.
    pub(super) tasks: TaskTracker,
    /// Ends those that shutdown cannot wait for.
    pub(super) abort: CancellationToken,
}

/// A replica chosen for a request, which counts as in flight there from now on.
struct Seat {
    address: SocketAddr,
    in_flight: InFlight,
}

/// Why a replica gave no answer.
enum Failure {
    /// No connection, so that no byte of the request was sent.
    Unreached {
        timed_out: bool,
    },
    Broken,
    TimedOut,
    /// The client's own body broke off, which is not the replica's failure.
    Upload,
}

impl Proxy {
    pub(super) fn new(settings: Balancer, snapshots: watch::Receiver<Arc<Snapshot>>) -> Proxy {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REPLICA_IDLE_TIMEOUT)
            .build(connector);
        Proxy {
            settings,
            snapshots,
            client,
            draws: AtomicU64::new(RandomState::new().hash_one(0)),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Answer, Infallible> {
        let close = headers::must_close_after(&request);
        let mut answer = match self.forward(request, client).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer(&self.settings).map(Either::Right),
        };
        if close {
            headers::close_after(answer.headers_mut());
        }
        Ok(answer)
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Answer, Refusal> {
        let host = headers::checked_host(&request)?;
        self.snapshots.borrow().offered().arrived.fetch_add(1, Ordering::Relaxed);
        let upgraded = headers::upgrade(request.headers()).is_some();
        let client_side = upgraded.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let repeatable = head.method.is_idempotent() && body.is_end_stream();
        headers::rewrite_request(&mut head, host, client);
        let upload = Upload::new(body);

        let mut seat = self.seat(Key { client: Some(client), ..Key::default() }).await?;
        let mut result = self.attempt(&seat, &head, &upload).await;
        if let Err(failure) = &result
            && failure.allows_retry(repeatable)
            && let Some(other) = self.other_seat(seat.address)
        {
            seat = other;
            result = self.attempt(&seat, &head, &upload).await;
        }
        let mut response = result?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let sides = client_side.map(|client| (client, hyper::upgrade::on(&mut response)));
            let (client, replica) = sides.ok_or(Refusal::ReplicaBroke)?;
            self.tasks.spawn(tunnel::run(client, replica, seat.in_flight, self.abort.clone()));
            headers::rewrite_response(&mut response);
            return Ok(response.map(|_| Either::Right(Full::default())));
        }
        headers::rewrite_response(&mut response);
        Ok(response.map(|body| Either::Left(Reply::new(body, seat.in_flight))))
    }

    /// Picks a replica, and waits for one while none is ready.
    async fn seat(&self, key: Key) -> Result<Seat, Refusal> {
        if let Some(seat) = self.take(|snapshot, random| snapshot.pick(key, random, clock::now())) {
            return Ok(seat);
        }
        let offered = Arc::clone(self.snapshots.borrow().offered());
        let waiting = Waiting::begin(&offered, self.settings.queue.max);
        let _waiting = waiting.ok_or_else(|| {
            offered.refused.fetch_add(1, Ordering::Relaxed);
            Refusal::NoReplicaReady
        })?;
        let mut snapshots = self.snapshots.clone();
        let mut seat = None;
        let found = snapshots.wait_for(|snapshot| {
            seat = snapshot.pick(key, self.draw(), clock::now()).map(Seat::new);
            seat.is_some()
        });
        // Too late, or nobody is left to publish a snapshot: the same to the client.
        let _ = tokio::time::timeout(self.settings.queue.timeout, found).await.is_ok();
        seat.ok_or_else(|| {
            offered.refused.fetch_add(1, Ordering::Relaxed);
            Refusal::NoReplicaReady
        })
    }

    /// Another replica than the one that failed; the same if it is the only one.
    fn other_seat(&self, failed: SocketAddr) -> Option<Seat> {
        self.take(|snapshot, random| {
            let other = snapshot.pick_other(failed, random);
            other.or_else(|| snapshot.ready().first())
        })
    }

    /// Chooses and counts while the snapshot is borrowed: see the head of [`crate::balancer`].
    fn take(&self, pick: impl Fn(&Snapshot, u64) -> Option<&Target>) -> Option<Seat> {
        pick(&self.snapshots.borrow(), self.draw()).map(Seat::new)
    }

    fn draw(&self) -> u64 {
        // The golden ratio, SplitMix64's stride through the counter.
        mix(self.draws.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    /// Sends the request to one replica, up to the head of its answer.
    async fn attempt(
        &self,
        seat: &Seat,
        head: &Parts,
        upload: &Upload,
    ) -> Result<Response<Incoming>, Failure> {
        let request = headers::addressed(head, seat.address, upload.clone());
        let mut answer = pin!(self.client.request(request));
        let started = Instant::now();
        // Counted from the client's newest piece, so that a long upload is no timeout.
        let due = || upload.last_progress().max(started) + self.settings.response_timeout;
        let result = loop {
            let deadline = due();
            match tokio::time::timeout_at(deadline, answer.as_mut()).await {
                Ok(Err(_)) if upload.is_broken() => break Err(Failure::Upload),
                Ok(answered) => break answered.map_err(|error| Failure::from_client(&error)),
                Err(_) if due() > deadline => {}
                Err(_) => break Err(Failure::TimedOut),
            }
        };
        let counters = seat.in_flight.counters();
        match result {
            Ok(_) => counters.requests.fetch_add(1, Ordering::Relaxed),
            Err(Failure::Upload) => 0,
            Err(_) => counters.failures.fetch_add(1, Ordering::Relaxed),
        };
        result
    }
}

impl Seat {
    fn new(target: &Target) -> Seat {
        Seat { address: target.address, in_flight: target.begin() }
    }
}

impl Failure {
    fn from_client(error: &hyper_util::client::legacy::Error) -> Failure {
        if !error.is_connect() {
            return Failure::Broken;
        }
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Failure::Unreached { timed_out: error.kind() == io::ErrorKind::TimedOut };
            }
            cause = error.source();
        }
        Failure::Unreached { timed_out: false }
    }

    /// Whether the request may be sent again without the risk that it is carried out twice.
    fn allows_retry(&self, repeatable: bool) -> bool {
        match self {
            Failure::Unreached { .. } => true,
            Failure::Broken => repeatable,
            Failure::TimedOut | Failure::Upload => false,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::Unreached { timed_out: false } => Refusal::ReplicaUnreached,
            Failure::Broken => Refusal::ReplicaBroke,
            Failure::Upload => Refusal::BadRequest("the body of the request broke off"),
            Failure::Unreached { timed_out: true } | Failure::TimedOut => Refusal::ReplicaTimedOut,
        }
    }
}
