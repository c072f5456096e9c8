//! Pure: the HPA v2's `AverageValue`: a target in the unit of demand for each replica.
//!
//! For CPU and metrics of pods it is the ratio rule of [`super::target_tracking`] with another
//! denominator. For a metric of an object or an external one the HPA asks no replica: the total
//! divided by the target.

use super::target_tracking::{by_ratio, from_zero, mean_replica, usable_demand};
use super::{PlanInput, sizing::Size};

/// Desired = ceil(demand / target).
#[derive(Debug, Clone, PartialEq)]
pub struct AverageValue {
    /// Demand for each replica; above 0.
    pub target: f64,
    pub of: Metric,
}

/// Where the metric comes from, which decides what is known when replicas start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// CPU of pods, clipped at their capacity.
    Cpu,
    /// Any other metric of pods.
    Pods,
    /// A metric of an object or an external one: one total.
    Total,
}

const RULE: &str = "average_value";

/// The rule's answer; its ratio is the one that the HPA holds against its tolerance.
pub fn size(rule: &AverageValue, input: &PlanInput) -> Size {
    let demand = match usable_demand(RULE, input) {
        Ok(demand) => demand,
        Err(answer) => return answer,
    };
    if input.current_replicas == 0 {
        return from_zero(RULE, demand, rule.target);
    }
    if rule.of == Metric::Total {
        let replicas = (demand / rule.target).ceil() as u32;
        let ratio = demand / (rule.target * f64::from(input.current_replicas));
        let reason = format!("{demand:.3} at {:.3} a replica needs {replicas}", rule.target);
        return Size { rule: RULE, replicas, ratio: Some(ratio), reason };
    }
    let Some(mean) = mean_replica(demand, 1.0, input) else {
        return Size::keep(RULE, input, "no ready replica to measure");
    };
    let mean = if rule.of == Metric::Cpu { mean.min(input.capacity) } else { mean };
    let reason = format!("{mean:.3} a replica against a target of {:.3}", rule.target);
    by_ratio(RULE, mean / rule.target, 1.0, reason, input)
}
