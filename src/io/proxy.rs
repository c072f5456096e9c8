//! I/O: the built-in reverse proxy in front of the replicas.
//!
//! HTTP/1.1 on both sides, connections kept alive on both, bodies streamed both ways and never held
//! whole. A request goes to the replica that the [`Snapshot`] picks; while none is ready with room
//! it waits. It counts as in flight at its replica until the last byte of the answer is passed on,
//! so a replica may be stopped once it is not ready and has nothing in flight. A client that goes
//! away, or closes its sending side, cancels its request at the replica.
//!
//! Several services may share a listener; the host and the path of a request tell which one it is
//! for ([`Routes`]), each request anew.
//!
//! A client's connection stays on one thread, and so do the connections to replicas that its
//! requests use: client and replica are one task, and an exchange costs no wake-up in between.
//!
//! Known limits: no TLS and no HTTP/2.

mod access_log;
mod body;
mod connection;
mod dispatcher;
mod exchange;
mod failure;
mod forwarded;
mod gather;
mod headers;
mod listeners;
mod pool;
mod refusal;
mod session;
mod sticky;
mod threads;
mod tunnel;
mod watch;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::http::HeaderValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::dispatcher::Dispatcher;
pub use self::listeners::{JoinError, Listeners, Place};
pub use self::threads::Threads;

use self::access_log::AccessLog;
use self::connection::Connection;
use self::pool::Pool;
use self::refusal::Refusal;
use self::watch::Ticker;
use crate::balancer::{self, STRIDE, mix};
use crate::config;

/// Where requests lead.
pub type Routes = balancer::Routes<Arc<Dispatcher>>;

/// Pause after a failed accept, which mostly means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of one listener share.
struct Listener {
    settings: config::Proxy,
    routes: channel::Receiver<Arc<Routes>>,
    /// One for each thread.
    pools: Box<[Pool]>,
    /// Counts the draws; starts at a random place.
    draws: AtomicU64,
    ticker: Arc<Ticker>,
    /// As many as connections are allowed. At most as many again are told that there are too many,
    /// which takes a moment each.
    admissions: Arc<Semaphore>,
    log: Option<AccessLog>,
}

impl Listener {
    fn new(
        settings: config::Proxy,
        routes: channel::Receiver<Arc<Routes>>,
        threads: usize,
    ) -> Listener {
        let log = settings.access_log.as_ref().and_then(|settings| {
            let path = settings.path.display();
            let failed = |error: &std::io::Error| tracing::error!(%path, %error, "no access log");
            AccessLog::open(settings).inspect_err(failed).ok()
        });
        let admissions = Arc::new(Semaphore::new(settings.limits.connections as usize));
        Listener {
            settings,
            routes,
            pools: (0..threads).map(|_| Pool::default()).collect(),
            draws: AtomicU64::new(RandomState::new().hash_one(0)),
            ticker: Arc::default(),
            admissions,
            log,
        }
    }

    fn draw(&self) -> u64 {
        mix(self.draws.fetch_add(STRIDE, Ordering::Relaxed))
    }

    /// Whether to believe what this peer says of its clients.
    fn trusts(&self, peer: IpAddr) -> bool {
        self.settings.trusted_proxies.iter().any(|network| network.contains(peer))
    }

    /// Whose a request is. A host that is not text has routes for any host only.
    fn route(&self, host: Option<&HeaderValue>, path: &str) -> Result<Arc<Dispatcher>, Refusal> {
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        self.routes.borrow().find(host, path).cloned().ok_or(Refusal::NoRoute)
    }

    /// Longest wait for any answer.
    fn patience(&self) -> Duration {
        let routes = self.routes.borrow();
        routes.iter().map(|it| it.settings.response_timeout).max().unwrap_or_default()
    }
}

/// Serves until `shutdown`, then accepts no more and finishes the requests in flight, for at most
/// the longest `response_timeout` of the services.
pub async fn serve(
    socket: TcpListener,
    settings: config::Proxy,
    routes: channel::Receiver<Arc<Routes>>,
    threads: Threads,
    shutdown: CancellationToken,
) {
    let listener = Arc::new(Listener::new(settings, routes, threads.count()));
    let tasks = TaskTracker::new();
    let crowd = 2 * listener.settings.limits.connections as usize;
    let keepers = {
        let listener = Arc::clone(&listener);
        tokio::spawn(async move {
            tokio::join!(listener.ticker.run(), Pool::sweep_all(&listener.pools))
        })
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let taken_in = accepted.and_then(|(stream, peer)| {
            let stream = stream.into_std()?;
            let admission = Arc::clone(&listener.admissions).try_acquire_owned().ok();
            if admission.is_none() && tasks.len() >= crowd {
                return Ok(());
            }
            threads.spawn(|counted| {
                let stream = TcpStream::from_std(stream)?;
                let (listener, token) = (Arc::clone(&listener), tasks.token());
                Ok(Connection::new(listener, stream, peer, admission, counted, token))
            })
        });
        if let Err(error) = taken_in {
            tracing::warn!(%error, "the balancer cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    drop(socket);
    tasks.close();
    listener.ticker.stop();
    if tokio::time::timeout(listener.patience(), tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests cut off at shutdown");
        listener.ticker.abort();
        tasks.wait().await;
    }
    keepers.abort();
}
