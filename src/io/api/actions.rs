//! I/O: the routes that change something or start long work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::error::{ApiError, At, Body, Code, ErrorBody};
use super::jobs::{Job, JobKind, JobResult};
use super::query;
use crate::autoscaler::DemandSample;
use crate::config;
use crate::forecast::events::Events;
use crate::io::service::{Override, Snapshot};
use crate::planner::Policy;
use crate::series::Time;
use crate::simulator::contender::{self, Contender};
use crate::simulator::startup::StartupDelay;
use crate::simulator::{self, CompareOptions};

/// Most samples in one request.
const MAX_SAMPLES: usize = 10_000;
/// Longest startup delay in a comparison.
const LONGEST_STARTUP: Duration = Duration::from_secs(366 * 86_400);
/// Longest override; a longer one is forgotten by everybody but Foresail.
const MAX_OVERRIDE: TimeDelta = TimeDelta::days(30);

/// Trains on the recorded load and saves the model, which comes into use if it wins against the one
/// in use on time that neither has seen.
#[utoipa::path(
    post, path = "/v1/services/{service}/train", tag = "jobs",
    params(("service" = String, Path, example = "web")),
    responses(
        (status = 202, body = Job, headers(("Location" = String, description = "The job"))),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Already being trained"),
        (status = 429, body = ErrorBody),
    ),
)]
pub async fn train(State(app): State<App>, At(service): At) -> Result<impl IntoResponse, ApiError> {
    let name = service.config().name.clone();
    let work = async move {
        let learned = service.train().await.map_err(|error| error.to_string())?;
        Ok(JobResult::Train(Box::new(learned.into())))
    };
    accepted(app.jobs.submit(JobKind::Train, &name, work)?)
}

/// What to replay; whatever is left out is as the service is configured now.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({
    "policies": ["predictive", "target_tracking:target=0.5..0.9"],
    "startup_delay": "30s..2m",
}))]
pub struct CompareRequest {
    /// As on the command line: names, or `name:key=value,key=value` where `a..b` is a sweep of 9
    /// values and `a..b/n` one of n; at most 200 policies. `threshold`, `target_tracking`,
    /// `predictive` and `oracle` without it.
    policies: Option<Vec<String>>,
    /// Demand that one replica carries.
    capacity: Option<f64>,
    /// A duration, a range `30s..5m`, each as likely, or measured ones to draw from, `30s,45s,5m`.
    startup_delay: Option<String>,
    /// Of the startup delays that are drawn.
    seed: u64,
    /// A duration: what is not scored.
    warmup: Option<String>,
    min_replicas: Option<u32>,
    max_replicas: Option<u32>,
    /// Of `predictive`, where its parameters do not say.
    overload_budget: Option<f64>,
    /// Of `target_tracking`, where its parameters do not say.
    target_utilization: Option<f64>,
}

impl CompareRequest {
    /// # Errors
    /// A sentence about the field that is wrong.
    fn contenders(&self, service: &config::Service) -> Result<Vec<Contender>, ApiError> {
        let share = |name: &str, value: Option<f64>, default: f64| match value {
            Some(v) if !(0.0 < v && v < 1.0) => {
                Err(ApiError::field(name, format!("{v} is not between 0 and 1")))
            }
            value => Ok(value.unwrap_or(default).to_string()),
        };
        let (mut budget, mut target) = (0.01, 0.7);
        match &service.settings.policy {
            Policy::Predictive(predictive) => budget = predictive.overload_budget,
            Policy::TargetTracking(tracking) => target = tracking.target_utilization,
            _ => {}
        }
        let signal = if service.demand == config::DemandUnit::Cores { "cpu" } else { "demand" };
        let presets = [
            ("predictive", "budget", share("overload_budget", self.overload_budget, budget)?),
            (
                "target_tracking",
                "target",
                share("target_utilization", self.target_utilization, target)?,
            ),
            ("target_tracking", "signal", signal.to_owned()),
        ];
        let parsed = match &self.policies {
            Some(policies) => contender::parse(policies, &presets),
            None => contender::parse(&[contender::USUAL], &presets),
        };
        parsed.map_err(|message| ApiError::field("policies", message))
    }

