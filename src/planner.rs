//! Pure: turns demand, forecast and policy into a decision.
//!
//! The order, once and for all: size ▸ tolerance ▸ stabilization ▸ rate limit ▸ schedule ▸ min/max.
//! [`plan`] is that list. The reactive proposal is always computed. Under basis `forecast` it wins
//! where demand exceeds all replicas, so a wrong low forecast can never starve a service that is
//! loaded now; below full load a trusted forecast decides, see [`sizing::relief`]. A forecast that
//! has lost its trust goes on, but every step up of the rule wins over it. Missing data holds, and
//! never scales down.

pub mod average_value;
pub mod aws_predictive;
mod behavior;
pub mod budget;
pub mod hpa;
pub mod peers;
pub mod phpa;
pub mod predictive;
pub mod rate_limit;
pub mod regret;
pub mod risk;
pub mod scheduled;
pub mod sizing;
pub mod stabilization;
pub mod target_tracking;
pub mod threshold;
pub mod trust;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::forecast::Forecast;
use crate::series::Time;
pub use behavior::Behavior;
pub use predictive::ForecastUsed;
use predictive::Prices;
use regret::Regret;
use sizing::Size;

/// How replicas are chosen. Closed: a new policy is a new variant and a new file.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// A fixed count.
    Static {
        replicas: u32,
    },
    Threshold(threshold::Threshold),
    TargetTracking(target_tracking::TargetTracking),
    AverageValue(average_value::AverageValue),
    Predictive(predictive::Predictive),
    Phpa(phpa::Phpa),
    AwsPredictive(aws_predictive::AwsPredictive),
}

impl Policy {
    /// As in the configuration and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Policy::Static { .. } => "static",
            Policy::Threshold(_) => "threshold",
            Policy::TargetTracking(_) => "target_tracking",
            Policy::AverageValue(_) => "average_value",
            Policy::Predictive(_) => "predictive",
            Policy::Phpa(_) => "phpa",
            Policy::AwsPredictive(_) => "aws_predictive",
        }
    }
}

/// One value for scaling up, one for scaling down.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Bidirectional<T> {
    pub up: T,
    pub down: T,
}

/// The demand signal at a step, and how far it can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Signal {
    /// `lower_bound`: workers were saturated, true demand may be higher.
    Fresh {
        demand: f64,
        lower_bound: bool,
        age_ms: u64,
    },
    Stale {
        age_ms: u64,
    },
    /// Exactly 0 right after load; told for so long.
    Doubted {
        zero_ms: u64,
    },
    Missing,
}

/// Everything that a decision rests on.
#[derive(Debug, Clone)]
pub struct PlanInput<'a> {
    pub now: Time,
    pub signal: Signal,
    /// Demand that one ready replica carries at full utilization; above 0.
    pub capacity: f64,
    pub ready_replicas: u32,
    /// Ready replicas whose metric is missing; demand is that of the others.
    pub missing_metrics: u32,
    /// Starting, warming and ready; draining ones do not count.
    pub current_replicas: u32,
    /// Mean demand over the fallback's window / (current replicas x capacity); `None` until the
    /// window is filled. Starting replicas count as supply, so that the rule orders none twice.
    pub utilization_window: Option<f64>,
    pub forecast: Option<&'a Forecast>,
    /// startup delay + one evaluation interval.
    pub lookahead: Duration,
    pub prices: Prices,
    pub regret: Regret,
    pub trust: &'a Trust,
    pub history: &'a stabilization::History,
    /// What a replayed peer remembers.
    pub peers: &'a peers::Memory,
    pub behavior: &'a Behavior,
    /// Rule used where the forecast is absent or not trusted.
    pub fallback: &'a threshold::Threshold,
}

/// Whether the forecast may act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Trust {
    pub trusted: bool,
    /// It was trusted once and lost that: it acts, but a rule's step up wins over it.
    pub doubted: bool,
    /// 1 - loss of the forecast / loss of the bar it must beat, recently; `None` before there is
    /// evidence.
    pub skill: Option<f64>,
    /// Forecasts scored so far.
    pub evidence: u32,
    pub reason: String,
}

