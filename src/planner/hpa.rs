//! Pure: the text of a Kubernetes HorizontalPodAutoscaler to the policy that replays it.
//!
//! `autoscaling/v2` (v2beta2 is spelled the same) and `v1`, defaults as the API server and the
//! controller fill them. Of several metrics one is replayed, CPU before all others, because there
//! is one demand; the notes name the rest. A file of several documents may hold one autoscaler.

mod raw;

use std::time::Duration;

use serde::Deserialize;

use super::average_value::{AverageValue, Metric};
use super::rate_limit::{Change, RateLimit, RateLimits, Select};
use super::target_tracking::{SignalKind, TargetTracking};
use super::{Behavior, Policy};
use raw::{Document, Quantity, RawHpa, RawMetric, RawRules, RawSpec, RawTarget};

/// An autoscaler of Kubernetes as this planner runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hpa {
    pub name: String,
    /// [`Policy::TargetTracking`] or [`Policy::AverageValue`].
    pub policy: Policy,
    /// With its minimum and maximum of replicas.
    pub behavior: Behavior,
    /// What is not replayed, or differs; sentences for people.
    pub notes: Vec<String>,
}

/// CPU percent that the API server fills in where no metric is given.
const DEFAULT_PERCENT: u32 = 80;

/// # Errors
/// A sentence: which key, what is wrong, what is allowed.
pub fn parse(text: &str) -> Result<Hpa, String> {
    let RawHpa { api_version, metadata, spec, .. } = document(text)?;
    let mut notes = Vec::new();
    let policy = match api_version.as_str() {
        "autoscaling/v2" | "autoscaling/v2beta2" => policy(&spec, &mut notes)?,
        "autoscaling/v1" if spec.metrics.is_some() || spec.behavior.is_some() => {
            return Err("apiVersion: metrics and behavior need autoscaling/v2".into());
        }
        "autoscaling/v1" => {
            let percent = spec.target_cpu_utilization_percentage.unwrap_or(DEFAULT_PERCENT);
            utilization("spec.targetCPUUtilizationPercentage", percent)?
        }
        other => {
            return Err(format!(
                "apiVersion: {other:?} is not supported; write autoscaling/v2, \
                 autoscaling/v2beta2 or autoscaling/v1"
            ));
        }
    };
    if matches!(policy, Policy::TargetTracking(_)) {
        notes.push("utilization is of the CPU that a pod requests: give that as capacity".into());
    }
    let behavior = behavior(&spec)?;
    let mut kinds = spec.metrics.iter().flatten().map(|metric| metric.kind.as_str());
    if behavior.min_replicas == 0 && !kinds.any(|kind| matches!(kind, "Object" | "External")) {
        let message = "spec.minReplicas: 0 needs an Object or External metric; write 1 or more";
        return Err(message.into());
    }
    Ok(Hpa { name: metadata.name.unwrap_or_else(|| "hpa".into()), policy, behavior, notes })
}

/// The one document that is an autoscaler.
fn document(text: &str) -> Result<RawHpa, String> {
    let documents = || serde_norway::Deserializer::from_str(text);
    let mut found = None;
    for (i, document) in documents().enumerate() {
        let document = Option::<Document>::deserialize(document);
        let kind =
            document.map_err(|e| format!("no YAML of Kubernetes: {e}"))?.and_then(|d| d.kind);
        if kind.as_deref() == Some("HorizontalPodAutoscaler") && found.replace(i).is_some() {
            return Err("more than one HorizontalPodAutoscaler; keep one".into());
        }
    }
    let missing = "kind: no HorizontalPodAutoscaler in it; give the YAML of one";
    let one = found.and_then(|i| documents().nth(i)).ok_or(missing)?;
    RawHpa::deserialize(one).map_err(|e| e.to_string())
}

fn policy(spec: &RawSpec, notes: &mut Vec<String>) -> Result<Policy, String> {
    if spec.target_cpu_utilization_percentage.is_some() {
        let message =
            "spec.targetCPUUtilizationPercentage: only in autoscaling/v1; write `metrics`";
        return Err(message.into());
    }
    let Some(metrics) = spec.metrics.as_deref().filter(|metrics| !metrics.is_empty()) else {
        return utilization("spec.metrics", DEFAULT_PERCENT);
    };
    let mut read = Vec::new();
    for (i, metric) in metrics.iter().enumerate() {
        read.push((metric.label(), one_metric(&format!("spec.metrics[{i}]"), metric)?));
    }
    read.sort_by_key(|(_, policy)| match policy {
        Some(Policy::AverageValue(rule)) if rule.of != Metric::Cpu => 1,
        Some(_) => 0,
        None => 2,
    });
    let labels: Vec<&str> = read.iter().map(|(label, _)| label.as_str()).collect();
    let Some((_, Some(policy))) = read.first() else {
        return Err(format!(
            "spec.metrics: {} cannot be replayed; one of Resource cpu, Pods, or Object or \
             External with an AverageValue is needed",
            labels.join(", ")
        ));
    };
    notes.extend(labels[1..].iter().map(|label| {
        format!("metric {label} is not replayed: the HPA would take the larger of its answers")
    }));
    Ok(policy.clone())
}

