//! Pure: the most change allowed per period.

use std::time::Duration;

use super::PlanInput;

/// At most the larger of `replicas` and `fraction` of the count at the start of `period`.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    pub replicas: u32,
    pub fraction: f64,
    pub period: Duration,
}

/// `desired`, no further from the current count than the limits of its direction allow.
pub fn limit(desired: u32, input: &PlanInput) -> u32 {
    let limits = &input.behavior.rate_limits;
    let current = input.current_replicas;
    if desired > current {
        let highest = limits.up.iter().map(|l| highest(l, input)).max();
        desired.min(highest.map_or(u32::MAX, |h| h.max(current)))
    } else {
        let lowest = limits.down.iter().map(|l| lowest(l, input)).min();
        desired.max(lowest.map_or(0, |l| l.min(current)))
    }
}

/// Rounds the share up, as the HPA does.
fn highest(limit: &RateLimit, input: &PlanInput) -> u32 {
    let start = period_start(limit, input);
    let by_share = (start * (1.0 + limit.fraction)).ceil();
    by_share.max(start + f64::from(limit.replicas)) as u32
}

/// Truncates what is left, as the HPA does: 10 % of 72 removes 8.
fn lowest(limit: &RateLimit, input: &PlanInput) -> u32 {
    let start = period_start(limit, input);
    let by_share = (start * (1.0 - limit.fraction)).trunc();
    by_share.min(start - f64::from(limit.replicas)) as u32
}

/// Replicas when the period began: the current ones without what was added and with what was
/// removed since.
fn period_start(limit: &RateLimit, input: &PlanInput) -> f64 {
    let (added, removed) = input.history.changed(input.now, limit.period);
    (i64::from(input.current_replicas) - added + removed).max(0) as f64
}
