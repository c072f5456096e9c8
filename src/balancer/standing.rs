//! Pure: how each replica stands with the balancer, for people.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Health, Snapshot, Target};
use crate::fleet::ReplicaId;

/// One replica's place in the balancer and what its requests met there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Standing {
    /// Its share of what is shared by weight, beside those of the others: less while warming, 0
    /// while it is not ready.
    pub weight: f64,
    /// It may be chosen for new requests, if it has room.
    pub eligible: bool,
    /// Neither ejected nor failing its checks.
    pub healthy: bool,
    /// Null without active checks.
    pub passes_checks: Option<bool>,
    /// Time until an ejected replica is tried again.
    pub ejected_for_ms: Option<u64>,
    /// How often it was ejected.
    pub ejections: u64,
    /// Requests that it answered.
    pub requests: u64,
    /// Answers among them with a status of 500 and above.
    pub errors: u64,
    /// Requests that it did not answer.
    pub failures: u64,
    /// Share of errors and failures, of late.
    pub error_share: f64,
    /// Peak EWMA of the time to the head of an answer; null before the first.
    pub latency_ms: Option<f64>,
    /// Of the last 10 to 20 s, within 12 %; null without requests.
    pub latency_p50_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
}

impl Snapshot {
    /// Of every replica.
    pub fn standings(&self, health: &Health, now: Duration) -> BTreeMap<ReplicaId, Standing> {
        let targets = self.targets.iter().enumerate();
        targets.map(|(i, t)| (t.id.clone(), standing(t, i < self.eligible, health, now))).collect()
    }
}

fn standing(target: &Target, eligible: bool, health: &Health, now: Duration) -> Standing {
    let counters = &target.counters;
    let view = health.view(&target.id);
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let quantiles = health.quantiles(target).map(|both| both.map(|seconds| seconds * 1000.0));
    let remaining = |until: Duration| until.saturating_sub(now).as_millis() as u64;
    Standing {
        weight: if target.ready { target.weight } else { 0.0 },
        eligible,
        healthy: target.healthy,
        passes_checks: view.passes_checks,
        ejected_for_ms: view.ejected_until.map(remaining),
        ejections: view.ejections,
        requests: load(&counters.requests),
        errors: load(&counters.errors),
        failures: load(&counters.failures),
        error_share: counters.latency.errors(now, 1.0).into(),
        latency_ms: counters.latency.seconds(now).map(|seconds| f64::from(seconds) * 1000.0),
        latency_p50_ms: quantiles.map(|[median, _]| median),
        latency_p99_ms: quantiles.map(|[_, high]| high),
    }
}
