//! I/O: the running services by name, which may come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Service;

/// All running services; clones share it. Readers take the present map and go on with it, so nobody
/// waits for anybody.
#[derive(Clone, Default)]
pub struct Services {
    present: Arc<RwLock<Arc<Present>>>,
}

#[derive(Clone, Default)]
struct Present {
    services: Arc<BTreeMap<String, Service>>,
    notes: Arc<Vec<String>>,
}

impl Services {
    pub fn all(&self) -> Arc<BTreeMap<String, Service>> {
        self.present().services.clone()
    }

    pub fn get(&self, name: &str) -> Option<Service> {
        self.present().services.get(name).cloned()
    }

    /// What people should know of containers that discovery found, for instance why one is left
    /// alone.
    pub fn notes(&self) -> Arc<Vec<String>> {
        self.present().notes.clone()
    }

    pub(super) fn insert(&self, service: Service) {
        let name = service.config().name.clone();
        self.change(|present| drop(Arc::make_mut(&mut present.services).insert(name, service)));
    }

    pub(super) fn remove(&self, name: &str) {
        self.change(|present| drop(Arc::make_mut(&mut present.services).remove(name)));
    }

    /// Replaces the notes; gives those that are new.
    pub(in crate::io) fn note(&self, notes: Vec<String>) -> Vec<String> {
        let before = self.notes();
        let new = notes.iter().filter(|note| !before.contains(note)).cloned().collect();
        self.change(|present| present.notes = Arc::new(notes));
        new
    }

    fn present(&self) -> Arc<Present> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Present)) {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut present));
    }
}
