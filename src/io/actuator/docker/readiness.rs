//! I/O: whether, and where, replicas answer: by connecting to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::fleet::ReplicaId;

/// Longest wait for a replica to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Docker accepts connections to a published port before the container listens, and then closes
/// them; one that stays open this long has reached the container.
const STAYS_OPEN: Duration = Duration::from_millis(200);

/// Which replicas have answered, and where: to hear it again is cheaper than the first time.
#[derive(Debug, Default)]
pub struct Readiness {
    proofs: Mutex<HashMap<ReplicaId, Proof>>,
}

/// A replica has answered while the engine told this of it; whatever happens to the container, the
/// engine tells anew.
#[derive(Debug, Clone)]
struct Proof {
    seen: Arc<ContainerInspectResponse>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// Which tells at once, where it can be reached.
    Own,
    /// Which Docker holds open whatever the replica does; to ask there again would tell nothing.
    Published,
}

impl Readiness {
    /// Where the container accepts connections: at its own address, else at the published one.
    /// Foresail in a container cannot reach what is published on its host's loopback, but shares a
    /// network with the replicas.
    pub async fn of(
        &self,
        seen: &Arc<ContainerInspectResponse>,
        address: SocketAddr,
        own: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        let id = seen.id.clone().unwrap_or_default();
        let proof = self.proofs().get(&id).filter(|proof| Arc::ptr_eq(&proof.seen, seen)).cloned();
        let place = match proof.map(|proof| proof.place) {
            Some(Place::Published) => return Some(address),
            Some(Place::Own) if accepts(own).await => return own,
            _ => answers(address, own).await,
        };
        match place {
            Some(place) => self.proofs().insert(id, Proof { seen: seen.clone(), place }),
            None => self.proofs().remove(&id),
        };
        match place? {
            Place::Own => own,
            Place::Published => Some(address),
        }
    }

    /// Forgets the containers that are not to be kept.
    pub fn retain(&self, keep: impl Fn(&ReplicaId) -> bool) {
        self.proofs().retain(|id, _| keep(id));
    }

    fn proofs(&self) -> MutexGuard<'_, HashMap<ReplicaId, Proof>> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the replica accepts connections; `None` if it does not.
async fn answers(address: SocketAddr, own: Option<SocketAddr>) -> Option<Place> {
    tokio::select! {
        true = accepts(own) => Some(Place::Own),
        true = stays_open(address) => Some(Place::Published),
        else => None,
    }
}

async fn accepts(own: Option<SocketAddr>) -> bool {
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
        let check = async |published, own, expected| {
            assert_eq!(answers(published, own).await, expected, "{published} {own:?}");
        };
        // Often, because whoever is refused is refused at once, maybe before the other answers.
        for _ in 0..20 {
            check(closed, Some(open), Some(Place::Own)).await;
        }
        check(open, Some(closed), Some(Place::Published)).await;
        check(open, None, Some(Place::Published)).await;
        check(closed, Some(closed), None).await;
        check(closed, None, None).await;
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_at_once_reached_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("bound");
        let closes = async { drop(listener.accept().await) };
        let (found, ()) = tokio::join!(answers(address, None), closes);
        assert_eq!(found, None);
    }

    #[tokio::test]
    async fn a_proof_lasts_until_the_container_is_seen_anew() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let bind = async || {
            let listener = TcpListener::bind(local).await.expect("bind");
            let address = listener.local_addr().expect("an address");
            (listener, address)
        };
        let (own, own_address) = bind().await;
        let (published, published_address) = bind().await;
        let id = Some("a".to_owned());
        let anew = || Arc::new(ContainerInspectResponse { id: id.clone(), ..Default::default() });
        let readiness = Readiness::default();
        let (first, second) = (anew(), anew());

        // A published port stays open whoever is behind it, so the first proof counts.
        let at = Some(published_address);
        assert_eq!(readiness.of(&first, published_address, None).await, at);
        drop(published);
        assert_eq!(readiness.of(&first, published_address, None).await, at);
        assert_eq!(readiness.of(&second, published_address, None).await, None, "seen anew");
        assert_eq!(readiness.of(&first, published_address, None).await, None, "its proof is gone");

        // Its own address is asked each time.
        let at = Some(own_address);
        assert_eq!(readiness.of(&second, published_address, at).await, at);
        drop(own);
        assert_eq!(readiness.of(&second, published_address, at).await, None);
        readiness.retain(|_| false);
        assert!(readiness.proofs().is_empty());
    }
}
