//! I/O: a CPU-bound HTTP server that is slow to start, as an AI inference worker is; the demo's
//! replica.
//!
//! It binds its port only after its warm-up, burns real CPU time for each request in a single lane,
//! and stays below its CPU limit by itself, so that a machine without containers can show what a
//! limited replica does. It needs no files, no shell and no names, and so also runs alone in an
//! empty container.

mod allowance;
mod lane;

use std::collections::TryReserveError;
use std::convert::Infallible;
use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use lane::Lane;

/// From the last answer to the end of the process.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a worker is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub listen: SocketAddr,
    /// From the start until the port is bound.
    pub warm_up: Duration,
    /// Cores, in (0, 1].
    pub cpu_limit: f64,
    /// CPU time of one request.
    pub cost: Duration,
    /// Longest wait of a request for its answer; 503 beyond.
    pub queue_timeout: Duration,
    /// MiB that it fills at its start and holds.
    pub memory: u32,
}

/// Why a worker could not serve.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("cannot fill {0} MiB of memory: {1}")]
    Memory(u32, TryReserveError),
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
}

/// Serves until `stop`, then finishes the requests in flight. A stop during the warm-up ends at
/// once.
///
/// # Errors
/// If the memory is not to be had, or the address cannot be bound.
pub async fn serve(settings: Settings, stop: CancellationToken) -> Result<(), WorkerError> {
    let model =
        filled(settings.memory).map_err(|error| WorkerError::Memory(settings.memory, error))?;
    if stop.run_until_cancelled(tokio::time::sleep(settings.warm_up)).await.is_none() {
        return Ok(());
    }
    let bind = TcpListener::bind(settings.listen).await;
    let listener = bind.map_err(|error| WorkerError::Bind(settings.listen, error))?;
    accept(listener, settings, stop).await;
    drop(model);
    Ok(())
}

/// Each page is written, so that the kernel counts it.
fn filled(mebibytes: u32) -> Result<Vec<u8>, TryReserveError> {
    let bytes = (mebibytes as usize).saturating_mul(1 << 20);
    let mut model = Vec::new();
    model.try_reserve_exact(bytes)?;
    model.resize(bytes, 1);
    Ok(black_box(model))
}

async fn accept(listener: TcpListener, settings: Settings, stop: CancellationToken) {
    let lane = Lane::start(settings.cost, settings.cpu_limit);
    let settings = Arc::new(settings);
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, for instance: connections that end will free some.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Small answers must not wait for more to be sent with them. A refusal costs latency only.
        let _ = stream.set_nodelay(true);
        let (lane, settings) = (lane.clone(), Arc::clone(&settings));
        let service = service_fn(move |request| answer(request, lane.clone(), settings.clone()));
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that hangs up in the middle is its own affair.
            let _ = connection.await;
        });
    }
    drop(listener);
    connections.shutdown().await;
    // The network of a container goes with its first process: the last answers must be out of it.
    tokio::time::sleep(LAST_WORDS).await;
}

async fn answer(
    request: Request<Incoming>,
    lane: Lane,
    settings: Arc<Settings>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/healthz" {
        return Ok(json(StatusCode::OK, r#"{"status":"ok"}"#));
    }
    Ok(match tokio::time::timeout(settings.queue_timeout, lane.work()).await {
        Ok(()) => json(StatusCode::OK, r#"{"answer":42}"#),
        Err(_) => json(
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"error":{"code":"queue_timeout","message":"overloaded; try again later"}}"#,
        ),
    })
}

fn json(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    response
}
