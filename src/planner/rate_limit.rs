//! Pure: the most change allowed per period, as the HPA v2 counts it.
//!
//! Each limit names a count that may be reached from where the period began; of several limits in a
//! direction `select` takes one. Known limit: the HPA counts the changes that it ordered, this
//! module those that it saw, so replicas that somebody else stopped count as well.

use std::time::Duration;

use super::PlanInput;

/// All limits of one direction. The default limits nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RateLimits {
    pub limits: Vec<RateLimit>,
    pub select: Select,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    pub most: Change,
    pub period: Duration,
}

/// How far the count may move within a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The HPA's `Pods`.
    Replicas(u32),
    /// Of the count when the period began; may exceed 100 on the way up.
    Percent(u32),
    /// To this count, whatever it was before: the floor of an HPA without `behavior`.
    UpTo(u32),
}

/// Which of several limits applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Select {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// `desired`, no further from the current count than the limits of its direction allow.
pub fn limit(desired: u32, input: &PlanInput) -> u32 {
    let rules = &input.behavior.rate_limits;
    let current = input.current_replicas;
    if desired > current {
        let highest = rules.up.limits.iter().map(|l| highest(l, input));
        let allowed = match rules.up.select {
            Select::Max => highest.max(),
            Select::Min => highest.min(),
            Select::Disabled => Some(current),
        };
        // More may have been added than is allowed: that is no reason to go back.
        desired.min(allowed.map_or(u32::MAX, |n| n.max(current)))
    } else {
        let lowest = rules.down.limits.iter().map(|l| lowest(l, input));
        let allowed = match rules.down.select {
            Select::Max => lowest.min(),
            Select::Min => lowest.max(),
            Select::Disabled => Some(current),
        };
        desired.max(allowed.map_or(0, |n| n.min(current)))
    }
}

/// Rounds the share up, as the HPA does.
fn highest(limit: &RateLimit, input: &PlanInput) -> u32 {
    let start = period_start(limit, input);
    match limit.most {
        Change::Replicas(n) => (start + f64::from(n)) as u32,
        Change::Percent(p) => (start * (1.0 + f64::from(p) / 100.0)).ceil() as u32,
        Change::UpTo(n) => n,
    }
}

/// Truncates what is left, as the HPA does: 10 % of 72 removes 8.
fn lowest(limit: &RateLimit, input: &PlanInput) -> u32 {
    let start = period_start(limit, input);
    match limit.most {
        Change::Replicas(n) => (start - f64::from(n)) as u32,
        Change::Percent(p) => (start * (1.0 - f64::from(p) / 100.0)) as u32,
        Change::UpTo(n) => n,
    }
}

/// Replicas when the period began: the current ones without what was added and with what was
/// removed since.
fn period_start(limit: &RateLimit, input: &PlanInput) -> f64 {
    let (added, removed) = input.history.changed(input.now, limit.period);
    (i64::from(input.current_replicas) - added + removed) as f64
}
