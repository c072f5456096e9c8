//! Pure: the ratio rule of the Kubernetes HPA v2 for a mean over replicas.
//!
//! As its replica calculator does it: the ratio of the mean to the target, times the replicas that
//! were measured, rounded up. Where the ratio says up, replicas that start or whose metric is
//! missing count as idle; where it says down, missing ones count as fully used. An answer that
//! thereby turns round is dropped. With no measured replica nothing changes.
//!
//! Known limits: the mean is one number, so a replica's own readiness window (5 minutes for CPU in
//! the HPA) is unseen; the HPA truncates utilization to whole percents and counts CPU in
//! thousandths, which is not done here; a service of no replicas is not paused but brought to its
//! minimum.

use super::{PlanInput, Signal, sizing::Size};

/// Desired = ceil(measured replicas x utilization / target).
#[derive(Debug, Clone, PartialEq)]
pub struct TargetTracking {
    /// Above 0; above 1 is allowed, as utilization of what was requested may be.
    pub target_utilization: f64,
    pub signal: SignalKind,
}

impl Default for TargetTracking {
    fn default() -> TargetTracking {
        TargetTracking { target_utilization: 0.7, signal: SignalKind::Cpu }
    }
}

/// Whether saturated CPU hides demand above capacity from the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// Utilization clipped at 1.
    Cpu,
    /// Unclipped.
    Demand,
}

const RULE: &str = "target_tracking";

/// The rule's answer; its ratio is the one that the HPA holds against its tolerance.
pub fn size(rule: &TargetTracking, input: &PlanInput) -> Size {
    let target = rule.target_utilization;
    let demand = match usable_demand(RULE, input) {
        Ok(demand) => demand,
        Err(answer) => return answer,
    };
    if input.current_replicas == 0 {
        return from_zero(RULE, demand, target * input.capacity);
    }
    let Some(utilization) = mean_replica(demand, input.capacity, input) else {
        return Size::keep(RULE, input, "no ready replica to measure");
    };
    let clipped = if rule.signal == SignalKind::Cpu { utilization.min(1.0) } else { utilization };
    // The HPA takes a replica without a metric for one that uses all it may, or the target if that
    // is more.
    let full = target.max(1.0) / target;
    let (percent, of) = (clipped * 100.0, target * 100.0);
    let reason = format!("utilization {percent:.0} % against a target of {of:.0} %");
    by_ratio(RULE, clipped / target, full, reason, input)
}

/// Fresh demand.
///
/// # Errors
/// The answer where none is asked for: without fresh demand nothing changes, and outside its bounds
/// the HPA goes to the nearer one without looking at a metric.
pub(super) fn usable_demand(rule: &'static str, input: &PlanInput) -> Result<f64, Size> {
    let current = input.current_replicas;
    let (min, max) = (input.behavior.min_replicas, input.behavior.max_replicas);
    let Signal::Fresh { demand, .. } = input.signal else {
        return Err(Size::keep(rule, input, "no fresh demand"));
    };
    if current > max || current < min {
        let replicas = if current > max { max } else { min };
        let reason = format!("{current} is outside {min} to {max}");
        return Err(Size { rule, replicas, ratio: None, reason });
    }
    Ok(demand)
}

/// From no replica at all there is no tolerance: ceil(ratio).
pub(super) fn from_zero(rule: &'static str, demand: f64, target: f64) -> Size {
    let replicas = (demand / target).ceil() as u32;
    Size { rule, replicas, ratio: None, reason: format!("demand {demand:.3} without replicas") }
}

/// Mean demand of a measured replica in multiples of `unit`, saturated ones at no less than their
/// capacity; `None` if none was measured.
pub(super) fn mean_replica(demand: f64, unit: f64, input: &PlanInput) -> Option<f64> {
    let measured = input.ready_replicas.saturating_sub(input.missing_metrics);
    let saturated = matches!(input.signal, Signal::Fresh { lower_bound: true, .. });
    let least = if saturated { input.capacity / unit } else { 0.0 };
    (measured > 0).then(|| (demand / (f64::from(measured) * unit)).max(least))
}

/// The HPA's calculation from the `ratio` of mean to target over the measured replicas; `full` is
/// the ratio of a replica without a metric on the way down.
pub(super) fn by_ratio(
    rule: &'static str,
    ratio: f64,
    full: f64,
    reason: String,
    input: &PlanInput,
) -> Size {
    let current = input.current_replicas;
    let missing = input.missing_metrics.min(input.ready_replicas);
    let measured = f64::from(input.ready_replicas - missing);
    let starting = current.saturating_sub(input.ready_replicas);
    let (idle, busy) = match ratio {
        r if r > 1.0 => (f64::from(starting + missing), 0.0),
        r if r < 1.0 => (0.0, f64::from(missing)),
        _ => (0.0, 0.0),
    };
    let counted = measured + idle + busy;
    let whole =
        if counted == measured { ratio } else { (ratio * measured + full * busy) / counted };
    let replicas = (whole * counted).ceil() as u32;
    let turned = (ratio > 1.0 && (whole < 1.0 || replicas < current))
        || (ratio < 1.0 && (whole > 1.0 || replicas > current));
    if counted > measured && turned {
        return Size::keep(rule, input, format!("{reason}, which the unmeasured ones turn round"));
    }
    Size { rule, replicas, ratio: Some(whole), reason: format!("{reason} needs {replicas}") }
}
