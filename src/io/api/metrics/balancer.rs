//! Pure: the metrics of the balancer, those of each replica among them.
//!
//! What a replica counted leaves with it, so sums over replicas fall when one goes; `rate()` over
//! each is right.

use super::{Labels, Metric, by, one};
use crate::balancer::Standing;
use crate::io::service::Snapshot;

/// A value of every replica that has it.
fn each(snapshot: &Snapshot, value: fn(&Standing) -> Option<f64>) -> Vec<(Labels, f64)> {
    let standings = snapshot.standings.iter();
    by("replica", standings.filter_map(|(id, standing)| Some((id, value(standing)?))))
}

fn flag(value: bool) -> Option<f64> {
    Some(f64::from(u8::from(value)))
}

pub(super) const GAUGES: &[Metric] = &[
    Metric {
        name: "foresail_waiting_requests",
        help: "Requests that wait for a ready replica with room",
        values: |_, snapshot| one(f64::from(snapshot.waiting)),
    },
    Metric {
        name: "foresail_replica_in_flight",
        help: "Requests sent to the replica and unanswered",
        values: |_, snapshot| {
            let replicas = snapshot.replicas.iter();
            by("replica", replicas.map(|replica| (&replica.id, f64::from(replica.in_flight))))
        },
    },
    Metric {
        name: "foresail_replica_weight",
        help: "Balancing weight beside that of the others, 0 while the replica is not ready",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.weight)),
    },
    Metric {
        name: "foresail_replica_eligible",
        help: "1 while the replica may be chosen for new requests",
        values: |_, snapshot| each(snapshot, |standing| flag(standing.eligible)),
    },
    Metric {
        name: "foresail_replica_healthy",
        help: "0 while the replica is ejected or fails its checks",
        values: |_, snapshot| each(snapshot, |standing| flag(standing.healthy)),
    },
    Metric {
        name: "foresail_replica_ejected",
        help: "1 while the replica is ejected for what its requests met",
        values: |_, snapshot| each(snapshot, |standing| flag(standing.ejected_for_ms.is_some())),
    },
    Metric {
        name: "foresail_replica_passes_checks",
        help: "0 while the replica fails its active checks",
        values: |_, snapshot| each(snapshot, |standing| standing.passes_checks.and_then(flag)),
    },
    Metric {
        name: "foresail_replica_error_ratio",
        help: "Share of errors and failures among the newest requests of the replica",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.error_share)),
    },
    Metric {
        name: "foresail_replica_latency_seconds",
        help: "Time to the head of an answer, peak EWMA",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.latency_ms? / 1000.0)),
    },
    Metric {
        name: "foresail_replica_latency_median_seconds",
        help: "Median time to the head of an answer over the last 10 to 20 s",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.latency_p50_ms? / 1000.0)),
    },
    Metric {
        name: "foresail_replica_latency_p99_seconds",
        help: "99th percentile of the time to the head of an answer over the last 10 to 20 s",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.latency_p99_ms? / 1000.0)),
    },
];

/// Counters; prometheus-client adds `_total` to the names.
pub(super) const COUNTERS: &[Metric] = &[
    Metric {
        name: "foresail_requests_refused",
        help: "Requests refused because no replica was ready with room in time",
        values: |_, snapshot| one(snapshot.refused_total as f64),
    },
    Metric {
        name: "foresail_retries",
        help: "Requests sent a second time",
        values: |_, snapshot| one(snapshot.retries_total as f64),
    },
    Metric {
        name: "foresail_retries_refused",
        help: "Requests not sent a second time because the retry budget was spent",
        values: |_, snapshot| one(snapshot.retries_refused_total as f64),
    },
    Metric {
        name: "foresail_replica_requests",
        help: "Requests that the replica answered",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.requests as f64)),
    },
    Metric {
        name: "foresail_replica_errors",
        help: "Answers of the replica with a status of 500 and above",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.errors as f64)),
    },
    Metric {
        name: "foresail_replica_failures",
        help: "Requests that the replica did not answer",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.failures as f64)),
    },
    Metric {
        name: "foresail_replica_ejections",
        help: "Times that the replica was ejected",
        values: |_, snapshot| each(snapshot, |standing| Some(standing.ejections as f64)),
    },
];