    /// # Errors
    /// A sentence about the field that is wrong.
    fn options(
        &self,
        service: &config::Service,
        snapshot: &Snapshot,
        events: Events,
    ) -> Result<CompareOptions, ApiError> {
        let behavior = &service.settings.behavior;
        let capacity = self.capacity.unwrap_or(snapshot.capacity);
        if !(capacity > 0.0 && capacity.is_finite()) {
            return Err(ApiError::field("capacity", format!("{capacity} is not above 0")));
        }
        let min_replicas = self.min_replicas.unwrap_or(behavior.min_replicas);
        let max_replicas = self.max_replicas.unwrap_or(behavior.max_replicas);
        if max_replicas == 0 || min_replicas > max_replicas || max_replicas > 10_000 {
            let message =
                format!("{max_replicas} is not between {} and 10000", min_replicas.max(1));
            return Err(ApiError::field("max_replicas", message));
        }
        let warmup = self.warmup.as_deref().map(|text| query::duration(text, "0s", "366d"));
        let startup_delay = match &self.startup_delay {
            Some(text) => StartupDelay::parse(text),
            None => Ok(StartupDelay::fixed(snapshot.startup_delay)),
        };
        Ok(CompareOptions {
            capacity: Some(capacity),
            startup_delay: startup_delay
                .and_then(|delay| match delay.longest() {
                    longest if longest > LONGEST_STARTUP => Err("at most 366d".into()),
                    _ => Ok(delay),
                })
                .map_err(|message| ApiError::field("startup_delay", message))?,
            seed: self.seed,
            warmup: warmup.transpose().map_err(|message| ApiError::field("warmup", message))?,
            min_replicas,
            max_replicas,
            events,
        })
    }
}

/// Replays policies over the recorded load that training would use.
#[utoipa::path(
    post, path = "/v1/services/{service}/compare", tag = "jobs",
    params(("service" = String, Path, example = "web")),
    request_body(content = Option<CompareRequest>, description = "None: all, as configured"),
    responses(
        (status = 202, body = Job, headers(("Location" = String, description = "The job"))),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
)]
pub async fn compare(
    State(app): State<App>,
    At(service): At,
    body: Option<Body<CompareRequest>>,
) -> Result<impl IntoResponse, ApiError> {
    let request = body.map(|Body(request)| request).unwrap_or_default();
    let contenders = request.contenders(service.config())?;
    let options = request.options(service.config(), &service.snapshot(), service.events())?;
    let name = service.config().name.clone();
    let trace = name.clone();
    let work = async move {
        let series = service.window().await;
        let replay = move || simulator::compare(&trace, &series, &contenders, &options);
        let replay = tokio::task::spawn_blocking(replay);
        let report = replay.await.map_err(|_| "a fault in Foresail".to_string())??;
        Ok(JobResult::Compare(report))
    };
    accepted(app.jobs.submit(JobKind::Compare, &name, work)?)
}

fn accepted(job: Job) -> Result<impl IntoResponse, ApiError> {
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    Ok((StatusCode::ACCEPTED, location, Json(job)))
}

/// Demand measured elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// At most 10 000.
    samples: Vec<PushedSample>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"time": "2026-01-05T12:00:00Z", "demand": 3.5}))]
pub struct PushedSample {
    /// End of the time that it was measured over.
    #[schema(value_type = String, format = DateTime)]
    time: Time,
    /// In the service's unit.
    demand: f64,
    /// Workers were saturated: true demand may be higher.
    #[serde(default)]
    lower_bound: bool,
}

/// What became of pushed samples.
#[derive(Debug, Serialize, ToSchema)]
pub struct PushResult {
    accepted: usize,
    refused: Vec<RefusedSample>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedSample {
    /// Place in the request, from 0.
    index: usize,
    reason: String,
}

/// Takes in demand measured elsewhere; refused samples are listed, the others count.
#[utoipa::path(
    post, path = "/v1/services/{service}/samples", tag = "services",
    params(("service" = String, Path, example = "web")),
    request_body = PushRequest,
    responses(
        (status = 200, body = PushResult),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
    ),
)]
pub async fn push_samples(
    At(service): At,
    Body(request): Body<PushRequest>,
) -> Result<Json<PushResult>, ApiError> {
    if request.samples.len() > MAX_SAMPLES {
        let message = format!("{} are more than {MAX_SAMPLES}", request.samples.len());
        return Err(ApiError::field("samples", message));
    }
    let samples = request.samples.iter().map(|sample| DemandSample {
        time: sample.time,
        demand: sample.demand,
        lower_bound: sample.lower_bound,
    });
    let pushed = service.push(samples.collect()).await.map_err(|error| {
        tracing::error!(service = service.config().name, %error, "pushed samples are not stored");
        ApiError::new(Code::StoreFailed, "the samples could not be stored; the log has more")
    })?;
    let refused = pushed.refused.into_iter();
    let refused = refused.map(|(index, reason)| RefusedSample { index, reason }).collect();
    Ok(Json(PushResult { accepted: pushed.accepted, refused }))
}

