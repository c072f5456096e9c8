//! I/O: whether replicas without a health check of their own answer: by connecting to them.

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
    /// Whether the container accepts connections, at its own address or at the published one.
    pub async fn of(
        &self,
        seen: &Arc<ContainerInspectResponse>,
        address: SocketAddr,
        own: Option<SocketAddr>,
    ) -> bool {
        let id = seen.id.clone().unwrap_or_default();
        let proof = self.proofs().get(&id).filter(|proof| Arc::ptr_eq(&proof.seen, seen)).cloned();
        let place = match proof.map(|proof| proof.place) {
            Some(Place::Published) => return true,
            Some(Place::Own) if accepts(own).await => return true,
            _ => answers(address, own).await,
        };
        match place {
            Some(place) => self.proofs().insert(id, Proof { seen: seen.clone(), place }),
            None => self.proofs().remove(&id),
        };
        place.is_some()
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
        open = stays_open(address) => open.then_some(Place::Published),
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
        assert!(readiness.of(&first, published_address, None).await);
        drop(published);
        assert!(readiness.of(&first, published_address, None).await);
        assert!(!readiness.of(&second, published_address, None).await, "seen anew");
        assert!(!readiness.of(&first, published_address, None).await, "the proof is gone");

        // Its own address is asked each time.
        assert!(readiness.of(&second, published_address, Some(own_address)).await);
        drop(own);
        assert!(!readiness.of(&second, published_address, Some(own_address)).await);
        readiness.retain(|_| false);
        assert!(readiness.proofs().is_empty());
    }
}
