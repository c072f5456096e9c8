//! I/O: a way to the engine that a test can cut: what an engine's stop and restart look like from
//! outside.

use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A socket of the test's own, behind which the engine is there or not.
pub struct Relay {
    folder: tempfile::TempDir,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// Without a socket, as before the first start of an engine.
    pub fn absent() -> Relay {
        Relay { folder: tempfile::tempdir().expect("temporary folder"), accepting: None }
    }

    /// The address that `DOCKER_HOST` would have.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    /// The engine is there.
    pub fn open(&mut self) {
        self.remove_socket();
        let listener = UnixListener::bind(self.path()).expect("bind");
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut engine = connect().await;
                    // Either side may hang up at any time.
                    let _ = copy_bidirectional(&mut client, &mut engine).await;
                });
            }
        }));
    }

    /// The engine has crashed: the socket is left, and nobody listens.
    pub async fn crash(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The listener is closed when the task has ended, not before.
            let _ = accepting.await;
        }
    }

    /// The engine has stopped properly and taken its socket along.
    pub async fn stop(&mut self) {
        self.crash().await;
        self.remove_socket();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    fn remove_socket(&self) {
        if self.path().exists() {
            std::fs::remove_file(self.path()).expect("remove the socket");
        }
    }
}

/// The engine that the other tests use, too.
pub async fn connect() -> Box<dyn Stream> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    match host.strip_prefix("tcp://") {
        Some(address) => Box::new(TcpStream::connect(address).await.expect("the engine")),
        None => {
            let path = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
            Box::new(UnixStream::connect(path).await.expect("the engine"))
        }
    }
}
