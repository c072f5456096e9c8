//! I/O: sends the demo's requests at the times they are due, whether earlier ones are answered or
//! not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::days::{Outcome, Request};
use super::workload::Workload;

/// Longest wait of a client for its answer: longer than the balancer and a worker may take
/// together.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How a worker and the balancer say that an answer would take too long.
const OVERLOADED: [StatusCode; 2] = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

/// All requests that have ended, in the order of their ends. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Log {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Log {
    /// Looks at the requests, shortly: the generator waits meanwhile.
    pub fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        // A push cannot leave the list half changed.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends requests to `url` from `start` for `length`, then waits for the answers still missing.
/// After `stop` it neither sends nor waits: requests in flight are given up and not logged.
pub async fn generate(
    workload: Workload,
    url: Uri,
    start: Instant,
    length: Duration,
    log: Log,
    stop: CancellationToken,
) {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http();
    let in_flight = TaskTracker::new();
    for at in workload.arrivals().take_while(|&at| at < length) {
        let due = start + at;
        if stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
            break;
        }
        let (answer, log) = (client.get(url.clone()), log.clone());
        let request = async move {
            let outcome = tokio::time::timeout(TIMEOUT, outcome(answer)).await;
            let outcome = outcome.unwrap_or(Outcome::Failed);
            log.requests().push(Request { at, latency: due.elapsed(), outcome });
        };
        in_flight.spawn(stop.clone().run_until_cancelled_owned(request));
    }
    in_flight.close();
    in_flight.wait().await;
}

async fn outcome(answer: hyper_util::client::legacy::ResponseFuture) -> Outcome {
    let response = match answer.await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "a request failed");
            return Outcome::Failed;
        }
    };
    let status = response.status();
    // Read to its end: a body cut short is a failure, and the connection can be used again.
    match response.into_body().collect().await {
        Ok(_) if status.is_success() => Outcome::Answered,
        Ok(_) if OVERLOADED.contains(&status) => Outcome::Refused,
        _ => {
            tracing::warn!(%status, "a request failed");
            Outcome::Failed
        }
    }
}
