//! Pure: the ratio rule of the Kubernetes HPA v2.
//!
//! As its replica calculator does it for CPU: the ratio of mean utilization to target, times the
//! ready replicas, rounded up. If replicas are starting and the ratio says up, they are counted as
//! idle, and an answer that thereby turns round is dropped. Without any ready replica there is no
//! metric, and nothing changes. Known limit: utilization is one mean over all ready replicas, so a
//! single replica's missing metric is unseen.

use super::{PlanInput, Signal, sizing::Size};

/// Desired = ceil(ready x utilization / target).
#[derive(Debug, Clone, PartialEq)]
pub struct TargetTracking {
    pub target_utilization: f64,
    pub signal: SignalKind,
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
    let Signal::Fresh { demand, lower_bound, .. } = input.signal else {
        return Size::keep(RULE, input, "no fresh demand");
    };
    if input.current_replicas == 0 && demand > 0.0 {
        let reason = "demand without replicas".into();
        return Size { rule: RULE, replicas: 1, ratio: None, reason };
    }
    if input.ready_replicas == 0 {
        return Size::keep(RULE, input, "no ready replica to measure");
    }
    let (ready, current) = (f64::from(input.ready_replicas), f64::from(input.current_replicas));
    let seen = demand / (ready * input.capacity);
    let seen = if lower_bound { seen.max(1.0) } else { seen };
    let utilization = if rule.signal == SignalKind::Cpu { seen.min(1.0) } else { seen };
    let ratio = utilization / rule.target_utilization;
    let starting = input.current_replicas > input.ready_replicas;
    let (ratio, counted) =
        if starting && ratio > 1.0 { (ratio * ready / current, current) } else { (ratio, ready) };
    if starting && utilization > rule.target_utilization && ratio < 1.0 {
        return Size::keep(RULE, input, "starting replicas will carry it");
    }
    let replicas = (ratio * counted).ceil() as u32;
    let reason = format!(
        "utilization {:.0} % against a target of {:.0} % needs {replicas}",
        utilization * 100.0,
        rule.target_utilization * 100.0
    );
    Size { rule: RULE, replicas, ratio: Some(ratio), reason }
}
