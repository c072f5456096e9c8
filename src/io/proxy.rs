//! I/O: the built-in reverse proxy in front of the replicas.
//!
//! HTTP/1.1 on both sides, connections kept alive on both, bodies streamed both ways and never held
//! whole. A request goes to the replica that the [`Snapshot`] picks; while none is ready it waits.
//! It counts as in flight at its replica until the last byte of the answer is passed on, so a
//! replica may be stopped once it is not ready and has nothing in flight. A client that goes away,
//! or closes its sending side, cancels its request at the replica.
//!
//! Known limits: no TLS and no HTTP/2; no bound on requests that wait; once an answer has begun it
//! may take as long as it likes, since a model that streams its words may well pause. What clients
//! say in `X-Forwarded-*` is passed on, so replicas may believe it only as far as they believe
//! whoever stands in front of this proxy.

mod body;
mod forward;
mod headers;
mod refusal;
mod tunnel;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::forward::Proxy;
use crate::balancer::Snapshot;
use crate::config::Balancer;

/// Longest wait for the head of a request, from the connection's opening or the answer before; so
/// it is also how long an idle client connection is kept.
const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest head of a request; nginx's four buffers of 8 KiB, doubled.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Pause after a failed accept, which mostly means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shutdown: CancellationToken,
) {
    let limit = settings.response_timeout;
    let proxy = Arc::new(Proxy::new(settings, snapshots));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let served = connection(Arc::clone(&proxy), stream, peer, shutdown.clone());
                proxy.tasks.spawn(served);
            }
            Err(error) => {
                tracing::warn!(%error, "the balancer cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    proxy.tasks.close();
    if tokio::time::timeout(limit, proxy.tasks.wait()).await.is_err() {
        tracing::warn!(connections = proxy.tasks.len(), "requests cut off at shutdown");
        proxy.abort.cancel();
        proxy.tasks.wait().await;
    }
}

/// Serves one client connection to its end.
async fn connection(
    proxy: Arc<Proxy>,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
) {
    // Small answers go out at once; a socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    let abort = proxy.abort.clone();
    let service = service_fn(|request| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.answer(request, peer.ip()).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(CLIENT_IDLE_TIMEOUT);
    http.max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_HEAD_BYTES);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let finished = tokio::select! {
        finished = served.as_mut() => finished,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                finished = served => finished,
                () = abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%peer, %error, "client connection ended early");
    }
}