/// `None` where a metric cannot be replayed from one demand.
fn one_metric(key: &str, metric: &RawMetric) -> Result<Option<Policy>, String> {
    let Some((section, source)) = metric.source() else {
        return Err(format!(
            "{key}.type: {:?} is none of Resource, ContainerResource, Pods, Object, External",
            metric.kind
        ));
    };
    let key = format!("{key}.{section}");
    let Some(source) = source else {
        return Err(format!("{key}: missing; metric type {} needs it", metric.kind));
    };
    let Some(target) = &source.target else {
        return Err(format!("{key}.target: missing; write its type and value"));
    };
    let key = format!("{key}.target");
    let cpu = match section {
        "resource" | "containerResource" => source.name.as_deref() == Some("cpu"),
        _ => false,
    };
    let RawTarget { kind, average_utilization, average_value, value } = target;
    let needs = |name: &str| format!("{key}.{name}: missing; target type {kind} needs it");
    match (kind.as_str(), section) {
        ("Utilization", "resource" | "containerResource") => {
            let percent = average_utilization.ok_or_else(|| needs("averageUtilization"))?;
            let policy = utilization(&format!("{key}.averageUtilization"), percent)?;
            Ok(Some(policy).filter(|_| cpu))
        }
        ("AverageValue", _) => {
            let given = average_value.as_ref().ok_or_else(|| needs("averageValue"))?;
            let target = given.above_zero(&format!("{key}.averageValue"))?;
            let of = match section {
                "resource" | "containerResource" => Metric::Cpu,
                "pods" => Metric::Pods,
                _ => Metric::Total,
            };
            let replayed = of != Metric::Cpu || cpu;
            Ok(replayed.then_some(Policy::AverageValue(AverageValue { target, of })))
        }
        ("Value", "object" | "external") => {
            let given = value.as_ref().ok_or_else(|| needs("value"))?;
            given.above_zero(&format!("{key}.value"))?;
            Ok(None)
        }
        ("Utilization" | "Value", _) => {
            Err(format!("{key}.type: {kind} is not allowed for {section}"))
        }
        _ => Err(format!("{key}.type: {kind:?} is none of Utilization, AverageValue, Value")),
    }
}

fn utilization(key: &str, percent: u32) -> Result<Policy, String> {
    if percent == 0 {
        return Err(format!("{key}: 0 is no target; write a percentage of 1 or more"));
    }
    let target_utilization = f64::from(percent) / 100.0;
    Ok(Policy::TargetTracking(TargetTracking { target_utilization, signal: SignalKind::Cpu }))
}

fn behavior(spec: &RawSpec) -> Result<Behavior, String> {
    let mut behavior = match spec.behavior {
        Some(_) => Behavior::kubernetes(),
        None => Behavior::kubernetes_without(),
    };
    behavior.min_replicas = spec.min_replicas.unwrap_or(1);
    behavior.max_replicas = spec.max_replicas;
    if spec.max_replicas < behavior.min_replicas.max(1) {
        return Err(format!(
            "spec.maxReplicas: {} is less than minReplicas = {}, or 0",
            spec.max_replicas, behavior.min_replicas
        ));
    }
    let Some(rules) = &spec.behavior else { return Ok(behavior) };
    let (windows, tolerance) = (&mut behavior.stabilization_window, &mut behavior.tolerance);
    let limits = &mut behavior.rate_limits;
    if let Some(rules) = &rules.scale_up {
        scaling_rules("scaleUp", rules, &mut windows.up, &mut tolerance.up, &mut limits.up)?;
    }
    if let Some(rules) = &rules.scale_down {
        let (window, tolerance) = (&mut windows.down, &mut tolerance.down);
        scaling_rules("scaleDown", rules, window, tolerance, &mut limits.down)?;
    }
    Ok(behavior)
}

/// Lays what is given over the defaults.
fn scaling_rules(
    direction: &str,
    rules: &RawRules,
    window: &mut Duration,
    tolerance: &mut f64,
    limits: &mut RateLimits,
) -> Result<(), String> {
    let key = format!("spec.behavior.{direction}");
    if let Some(seconds) = rules.stabilization_window_seconds {
        if seconds > 3600 {
            return Err(format!("{key}.stabilizationWindowSeconds: {seconds} is not in 0 to 3600"));
        }
        *window = Duration::from_secs(seconds.into());
    }
    if let Some(given) = &rules.tolerance {
        *tolerance = given.read(&format!("{key}.tolerance"))?;
    }
    limits.select = match rules.select_policy.as_deref() {
        None | Some("Max") => Select::Max,
        Some("Min") => Select::Min,
        Some("Disabled") => Select::Disabled,
        Some(other) => {
            return Err(format!("{key}.selectPolicy: {other:?} is none of Max, Min, Disabled"));
        }
    };
    let Some(policies) = &rules.policies else { return Ok(()) };
    if policies.is_empty() {
        return Err(format!("{key}.policies: empty; write at least one, or leave it out"));
    }
    limits.limits.clear();
    for (i, policy) in policies.iter().enumerate() {
        let key = format!("{key}.policies[{i}]");
        if policy.value == 0 {
            return Err(format!("{key}.value: 0 allows nothing; write 1 or more"));
        }
        if !(1..=1800).contains(&policy.period_seconds) {
            let seconds = policy.period_seconds;
            return Err(format!("{key}.periodSeconds: {seconds} is not in 1 to 1800"));
        }
        let most = match policy.kind.as_str() {
            "Pods" => Change::Replicas(policy.value),
            "Percent" => Change::Percent(policy.value),
            other => return Err(format!("{key}.type: {other:?} is neither Pods nor Percent")),
        };
        let period = Duration::from_secs(policy.period_seconds.into());
        limits.limits.push(RateLimit { most, period });
    }
    Ok(())
}

impl Quantity {
    fn above_zero(&self, key: &str) -> Result<f64, String> {
        match self.read(key)? {
            0.0 => Err(format!("{key}: 0 is no target; write more")),
            value => Ok(value),
        }
    }
}
