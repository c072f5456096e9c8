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
    tokio::select! {
        true = accepts(own) => own,
        true = stays_open(published) => Some(published),
        else => None,
    }
}

/// Whether the replica accepts connections at its own address.
pub async fn accepts(own: Option<SocketAddr>) -> bool {
    let Some(own) = own else { return false };
    let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(own));
    matches!(connect.await, Ok(Ok(_)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_address_that_answers_is_taken() {
        let bind = async || TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let listener = bind().await;
        let open = listener.local_addr().expect("bound");
        let closed = bind().await.local_addr().expect("bound");
        let check = async |published, own, expected: Option<SocketAddr>| {
            assert_eq!(answering(published, own).await, expected, "{published} {own:?}");
        };
        check(closed, Some(open), Some(open)).await;
        check(open, Some(closed), Some(open)).await;
        check(open, None, Some(open)).await;
        check(closed, Some(closed), None).await;
        check(closed, None, None).await;
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_at_once_reached_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("bound");
        let closes = async { drop(listener.accept().await) };
        let (found, ()) = tokio::join!(answering(address, None), closes);
        assert_eq!(found, None);
    }
}