/// Sets the desired replicas over the planner's head, until a time. It may go below the configured
/// minimum, not above the maximum.
#[utoipa::path(
    put, path = "/v1/services/{service}/override", tag = "services",
    params(("service" = String, Path, example = "web")),
    request_body = Override,
    responses(
        (status = 200, body = Override),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn set_override(
    At(service): At,
    Body(value): Body<Override>,
) -> Result<Json<Override>, ApiError> {
    check_override(&value, service.config().settings.behavior.max_replicas, Utc::now())?;
    service.set_override(Some(value.clone())).await;
    Ok(Json(value))
}

fn check_override(value: &Override, max_replicas: u32, now: Time) -> Result<(), ApiError> {
    if value.replicas > max_replicas {
        let message = format!("{} is more than the maximum of {max_replicas}", value.replicas);
        return Err(ApiError::field("replicas", message));
    }
    if value.until <= now || value.until > now + MAX_OVERRIDE {
        let message = format!("{} is not within the next 30 days", query::rfc3339(value.until));
        return Err(ApiError::field("until", message));
    }
    if value.reason.trim().is_empty() || value.reason.len() > 500 {
        let message = "say why, in 1 to 500 bytes; it is shown with every decision";
        return Err(ApiError::field("reason", message));
    }
    Ok(())
}

/// Ends the override at once; there need not be one.
#[utoipa::path(
    delete, path = "/v1/services/{service}/override", tag = "services",
    params(("service" = String, Path, example = "web")),
    responses((status = 204), (status = 404, body = ErrorBody)),
)]
pub async fn end_override(At(service): At) -> StatusCode {
    service.set_override(None).await;
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::api::tests::{snapshot, web};

    #[test]
    fn a_comparison_is_as_configured_unless_asked_otherwise() {
        let read = |json: &str| {
            let request: CompareRequest = serde_json::from_str(json).expect("a request");
            let contenders = request.contenders(&web()).map_err(|error| error.message)?;
            let options = request
                .options(&web(), &snapshot(), Events::default())
                .map_err(|error| error.message)?;
            Ok::<_, String>((contenders, options))
        };
        let (contenders, options) = read("{}").unwrap();
        let labels: Vec<_> = contenders.iter().map(|c| c.label.as_str()).collect();
        assert_eq!(labels, ["threshold", "target_tracking", "predictive", "oracle"]);
        // CPU is measured in cores, and clipped.
        assert_eq!(contenders[1].parameters["signal"], "cpu");
        let delay = StartupDelay::fixed(snapshot().startup_delay);
        assert_eq!((options.capacity, options.startup_delay), (Some(1.0), delay));
        assert_eq!(options.max_replicas, 20);
        let asked = r#"{"policies": ["target_tracking:target=0.5..0.9"], "warmup": "1h",
            "capacity": 2, "startup_delay": "30s..2m", "seed": 7}"#;
        let (contenders, options) = read(asked).unwrap();
        assert_eq!((contenders.len(), options.capacity, options.seed), (9, Some(2.0), 7));
        assert_eq!(options.startup_delay.longest(), Duration::from_secs(120));
        let cases = [
            (r#"{"capacity": 0}"#, "capacity: 0 is not above 0"),
            (r#"{"warmup": "soon"}"#, "warmup: `soon` is no duration"),
            (r#"{"startup_delay": "2y"}"#, "startup_delay: at most 366d"),
            (r#"{"startup_delay": "2m..1m"}"#, "startup_delay: the lower end"),
            (r#"{"overload_budget": 1}"#, "overload_budget: 1 is not between 0 and 1"),
            (r#"{"max_replicas": 0}"#, "max_replicas: 0 is not between 1 and 10000"),
            (r#"{"policies": []}"#, "policies: no policy is given"),
            (r#"{"policies": ["hpa"]}"#, "policies: `hpa`: no policy `hpa`; there are: static,"),
        ];
        for (json, expected) in cases {
            let error = read(json).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn overrides_are_bounded_and_have_a_reason() {
        let now = snapshot().time;
        let check = |replicas, minutes, reason: &str| {
            let until = now + TimeDelta::minutes(minutes);
            let value = Override { replicas, until, reason: reason.into() };
            check_override(&value, 20, now).map_err(|error| error.details["field"].clone())
        };
        assert_eq!(check(0, 5, "maintenance"), Ok(()));
        assert_eq!(check(21, 5, "sale"), Err("replicas".into()));
        assert_eq!(check(3, 0, "sale"), Err("until".into()));
        assert_eq!(check(3, 60 * 24 * 31, "sale"), Err("until".into()));
        assert_eq!(check(3, 5, " "), Err("reason".into()));
    }
}