/// What a decision rested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    Forecast,
    Reactive,
    /// Data missing or stale: never down.
    Hold,
}

/// The stage that changed a number on its way to `desired_replicas`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Tolerance,
    Stabilization,
    RateLimit,
    Schedule,
    MinReplicas,
    MaxReplicas,
    /// Somebody else has changed the count.
    Yielded,
    /// An operator's override.
    Override,
}

/// One rule's answer, kept whether it won or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Proposal {
    /// `forecast`, `overload`, `hold`, or the name of a policy.
    pub rule: String,
    pub replicas: u32,
    pub reason: String,
}

/// A stage that bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LimitApplied {
    pub limit: Limit,
    pub before: u32,
    pub after: u32,
    pub reason: String,
}

/// How many replicas are wanted, and why. Every field is a record; nothing but the [`Regret`] and a
/// peer's [`peers::Memory`] is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Decision {
    #[schema(value_type = String, format = DateTime)]
    pub time: Time,
    pub basis: Basis,
    pub signal: Signal,
    pub capacity: f64,
    pub ready_replicas: u32,
    pub current_replicas: u32,
    /// Demand / (ready replicas x capacity); `None` without fresh demand or ready replicas.
    pub utilization: Option<f64>,
    pub forecast: Option<ForecastUsed>,
    pub trust: Trust,
    pub proposals: Vec<Proposal>,
    /// Desired replicas before stabilization and limits.
    pub recommendation: u32,
    pub limits: Vec<LimitApplied>,
    pub desired_replicas: u32,
    /// What would have been desired without the forecast.
    pub without_forecast: u32,
    /// One sentence for people.
    pub reason: String,
    /// What stands in the way of carrying it out, for instance an engine that does not answer.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The planner's order, top to bottom.
pub fn plan(policy: &Policy, input: &PlanInput) -> Decision {
    let forecast = predictive::read(input);
    let basis = basis(policy, input, forecast.is_some());
    let rule = match basis {
        Basis::Hold => Size { replicas: held(input), ..Size::keep("hold", input, doubt(input)) },
        _ => sizing::reactive(policy, input),
    };
    let by_forecast = match (basis, &forecast) {
        (Basis::Forecast, Some(used)) => Some(predictive::size(used)),
        (Basis::Hold, _) => None,
        _ => peers::size(policy, &rule, input),
    };
    let relief = by_forecast.as_ref().filter(|_| basis == Basis::Forecast).and_then(|size| {
        let doubt = input.trust.doubted && rule.replicas > input.current_replicas;
        let up = sizing::relief(&rule, input).or_else(|| doubt.then(|| rule.clone()));
        up.filter(|up| up.replicas > size.replicas)
    });
    let (basis, chosen) = match (&relief, &by_forecast) {
        (Some(relief), _) => (Basis::Reactive, relief),
        (None, Some(size)) => (Basis::Forecast, size),
        (None, None) => (basis, &rule),
    };
    let way = Way::through_all(chosen, basis, input);
    let reason = way.sentence(chosen, input);
    let without_forecast = match by_forecast {
        Some(_) => Way::through_all(&rule, basis, input).replicas,
        None => way.replicas,
    };
    Decision {
        time: input.now,
        basis,
        signal: input.signal,
        capacity: input.capacity,
        ready_replicas: input.ready_replicas,
        current_replicas: input.current_replicas,
        utilization: utilization(input),
        forecast,
        trust: input.trust.clone(),
        proposals: by_forecast
            .iter()
            .chain(relief.iter().filter(|relief| **relief != rule))
            .chain([&rule])
            .map(Proposal::from)
            .collect(),
        recommendation: way.recommendation,
        limits: way.limits,
        desired_replicas: way.replicas,
        without_forecast,
        reason,
        notes: Vec::new(),
    }
}

/// A number on its way through the stages, and the marks they left on it.
struct Way {
    recommendation: u32,
    replicas: u32,
    limits: Vec<LimitApplied>,
}

