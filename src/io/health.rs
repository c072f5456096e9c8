//! I/O: active checks of the replicas, and the beat by which ejections come and go.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;

use crate::balancer::Check;

/// Asks one replica whether it is well; every check opens a connection of its own, as a client
/// would.
#[derive(Clone)]
pub struct Prober {
    check: Check,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Prober {
    pub fn new(check: Check) -> Prober {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Prober { check, client }
    }

    pub fn interval(&self) -> Duration {
        self.check.interval
    }

    /// False also if the answer does not come in time.
    pub async fn passes(&self, address: SocketAddr) -> bool {
        tokio::time::timeout(self.check.timeout, self.answers(address)).await.unwrap_or(false)
    }

    async fn answers(&self, address: SocketAddr) -> bool {
        let Some(path) = &self.check.path else {
            return TcpStream::connect(address).await.is_ok();
        };
        let Ok(uri) = format!("http://{address}{path}").parse::<Uri>() else { return false };
        let answer = self.client.get(uri).await;
        answer.is_ok_and(|answer| answer.status().is_success() || answer.status().is_redirection())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn prober(path: Option<&str>) -> Prober {
        let (path, timeout) = (path.map(str::to_owned), Duration::from_millis(500));
        Prober::new(Check { path, interval: timeout, timeout, rise: 1, fall: 1 })
    }

    /// What a check says of a server that answers `head`, or never if there is none.
    async fn check(head: Option<&'static str>, path: Option<&str>, passes: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(head) = head {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(head.as_bytes()).await;
                }
                held.push(stream);
            }
        });
        assert_eq!(prober(path).passes(address).await, passes, "{head:?} {path:?}");
        server.abort();
    }

    #[tokio::test]
    async fn answers_below_400_pass_and_so_does_a_mere_connection_without_a_path() {
        check(Some("HTTP/1.1 204 No Content\r\n\r\n"), Some("/health"), true).await;
        check(Some("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n"), Some("/health"), true).await;
        check(Some("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), Some("/health"), false).await;
        check(Some("garbage\r\n\r\n"), Some("/health"), false).await;
        check(None, Some("/health"), false).await;
        check(None, None, true).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(!prober(None).passes(closed).await);
    }
}
