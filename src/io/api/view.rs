//! I/O: what the API shows of a service: settings and snapshot to documented shapes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::balancer::{Explanation, Standing};
use crate::config::{self, Mode};
use crate::fleet::{Phase, Replica};
use crate::io::artifact::catalog::ModelInfo;
use crate::io::service::{Override, Snapshot};
use crate::planner::{Basis, Decision, Policy};

/// A service at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSummary {
    #[schema(example = "web")]
    pub name: String,
    /// `observe` also where another Foresail acts on the same target.
    pub mode: Mode,
    /// `predictive`, `threshold`, `target_tracking` or `static`.
    pub policy: String,
    pub demand_unit: config::DemandUnit,
    /// When this was true.
    #[schema(value_type = String, format = DateTime)]
    pub time: DateTime<Utc>,
    pub demand: Option<f64>,
    /// Demand that one ready replica carries at full utilization.
    pub capacity: f64,
    /// Demand / (ready replicas x capacity).
    pub utilization: Option<f64>,
    pub replicas: ReplicaCounts,
    /// Of the last decision, as the next four.
    pub desired_replicas: Option<u32>,
    pub basis: Option<Basis>,
    pub forecast_trusted: bool,
    /// One sentence.
    pub reason: Option<String>,
    #[serde(rename = "override")]
    pub override_: Option<Override>,
    /// What is wrong now.
    pub notes: Vec<String>,
}

/// Replicas by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaCounts {
    pub starting: usize,
    pub warming: usize,
    pub ready: usize,
    pub draining: usize,
}

/// A replica with its place in the balancer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaView {
    #[serde(flatten)]
    pub replica: Replica,
    #[serde(flatten)]
    pub standing: Standing,
}

/// A choice with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// The chosen one.
    #[serde(flatten)]
    pub replica: Replica,
    pub choice: Explanation,
}

/// A service with its settings, its model and its last decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceDetail {
    #[serde(flatten)]
    pub summary: ServiceSummary,
    pub settings: SettingsView,
    pub model: Option<ModelInfo>,
    /// High quantile of the measured ones; the configured one before the first.
    pub startup_delay_ms: u64,
    /// Requests that arrived at the built-in balancer.
    pub arrivals_total: u64,
    /// Requests answered by the replicas now in the fleet, and how many of them failed.
    pub requests_total: u64,
    pub request_failures_total: u64,
    pub decision: Option<Decision>,
}

/// The configuration of a service, as far as it explains decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsView {
    /// `process` or `docker`.
    pub target: String,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub evaluation_interval_ms: u64,
    pub sample_interval_ms: u64,
    pub max_staleness_ms: u64,
    /// Of the predictive policy.
    pub overload_budget: Option<f64>,
    /// Of the built-in reverse proxy.
    pub balancer: Option<BalancerView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BalancerView {
    #[schema(example = "127.0.0.1:9000")]
    pub listen: String,
    pub algorithm: crate::balancer::Algorithm,
}

pub fn summary(service: &config::Service, snapshot: &Snapshot) -> ServiceSummary {
    let decision = snapshot.decisions.last();
    let replicas = count(&snapshot.replicas);
    // As the fleet counts capacity: a warming replica carries load already.
    let carried = (replicas.ready + replicas.warming) as f64 * snapshot.capacity;
    ServiceSummary {
        name: service.name.clone(),
        mode: snapshot.mode,
        policy: policy_name(&service.settings.policy).to_string(),
        demand_unit: service.demand,
        time: snapshot.time,
        demand: snapshot.demand,
        capacity: snapshot.capacity,
        utilization: snapshot.demand.filter(|_| carried > 0.0).map(|demand| demand / carried),
        replicas,
        desired_replicas: decision.map(|d| d.desired_replicas),
        basis: decision.map(|d| d.basis),
        forecast_trusted: decision.is_some_and(|d| d.trust.trusted),
        reason: decision.map(|d| d.reason.clone()),
        override_: snapshot.override_.clone(),
        notes: snapshot.notes.clone(),
    }
}

pub fn detail(service: &config::Service, snapshot: &Snapshot) -> ServiceDetail {
    let settings = &service.settings;
    ServiceDetail {
        summary: summary(service, snapshot),
        settings: SettingsView {
            target: match service.target {
                config::Target::Process(_) => "process".to_string(),
                config::Target::Docker(_) => "docker".to_string(),
                config::Target::Compose(_) => "compose".to_string(),
            },
            min_replicas: settings.behavior.min_replicas,
            max_replicas: settings.behavior.max_replicas,
            evaluation_interval_ms: settings.evaluation_interval.as_millis() as u64,
            sample_interval_ms: service.sample_interval.as_millis() as u64,
            max_staleness_ms: settings.max_staleness.as_millis() as u64,
            overload_budget: match &settings.policy {
                Policy::Predictive(predictive) => Some(predictive.overload_budget),
                _ => None,
            },
            balancer: service.balancer.as_ref().map(|balancer| BalancerView {
                listen: balancer.listen.to_string(),
                algorithm: balancer.algorithm,
            }),
        },
        model: snapshot.model.clone(),
        startup_delay_ms: snapshot.startup_delay.as_millis() as u64,
        arrivals_total: snapshot.arrivals_total,
        requests_total: snapshot.requests_total,
        request_failures_total: snapshot.request_failures_total,
        decision: snapshot.decisions.last().map(|decision| (**decision).clone()),
    }
}

pub fn replicas(snapshot: &Snapshot) -> Vec<ReplicaView> {
    let view = |replica: &Replica| ReplicaView {
        replica: replica.clone(),
        standing: snapshot.standings.get(&replica.id).cloned().unwrap_or_default(),
    };
    snapshot.replicas.iter().map(view).collect()
}

pub fn count(replicas: &[Replica]) -> ReplicaCounts {
    let mut counts = ReplicaCounts::default();
    for replica in replicas {
        match replica.phase {
            Phase::Starting => counts.starting += 1,
            Phase::Warming => counts.warming += 1,
            Phase::Ready => counts.ready += 1,
            Phase::Draining => counts.draining += 1,
            Phase::Gone => {}
        }
    }
    counts
}

pub fn policy_name(policy: &Policy) -> &'static str {
    policy.name()
}
