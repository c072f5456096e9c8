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

use std::sync::atomic::Ordering;

use super::Target;
use super::random::{Weights, mix};

/// Index into `ready`; zero if there is none.
pub(super) fn pick(ready: &[Target], weights: &Weights, random: u64) -> usize {
    let first = weights.draw(random);
    let Some(second) = weights.draw_other(first, mix(random)) else {
        return first;
    };
    let load = |index: usize| {
        let target = &ready[index];
        f64::from(target.counters.in_flight.load(Ordering::Acquire)) / target.share()
    };
    if load(second) < load(first) { second } else { first }
}
