//! I/O: which replicas have answered, so that those that go on need not be probed anew each round.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::models::ContainerInspectResponse;

use super::probe;
use crate::fleet::ReplicaId;

/// Who has answered, and where: to hear it again is cheaper than the first time.
#[derive(Debug, Default)]
pub struct Readiness {
    proofs: Mutex<HashMap<ReplicaId, Proof>>,
}

/// A replica has answered while the engine told this of it; whatever happens to the container, the
/// engine tells anew.
#[derive(Debug, Clone)]
struct Proof {
    seen: Arc<ContainerInspectResponse>,
    address: SocketAddr,
}

impl Readiness {
    /// Where the container accepts connections; `None` if it does not.
    pub async fn answering(
        &self,
        seen: &Arc<ContainerInspectResponse>,
        published: SocketAddr,
        own: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        let id = seen.id.clone().unwrap_or_default();
        let proof = self.proofs().get(&id).filter(|proof| Arc::ptr_eq(&proof.seen, seen)).cloned();
        let address = match proof.map(|proof| proof.address) {
            // Its own address tells at once.
            Some(address) if Some(address) == own && probe::accepts(own).await => return own,
            // The published one Docker holds open whatever the replica does: it would tell nothing.
            Some(address) if Some(address) != own => return Some(address),
            _ => probe::answering(published, own).await,
        };
        match address {
            Some(address) => self.proofs().insert(id, Proof { seen: seen.clone(), address }),
            None => self.proofs().remove(&id),
        };
        address
    }

    /// Forgets the containers that are not to be kept.
    pub fn retain(&self, keep: impl Fn(&ReplicaId) -> bool) {
        self.proofs().retain(|id, _| keep(id));
    }

    fn proofs(&self) -> MutexGuard<'_, HashMap<ReplicaId, Proof>> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
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
        let check = async |seen, own, expected| {
            assert_eq!(readiness.answering(seen, published_address, own).await, expected);
        };
        check(&first, None, Some(published_address)).await;
        drop(published);
        check(&first, None, Some(published_address)).await;
        check(&second, None, None).await;
        check(&first, None, None).await;

        // Its own address is asked each time.
        check(&second, Some(own_address), Some(own_address)).await;
        drop(own);
        check(&second, Some(own_address), None).await;
        readiness.retain(|_| false);
        assert!(readiness.proofs().is_empty());
    }
}
