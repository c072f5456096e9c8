//! I/O: the built-in reverse proxy in front of the replicas.
//!
//! HTTP/1.1 on both sides, connections kept alive on both, bodies streamed both ways and never held
//! whole. A request goes to the replica that the [`Snapshot`] picks; while none is ready with room
//! it waits. It counts as in flight at its replica until the last byte of the answer is passed on,
//! so a replica may be stopped once it is not ready and has nothing in flight. A client that goes
//! away, or closes its sending side, cancels its request at the replica.
//!
//! A client's connection stays on one thread, and so do the connections to replicas that its
//! requests use: client and replica are one task, and an exchange costs no wake-up in between.
//!
//! Known limits: no TLS and no HTTP/2.

mod access_log;
mod body;
mod connection;
mod exchange;
mod failure;
mod forwarded;
mod headers;
mod pool;
mod refusal;
mod session;
mod sticky;
mod threads;
mod tunnel;
mod watch;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch as channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::threads::Threads;

use self::access_log::AccessLog;
use self::pool::Pool;
use self::refusal::Refusal;
use self::watch::Ticker;
use crate::balancer::{RetryBudget, STRIDE, Snapshot, mix};
use crate::config::Balancer;

/// Pause after a failed accept, which mostly means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of one listener share.
struct Proxy {
    settings: Balancer,
    snapshots: channel::Receiver<Arc<Snapshot>>,
    pool: Pool,
    budget: RetryBudget,
    /// A replica at its limit may have room again.
    freed: Arc<Notify>,
    /// Counts the draws; starts at a random place.
    draws: AtomicU64,
    ticker: Arc<Ticker>,
    log: Option<AccessLog>,
}

impl Proxy {
    fn new(settings: Balancer, snapshots: channel::Receiver<Arc<Snapshot>>) -> Proxy {
        let log = settings.proxy.access_log.as_ref().and_then(|settings| {
            let path = settings.path.display();
            let failed = |error: &std::io::Error| tracing::error!(%path, %error, "no access log");
            AccessLog::open(settings).inspect_err(failed).ok()
        });
        Proxy {
            budget: RetryBudget::new(settings.retry.share, settings.retry.min_per_second),
            settings,
            snapshots,
            pool: Pool::default(),
            freed: Arc::default(),
            draws: AtomicU64::new(RandomState::new().hash_one(0)),
            ticker: Arc::default(),
            log,
        }
    }

    fn draw(&self) -> u64 {
        mix(self.draws.fetch_add(STRIDE, Ordering::Relaxed))
    }

    /// Whether to believe what this peer says of its clients.
    fn trusts(&self, peer: IpAddr) -> bool {
        self.settings.proxy.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

/// Serves until `shutdown`, then accepts no more and finishes the requests in flight, for at most
/// the settings' `response_timeout`. `settings.listen` is not looked at; the listener is bound
/// already.
///
/// The writer of `snapshots` should build each from the one before, so that counters go on. After
/// its `send` has returned, no request can reach a replica that is not ready there and is not
/// already counted in flight.
pub async fn serve(
    listener: TcpListener,
    settings: Balancer,
    snapshots: channel::Receiver<Arc<Snapshot>>,
    threads: Threads,
    shutdown: CancellationToken,
) {
    let limit = settings.response_timeout;
    let proxy = Arc::new(Proxy::new(settings, snapshots));
    let tasks = TaskTracker::new();
    let keepers = {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move { tokio::join!(proxy.ticker.run(), proxy.pool.sweep()) })
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => take_in(&proxy, &threads, &tasks, stream, peer),
            Err(error) => {
                tracing::warn!(%error, "the balancer cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    proxy.ticker.stop();
    if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests cut off at shutdown");
        proxy.ticker.abort();
        tasks.wait().await;
    }
    keepers.abort();
}

/// Hands a connection to a thread, or refuses it there if there are too many.
fn take_in(
    proxy: &Arc<Proxy>,
    threads: &Threads,
    tasks: &TaskTracker,
    stream: std::net::TcpStream,
    peer: SocketAddr,
) {
    let admitted = tasks.len() < proxy.settings.proxy.limits.connections as usize;
    let (proxy, token) = (Arc::clone(proxy), tasks.token());
    threads.spawn(move || {
        Box::pin(async move {
            let _token = token;
            // The system refuses to watch one more socket.
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            if admitted {
                connection::serve(proxy, stream, peer).await;
            } else {
                let answer = Refusal::TooManyConnections.raw(&proxy.settings);
                drop(proxy);
                Box::pin(connection::refuse(stream, answer)).await;
            }
        })
    });
}
