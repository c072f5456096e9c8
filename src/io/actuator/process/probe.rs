//! I/O: is a replica ready? By an HTTP GET where it has a path for it, else by a TCP connect.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Consecutive failures after which a ready replica no longer counts as ready: one slow answer of a
/// busy replica must not take it out of the balancer.
const UNHEALTHY_THRESHOLD: u32 = 3;

/// Probes for ever and tells of every change; a replica starts as not ready.
pub async fn watch(address: SocketAddr, path: Option<&str>, tell: impl Fn(bool)) -> Infallible {
    let uri: Option<Uri> = path.and_then(|path| format!("http://{address}{path}").parse().ok());
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let (start, mut ready, mut failures) = (Instant::now(), false, 0);
    loop {
        tokio::time::sleep(pause(ready, start.elapsed())).await;
        let probe = tokio::time::timeout(TIMEOUT, answers(&client, address, uri.clone()));
        failures = if probe.await.unwrap_or(false) { 0 } else { failures + 1 };
        let now = if ready { failures < UNHEALTHY_THRESHOLD } else { failures == 0 };
        if now != ready {
            ready = now;
            tell(ready);
        }
    }
}

/// Often enough to see the startup delay to 5 % (at least to 50 ms), never more often than needed.
fn pause(ready: bool, age: Duration) -> Duration {
    let often = (age / 20).clamp(Duration::from_millis(50), Duration::from_secs(1));
    if ready { Duration::from_secs(1) } else { often }
}

async fn answers(
    client: &Client<HttpConnector, Empty<Bytes>>,
    address: SocketAddr,
    uri: Option<Uri>,
) -> bool {
    match uri {
        Some(uri) => client.get(uri).await.is_ok_and(|response| response.status().is_success()),
        None => TcpStream::connect(address).await.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starting_replica_is_asked_often_and_a_ready_one_each_second() {
        for (ready, age_ms, want_ms) in [
            (false, 0, 50),
            (false, 4_000, 200), // 5 % of 4 s.
            (false, 600_000, 1_000),
            (true, 0, 1_000),
        ] {
            assert_eq!(pause(ready, Duration::from_millis(age_ms)).as_millis(), want_ms);
        }
    }
}
