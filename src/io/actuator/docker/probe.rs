//! I/O: whether, and where, a replica accepts connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest wait for a replica to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Docker accepts connections to a published port before the container listens, and then closes
/// them; one that stays open this long has reached the container.
const STAYS_OPEN: Duration = Duration::from_millis(200);

/// Where the replica accepts connections: at its own address (which tells at once), where it can be
/// reached, else at the published one. Foresail in a container cannot reach what is published on
/// its host's loopback, but shares a network with the replicas.
pub async fn answering(published: SocketAddr, own: Option<SocketAddr>) -> Option<SocketAddr> {
    let direct = async { TcpStream::connect(own?).await.ok().and(own) };
    tokio::select! {
        Some(own) = direct => Some(own),
        open = stays_open(published) => open.then_some(published),
    }
}

/// Whether a connection to `address` is accepted, and not closed at once.
async fn stays_open(address: SocketAddr) -> bool {
    let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let Ok(Ok(mut stream)) = connect.await else { return false };
    match tokio::time::timeout(STAYS_OPEN, stream.read(&mut [0])).await {
        Ok(read) => read.is_ok_and(|bytes| bytes > 0),
        Err(_) => true,
    }
}
