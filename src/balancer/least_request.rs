//! Pure: least request, the one with fewer requests in flight of two drawn at random by weight.
//!
//! Two random choices are nearly as even as looking at all replicas, and do not send every request
//! of a burst to the one replica that was idle a moment ago (Mitzenmacher, "The Power of Two
//! Choices").
//!
//! The draw is by weight and what is compared is in flight ÷ weight, so that both ends are right:
//! on an idle service every comparison is a tie, the first draw wins and shares follow the weights;
//! on a busy one requests in flight do. Drawing evenly and comparing (in flight + 1) ÷ weight, as
//! some do, would send a replica in slow start nothing at all on a quiet service, and it would
//! never warm up.
//!
//! A replica that answers errors at once has nothing in flight. So that this attracts no traffic,
//! its share of errors counts as that share of one request more than the other one has.

use std::time::Duration;

use super::Load;
use super::latency::memory;

/// What is compared: the smaller one is chosen, of equal ones the first.
pub(super) fn loads(a: &Load, b: &Load, slowest: f32, now: Duration) -> (f64, f64) {
    let (of_a, of_b) = (f64::from(a.in_flight()), f64::from(b.in_flight()));
    let load = |load: &Load, own: f64, other: f64| {
        (own + f64::from(load.counters.latency.errors(now, memory(slowest))) * (other + 1.0))
            * load.inverse_share
    };
    (load(a, of_a, of_b), load(b, of_b, of_a))
}
