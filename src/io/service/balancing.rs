//! I/O: what the balancer of a service sees is published, and its replicas' health is followed.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::balancer::{Health, Snapshot};
use crate::config::Balancer;
use crate::io::clock;
use crate::io::health::Prober;

/// How late an ejection may come.
const BEAT: Duration = Duration::from_millis(100);

/// Checks under way at once.
const CHECKS: usize = 64;

impl Shared {
    /// Publishes the replicas as they are now. One at a time, so that no older state ever replaces
    /// a newer one.
    pub(super) fn publish_balancer(&self) -> Arc<Snapshot> {
        let health = self.health();
        let rules = self.config.balancer.as_ref().map(Balancer::rules).unwrap_or_default();
        let mut targets = self.state().targets(Utc::now());
        for target in &mut targets {
            target.healthy = health.is_healthy(&target.id);
        }
        let before = self.balancer.borrow().clone();
        let snapshot = Arc::new(Snapshot::new(rules, targets, Some(&before)));
        self.balancer.send_replace(snapshot.clone());
        snapshot
    }

    /// Taken before the state where both are.
    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows what requests meet, until `stop`.
pub(super) async fn eject(shared: Arc<Shared>, stop: CancellationToken) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        let snapshot = shared.balancer.borrow().clone();
        let changed = shared.health().step(clock::now(), snapshot.targets());
        if changed {
            tell(&shared);
        }
    }
}

/// Asks all ready replicas, round after round, until `stop`.
pub(super) async fn check(shared: Arc<Shared>, prober: Prober, stop: CancellationToken) {
    let mut rounds = interval(prober.interval());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        let snapshot = shared.balancer.borrow().clone();
        let ready = snapshot.targets().iter().filter(|target| target.ready);
        let ready: Vec<_> = ready.map(|target| (target.id.clone(), target.address)).collect();
        let ask = |(id, address)| {
            let prober = &prober;
            async move { (prober.passes(address).await, id) }
        };
        let mut answers = futures_util::stream::iter(ready).map(ask).buffer_unordered(CHECKS);
        while let Some(Some((passed, id))) = stop.run_until_cancelled(answers.next()).await {
            let changed = shared.health().checked(&id, passed);
            if changed {
                tell(&shared);
            }
        }
    }
}

fn tell(shared: &Shared) {
    let snapshot = shared.publish_balancer();
    let unhealthy = snapshot.targets().iter().filter(|target| target.ready && !target.healthy);
    let unhealthy: Vec<&str> = unhealthy.map(|target| target.id.as_str()).collect();
    let (service, panic) = (&shared.config.name, snapshot.panics());
    tracing::info!(service, ?unhealthy, panic, "the health of replicas changed");
}
