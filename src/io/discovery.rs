//! I/O: services that come and go with the containers that tell of them by their labels.
//!
//! Whenever the engine's events say that something may have changed, the containers are listed
//! anew, and what they tell is compared with what runs. While the engine is away everything stays
//! as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerSummary;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::actuator::docker::CLONE_LABEL;
use super::docker::inventory::Inventory;
use super::service::Supervisor;
use crate::config::labels::{self, ENABLE, Found, Labelled};
use crate::config::{Service, Target};

/// A deployment makes many events in a row; they are looked at together.
const SETTLES: Duration = Duration::from_millis(100);

/// Runs until `shutdown`, and until what it has let go by then has ended.
pub async fn run(inventory: Inventory, supervisor: Arc<Supervisor>, shutdown: CancellationToken) {
    let mut changes = inventory.changes();
    let mut discovery =
        Discovery { supervisor, discovered: BTreeMap::new(), leaving: BTreeMap::new() };
    let mut releases = JoinSet::new();
    loop {
        changes.mark_unchanged();
        match inventory.labelled(ENABLE).await {
            Ok(listed) => discovery.apply(listed, &mut releases).await,
            Err(error) => discovery.note(vec![error.to_string()]),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            Ok(()) = changes.changed() => {}
            Some(_) = releases.join_next() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(SETTLES) => {}
        }
    }
    releases.join_all().await;
}

struct Discovery {
    supervisor: Arc<Supervisor>,
    /// Those that run because of their labels.
    discovered: BTreeMap<String, Service>,
    /// Those that were let go, and may still answer requests: none of them starts again before.
    leaving: BTreeMap<String, AbortHandle>,
}

impl Discovery {
    /// Lets services go and starts others, so that those run which these containers tell of.
    async fn apply(&mut self, listed: Vec<ContainerSummary>, releases: &mut JoinSet<()>) {
        let config = &self.supervisor.config;
        let host = config.discovery.as_ref().and_then(|discovery| discovery.host.as_deref());
        let Found { mut services, mut notes } =
            labels::read(listed.into_iter().filter_map(labelled).collect(), host);
        for (name, configured) in &config.services {
            services.retain(|found, service| {
                let taken = found == name || shares(&service.target, &configured.target);
                if taken {
                    notes.push(format!(
                        "service {found} found by labels: the file's services.{name} counts"
                    ));
                }
                !taken
            });
        }

        self.discovered.retain(|name, running| {
            let stays = services.get(name) == Some(running);
            if !stays {
                tracing::info!(service = name, "let go");
                let released = releases.spawn(self.supervisor.release(name));
                self.leaving.insert(name.clone(), released);
            }
            stays
        });
        self.leaving.retain(|_, released| !released.is_finished());
        for (name, service) in services {
            if self.discovered.contains_key(&name) || self.leaving.contains_key(&name) {
                continue;
            }
            match self.supervisor.start(&service).await {
                Ok(()) => {
                    tracing::info!(service = name, mode = ?service.mode, "found by labels");
                    self.discovered.insert(name, service);
                }
                Err(error) => notes.push(error.to_string()),
            }
        }
        self.note(notes);
    }

    fn note(&self, notes: Vec<String>) {
        for note in self.supervisor.services.note(notes) {
            tracing::warn!(note, "discovery");
        }
    }
}

fn labelled(summary: ContainerSummary) -> Option<Labelled> {
    let name = summary.names.and_then(|names| names.into_iter().next())?;
    let mut labels = BTreeMap::from_iter(summary.labels?);
    Some(Labelled {
        name: name.trim_start_matches('/').to_owned(),
        created: summary.created.unwrap_or(0),
        clone: labels.remove(CLONE_LABEL).is_some(),
        labels,
    })
}

/// Whether two targets may have containers in common.
fn shares(a: &Target, b: &Target) -> bool {
    match (a, b) {
        (Target::Docker(a), Target::Docker(b)) => a.label == b.label,
        (Target::Compose(a), Target::Compose(b)) => {
            (&a.project, &a.service) == (&b.project, &b.service)
        }
        _ => false,
    }
}
