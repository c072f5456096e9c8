//! I/O: `/metrics` for Prometheus, rendered from snapshots at each scrape.
//!
//! prometheus-client writes OpenMetrics; a scraper that does not ask for that gets the older text
//! format, in which a counter's `# TYPE` line carries its `_total` and there is no `# EOF`.

mod balancer;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{App, view};
use crate::config;
use crate::io::service::Snapshot;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics of all services in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health", security((), ("token" = [])),
    responses((status = 200, description = "Prometheus text format", content_type = "text/plain")),
)]
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> impl IntoResponse {
    let services = app.services.all();
    let services: Vec<_> = services.values().map(|s| (s.config(), s.snapshot())).collect();
    let text = render(&services);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        true => ([(header::CONTENT_TYPE, OPEN_METRICS)], text),
        false => ([(header::CONTENT_TYPE, CLASSIC)], classic(&text)),
    }
}

/// One metric: its values for a service, each with one more label where there are several.
struct Metric {
    name: &'static str,
    help: &'static str,
    values: fn(&config::Service, &Snapshot) -> Vec<(Labels, f64)>,
}

type Labels = Vec<(&'static str, String)>;

/// A value without further labels, or none.
fn one(value: impl Into<Option<f64>>) -> Vec<(Labels, f64)> {
    value.into().map(|value| (Vec::new(), value)).into_iter().collect()
}

/// Values told apart by one label.
fn by<L: ToString>(
    label: &'static str,
    values: impl IntoIterator<Item = (L, f64)>,
) -> Vec<(Labels, f64)> {
    values.into_iter().map(|(text, value)| (vec![(label, text.to_string())], value)).collect()
}

const GAUGES: &[Metric] = &[
    Metric {
        name: "foresail_service_info",
        help: "Configuration of the service, always 1",
        values: |service, snapshot| {
            let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_string();
            let labels = vec![
                ("mode", word(serde_json::json!(snapshot.mode))),
                ("demand_unit", word(serde_json::json!(service.demand))),
                ("policy", view::policy_name(&service.settings.policy).to_string()),
            ];
            vec![(labels, 1.0)]
        },
    },
    Metric {
        name: "foresail_demand",
        help: "Newest demand in the unit of the service",
        values: |_, snapshot| one(snapshot.demand),
    },
    Metric {
        name: "foresail_capacity",
        help: "Demand that one ready replica carries at full utilization",
        values: |_, snapshot| one(snapshot.capacity),
    },
    Metric {
        name: "foresail_replicas",
        help: "Replicas by phase",
        values: |_, snapshot| {
            let counts = view::count(&snapshot.replicas);
            by(
                "phase",
                [
                    ("starting", counts.starting as f64),
                    ("warming", counts.warming as f64),
                    ("ready", counts.ready as f64),
                    ("draining", counts.draining as f64),
                ],
            )
        },
    },
    Metric {
        name: "foresail_desired_replicas",
        help: "Replicas that the last decision asks for",
        values: |_, snapshot| one(snapshot.decisions.last().map(|d| d.desired_replicas.into())),
    },
    Metric {
        name: "foresail_min_replicas",
        help: "Configured lower bound of replicas",
        values: |service, _| one(f64::from(service.settings.behavior.min_replicas)),
    },
    Metric {
        name: "foresail_max_replicas",
        help: "Configured upper bound of replicas",
        values: |service, _| one(f64::from(service.settings.behavior.max_replicas)),
    },
    Metric {
        name: "foresail_forecast_peak",
        help: "Highest demand within the lookahead, by quantile, as the last decision saw it",
        values: |_, snapshot| {
            let used = snapshot.decisions.last().and_then(|d| d.forecast.as_ref());
            used.map_or_else(Vec::new, |used| {
                let peaks =
                    [("0.1", used.peak_low), ("0.5", used.peak_median), ("0.9", used.peak_high)];
                by("forecast_quantile", peaks)
            })
        },
    },
    Metric {
        name: "foresail_overload_risk",
        help: "Chance that demand exceeds the planned replicas at the end of the lookahead",
        values: |_, snapshot| {
            let used = snapshot.decisions.last().and_then(|d| d.forecast.as_ref());
            one(used.map(|used| used.overload_risk))
        },
    },
    Metric {
        name: "foresail_overload_price",
        help: "What an overloaded step is worth to the planner, in replica steps",
        values: |_, snapshot| {
            let used = snapshot.decisions.last().and_then(|d| d.forecast.as_ref());
            one(used.map(|used| used.overload_price))
        },
    },
    Metric {
        name: "foresail_forecast_trusted",
        help: "1 while the forecast acts unwatched",
        values: |_, snapshot| {
            let trusted = snapshot.decisions.last().is_some_and(|d| d.trust.trusted);
            one(f64::from(u8::from(trusted)))
        },
    },
    Metric {
        name: "foresail_drift",
        help: "1 from an alarm until a training has answered it",
        values: |_, snapshot| one(f64::from(u8::from(snapshot.learning.drift.is_some()))),
    },
    Metric {
        name: "foresail_drift_evidence",
        help: "How near the next alarm is, from 0 to 1",
        values: |_, snapshot| one(snapshot.learning.drift_evidence),
    },
    // Gauges, because they fall when a replica leaves.
    Metric {
        name: "foresail_fleet_requests_answered",
        help: "Requests answered by the replicas now in the fleet",
        values: |_, snapshot| one(snapshot.requests_total as f64),
    },
    Metric {
        name: "foresail_fleet_requests_failed",
        help: "Requests that failed at the replicas now in the fleet",
        values: |_, snapshot| one(snapshot.request_failures_total as f64),
    },
    Metric {
        name: "foresail_override_active",
        help: "1 while an operator's override holds",
        values: |_, snapshot| one(f64::from(u8::from(snapshot.override_.is_some()))),
    },
    Metric {
        name: "foresail_startup_delay_seconds",
        help: "High quantile of the time from start to ready",
        values: |_, snapshot| one(snapshot.startup_delay.as_secs_f64()),
    },
    Metric {
        name: "foresail_snapshot_timestamp_seconds",
        help: "When the service was last looked at",
        values: |_, snapshot| one(snapshot.time.timestamp_millis() as f64 / 1000.0),
    },
    Metric {
        name: "foresail_model_version",
        help: "Version of the model in use",
        values: |_, snapshot| {
            one(snapshot.model.as_ref().and_then(|model| model.version).map(f64::from))
        },
    },
    Metric {
        name: "foresail_model_cold_start",
        help: "1 while the model in use knows too little to act",
        values: |_, snapshot| one(f64::from(u8::from(snapshot.learning.cold_start.is_some()))),
    },
    Metric {
        name: "foresail_model_trained_timestamp_seconds",
        help: "When the model in use was trained",
        values: |_, snapshot| {
            let trained = snapshot.model.as_ref().map(|model| model.training.trained_at);
            one(trained.map(|time| time.timestamp_millis() as f64 / 1000.0))
        },
    },
];

/// Counters; prometheus-client adds `_total` to the names.
const COUNTERS: &[Metric] = &[
    Metric {
        name: "foresail_decisions",
        help: "Decisions by what they rested on",
        values: |_, snapshot| {
            by("basis", snapshot.counters.decisions.iter().map(|(basis, n)| (basis, *n as f64)))
        },
    },
    Metric {
        name: "foresail_samples",
        help: "Samples taken in",
        values: |_, snapshot| one(snapshot.counters.samples as f64),
    },
    Metric {
        name: "foresail_samples_refused",
        help: "Samples refused, by reason",
        values: |_, snapshot| {
            let refused = snapshot.counters.samples_refused.iter();
            by("reason", refused.map(|(reason, n)| (reason, *n as f64)))
        },
    },
    Metric {
        name: "foresail_samples_merged",
        help: "Samples of a replica and a time that were there already",
        values: |_, snapshot| one(snapshot.counters.samples_merged as f64),
    },
    Metric {
        name: "foresail_replica_starts",
        help: "Replicas started",
        values: |_, snapshot| one(snapshot.counters.starts as f64),
    },
    Metric {
        name: "foresail_replica_stops",
        help: "Replicas stopped",
        values: |_, snapshot| one(snapshot.counters.stops as f64),
    },
    Metric {
        name: "foresail_command_failures",
        help: "Starts that came to nothing and stops that failed, by reason",
        values: |_, snapshot| {
            let failures = snapshot.counters.command_failures.iter();
            by("reason", failures.map(|(reason, n)| (reason, *n as f64)))
        },
    },
    Metric {
        name: "foresail_trainings",
        help: "Models trained",
        values: |_, snapshot| one(snapshot.counters.trainings as f64),
    },
    Metric {
        name: "foresail_training_failures",
        help: "Trainings that gave no model",
        values: |_, snapshot| one(snapshot.counters.training_failures as f64),
    },
    Metric {
        name: "foresail_model_matches",
        help: "New models by whether they came into use",
        values: |_, snapshot| {
            by("outcome", snapshot.counters.matches.iter().map(|(outcome, n)| (outcome, *n as f64)))
        },
    },
    Metric {
        name: "foresail_models_refused",
        help: "Model files that were damaged, foreign or of another format",
        values: |_, snapshot| one(snapshot.counters.models_refused as f64),
    },
    Metric {
        name: "foresail_model_save_failures",
        help: "Models that could not be saved",
        values: |_, snapshot| one(snapshot.counters.model_save_failures as f64),
    },
    Metric {
        name: "foresail_drift_alarms",
        help: "Times that the model in use was seen to drift",
        values: |_, snapshot| one(snapshot.counters.drift_alarms as f64),
    },
    Metric {
        name: "foresail_source_failures",
        help: "Readings that failed because the source of metrics did not answer",
        values: |_, snapshot| one(snapshot.counters.source_failures as f64),
    },
    Metric {
        name: "foresail_store_failures",
        help: "Writes of the store that failed",
        values: |_, snapshot| one(snapshot.counters.store_failures as f64),
    },
    Metric {
        name: "foresail_overloaded_steps",
        help: "Steps with more demand than ready capacity",
        values: |_, snapshot| one(snapshot.counters.overloaded_steps as f64),
    },
    Metric {
        name: "foresail_requests",
        help: "Requests that arrived at the built-in balancer",
        values: |_, snapshot| one(snapshot.arrivals_total as f64),
    },
];

/// All metrics in OpenMetrics.
fn render(services: &[(&config::Service, Arc<Snapshot>)]) -> String {
    let mut registry = Registry::default();
    let build = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_string())]).set(1.0);
    registry.register("foresail_build_info", "Version of Foresail, always 1", build);
    let rows = |metric: &Metric| {
        let rows = services.iter().flat_map(|(service, snapshot)| {
            (metric.values)(service, snapshot).into_iter().map(|(mut labels, value)| {
                labels.insert(0, ("service", service.name.clone()));
                (labels, value)
            })
        });
        rows.collect::<Vec<_>>()
    };
    for metric in GAUGES.iter().chain(balancer::GAUGES) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in rows(metric) {
            family.get_or_create(&labels).set(value);
        }
        registry.register(metric.name, metric.help, family);
    }
    for metric in COUNTERS.iter().chain(balancer::COUNTERS) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in rows(metric) {
            family.get_or_create(&labels).inc_by(value as u64);
        }
        registry.register(metric.name, metric.help, family);
    }
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

/// OpenMetrics to the older text format.
fn classic(text: &str) -> String {
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let _ = match words[..] {
            ["#", kind @ ("HELP" | "TYPE"), name, rest] if counters.contains(&name) => {
                writeln!(classic, "# {kind} {name}_total {rest}")
            }
            _ => writeln!(classic, "{line}"),
        };
    }
    classic
}

#[cfg(test)]
mod tests;