impl Way {
    fn through_all(size: &Size, basis: Basis, input: &PlanInput) -> Way {
        let Behavior { min_replicas, max_replicas, .. } = input.behavior;
        let current = input.current_replicas;
        let mut way = Way { recommendation: 0, replicas: size.replicas, limits: Vec::new() };
        if input.behavior.tolerates(size.ratio) {
            way.limit(Limit::Tolerance, current, "load and supply differ too little");
        }
        way.recommendation = way.replicas;
        // What is held has passed the next two when it was decided.
        if basis != Basis::Hold {
            let stable = stabilization::stabilize(way.replicas, input);
            let why = "an earlier recommendation is still in its window";
            way.limit(Limit::Stabilization, stable, why);
            let allowed = rate_limit::limit(way.replicas, input);
            way.limit(Limit::RateLimit, allowed, "that is the most change for now");
        }
        // In doubt even a maximum takes nothing away: missing data never scales down.
        let ceiling = |max: u32| if basis == Basis::Hold { current.max(max) } else { max };
        let bounds = input.behavior.schedule.bounds(input.now);
        let scheduled = way.replicas.min(ceiling(bounds.max_replicas)).max(bounds.min_replicas);
        way.limit(Limit::Schedule, scheduled, "the schedule");
        way.limit(Limit::MinReplicas, way.replicas.max(*min_replicas), "the minimum");
        way.limit(Limit::MaxReplicas, way.replicas.min(ceiling(*max_replicas)), "the maximum");
        way
    }

    fn limit(&mut self, limit: Limit, after: u32, reason: &str) {
        let before = std::mem::replace(&mut self.replicas, after);
        if before != after {
            self.limits.push(LimitApplied { limit, before, after, reason: reason.into() });
        }
    }

    fn sentence(&self, size: &Size, input: &PlanInput) -> String {
        let mut text = format!("{}: {}; {} now", size.rule, size.reason, input.current_replicas);
        for limit in &self.limits {
            text.push_str(&format!(", {} by {}", limit.after, limit.limit.name()));
        }
        text
    }
}

impl Trust {
    /// Whether the forecast takes part in decisions.
    pub fn acts(&self) -> bool {
        self.trusted || self.doubted
    }
}

/// The forecast acts only with fresh demand and once it has earned trust.
fn basis(policy: &Policy, input: &PlanInput, forecast: bool) -> Basis {
    let fresh = matches!(input.signal, Signal::Fresh { .. }) && input.capacity > 0.0;
    match policy {
        // A fixed count rests on no data, so no data can be missing.
        Policy::Static { .. } => Basis::Reactive,
        _ if !fresh => Basis::Hold,
        Policy::Predictive(_) if forecast && input.trust.acts() => Basis::Forecast,
        _ => Basis::Reactive,
    }
}

/// Replicas that die while nothing is measured are replaced: it may be their death that left
/// nothing to measure.
fn held(input: &PlanInput) -> u32 {
    input.current_replicas.max(input.history.desired())
}

fn doubt(input: &PlanInput) -> String {
    match input.signal {
        Signal::Doubted { zero_ms } => {
            let seconds = zero_ms as f64 / 1000.0;
            format!("demand fell to exactly 0 at once {seconds:.1} s ago, which is doubted")
        }
        Signal::Missing => "no demand was measured".into(),
        Signal::Stale { age_ms } => format!("demand is {:.1} s old", age_ms as f64 / 1000.0),
        Signal::Fresh { .. } => "the capacity of a replica is not known".into(),
    }
}

fn utilization(input: &PlanInput) -> Option<f64> {
    let Signal::Fresh { demand, .. } = input.signal else { return None };
    let supply = f64::from(input.ready_replicas) * input.capacity;
    (supply > 0.0).then(|| demand / supply)
}

impl From<&Size> for Proposal {
    fn from(size: &Size) -> Proposal {
        Proposal { rule: size.rule.into(), replicas: size.replicas, reason: size.reason.clone() }
    }
}

impl Limit {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Tolerance => "tolerance",
            Limit::Stabilization => "stabilization",
            Limit::RateLimit => "rate_limit",
            Limit::Schedule => "schedule",
            Limit::MinReplicas => "min_replicas",
            Limit::MaxReplicas => "max_replicas",
            Limit::Yielded => "yielded",
            Limit::Override => "override",
        }
    }
}

#[cfg(test)]
mod tests;
