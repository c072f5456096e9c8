//! Pure: what a Foresail that was killed has left half done: replicas that were made and not
//! started, or stopped and not removed.

use std::collections::{BTreeMap, BTreeSet};

use super::replica::{ReplicaId, ReplicaReport};

/// Those that are still listed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Leftovers(BTreeMap<ReplicaId, Leftover>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Leftover {
    created: bool,
    /// To stop, which removes it.
    told: bool,
}

impl Leftovers {
    pub fn add(&mut self, report: &ReplicaReport) {
        let leftover = Leftover { created: report.created, told: false };
        self.0.entry(report.id.clone()).or_insert(leftover);
    }

    pub fn retain(&mut self, listed: &BTreeSet<&str>) {
        self.0.retain(|id, _| listed.contains(id.as_str()));
    }

    /// Whether `id` was one of them.
    pub fn remove(&mut self, id: &str) -> bool {
        self.0.remove(id).is_some()
    }

    pub fn were_told(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|leftover| leftover.told)
    }

    pub fn stop_failed(&mut self, id: &str) {
        if let Some(leftover) = self.0.get_mut(id) {
            leftover.told = false;
        }
    }

    /// Places that must not be filled yet: the engine may still be about to start what a killed
    /// Foresail asked for.
    pub fn held(&self) -> u32 {
        self.0.values().filter(|leftover| leftover.created).count() as u32
    }

    /// Those that are to stop now.
    pub fn clear(&mut self) -> Vec<ReplicaId> {
        let untold = self.0.iter_mut().filter(|(_, leftover)| !leftover.told);
        let tell = |(id, leftover): (&ReplicaId, &mut Leftover)| {
            leftover.told = true;
            id.clone()
        };
        untold.map(tell).collect()
    }
}
