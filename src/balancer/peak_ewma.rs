//! Pure: peak EWMA, the one with the lower cost of two drawn at random by weight.
//!
//! Cost = (latency + share of errors × what an error costs) × (in flight + 1) ÷ weight, latency
//! being the estimate of [`super::latency`] (Finagle, linkerd, tower: rtt × (pending + 1)).
//!
//! A replica without data gets one request at once, to learn; until its answer a further one is
//! sent there only if the other is no better known (Finagle does so; a fixed first guess, as tower
//! and linkerd have, is wrong by orders of magnitude where answers take minutes or microseconds).
//!
//! An error costs ten times the slowest replica's latency and at least 1 s, so that fast errors are
//! no bargain even where good answers are slow.

use std::time::Duration;

use super::Load;
use super::latency::memory;

/// Cost of a second request to a replica that has not yet answered any (Envoy's penalty).
const UNKNOWN: f64 = 1e6;

/// What one error costs, in times of the slowest replica's latency.
const ERROR: f64 = 10.0;

pub(super) fn cost(load: &Load, slowest: f32, now: Duration) -> f64 {
    let pending = f64::from(load.in_flight());
    let latency = &load.counters.latency;
    let seconds = match latency.seconds(now) {
        Some(seconds) => {
            let errors = f64::from(latency.errors(now, memory(slowest)) * slowest) * ERROR;
            (f64::from(seconds) + errors) * (pending + 1.0)
        }
        None => UNKNOWN * pending,
    };
    seconds * load.inverse_share
}
