//! Pure: one rule's answer, before any limit.

use super::{PlanInput, Policy, Signal, average_value, peers, target_tracking, threshold};

/// How many replicas one rule asks for, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    pub rule: &'static str,
    pub replicas: u32,
    /// Wanted over current supply before rounding, for the tolerance; `None` if the rule has its
    /// own dead band.
    pub ratio: Option<f64>,
    /// Continues "<rule>: ".
    pub reason: String,
}

impl Size {
    /// No change.
    pub fn keep(rule: &'static str, input: &PlanInput, reason: impl Into<String>) -> Size {
        Size { rule, replicas: input.current_replicas, ratio: None, reason: reason.into() }
    }
}

/// Fewest replicas that carry `demand` at full utilization. `capacity` above 0; what exceeds `u32`
/// saturates.
pub fn replicas_for(demand: f64, capacity: f64) -> u32 {
    (demand / capacity).ceil() as u32
}

/// The answer of the rule that needs no forecast: the policy itself, or what it falls back on.
pub fn reactive(policy: &Policy, input: &PlanInput) -> Size {
    match policy {
        Policy::Static { replicas } => Size {
            rule: "static",
            replicas: *replicas,
            ratio: None,
            reason: format!("{replicas} asked for"),
        },
        Policy::Threshold(rule) => threshold::size(rule, input),
        Policy::TargetTracking(rule) => target_tracking::size(rule, input),
        Policy::AverageValue(rule) => average_value::size(rule, input),
        Policy::Predictive(_) => threshold::size(input.fallback, input),
        Policy::Phpa(peer) => peers::settled(target_tracking::size(&peer.reactive, input), input),
        Policy::AwsPredictive(peer) => {
            peers::settled(target_tracking::size(&peer.target, input), input)
        }
    }
}

/// What a service needs that is overloaded even when all its starting replicas are counted; `None`
/// if it is not.
///
/// Why not the larger of rule and forecast at any load? Between the threshold and full load a
/// trusted forecast knows better, and the rule would undo its steps. Replayed over 20 recorded
/// loads (startup delay 5 minutes, budget 1 %) that costs 3 % more at the same overload and takes
/// four times as many changes. A doubted forecast is watched that way; above full load nothing may
/// lower the count. Saturated workers hide demand, so the rule's own step is taken where it is
/// larger than what is seen.
pub fn relief(rule: &Size, input: &PlanInput) -> Option<Size> {
    let Signal::Fresh { demand, lower_bound, .. } = input.signal else { return None };
    let supply = f64::from(input.current_replicas) * input.capacity;
    let waiting = input.current_replicas > input.ready_replicas;
    if demand <= supply && (!lower_bound || waiting) {
        return None;
    }
    let step = input.current_replicas.saturating_add(input.fallback.step);
    let replicas = replicas_for(demand, input.capacity).max(rule.replicas).max(step);
    let reason = format!("demand {demand:.3} exceeds all replicas, needs {replicas}");
    Some(Size { rule: "overload", replicas, ratio: None, reason })
}
