//! I/O: the routes that read: health, services, history, forecasts, decisions, replicas.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::App;
use super::error::{ApiError, At, Code, ErrorBody, Params};
use super::query::{self, DecisionsQuery, ForecastQuery, HistoryQuery, HistoryRow, TargetQuery};
use super::view::{self, Choice, ReplicaView, ServiceDetail, ServiceSummary};
use crate::balancer::Because;
use crate::config::DemandUnit;
use crate::forecast::Forecast;
use crate::planner::Decision;

/// Foresail is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process answers at all.
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, body = Health)),
)]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether every service has made its first decision.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Health), (status = 503, body = ErrorBody)),
)]
pub async fn readyz(State(app): State<App>) -> Result<Json<Health>, ApiError> {
    let services = app.services.all();
    let waiting = services.iter().filter(|(_, s)| s.snapshot().decisions.is_empty());
    let waiting: Vec<&String> = waiting.map(|(name, _)| name).collect();
    if !waiting.is_empty() {
        let error = ApiError::new(Code::NotReady, "some services have not decided yet");
        return Err(error.with(json!({"services": waiting})));
    }
    Ok(Json(Health { status: "ok" }))
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "health", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")),
)]
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], super::DOCUMENT.as_str())
}

/// All services, by name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ServiceList {
    pub services: Vec<ServiceSummary>,
    /// What is wrong with containers that were found by their labels; empty if nothing is.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// All services at a glance.
#[utoipa::path(
    get, path = "/v1/services", tag = "services",
    responses((status = 200, body = ServiceList)),
)]
pub async fn list(State(app): State<App>) -> Json<ServiceList> {
    let services = app.services.all();
    let services = services.values().map(|s| view::summary(s.config(), &s.snapshot())).collect();
    Json(ServiceList { services, notes: app.services.notes().to_vec() })
}

/// One service with its settings, its model and its last decision.
#[utoipa::path(
    get, path = "/v1/services/{service}", tag = "services",
    params(("service" = String, Path, example = "web")),
    responses((status = 200, body = ServiceDetail), (status = 404, body = ErrorBody)),
)]
pub async fn detail(At(service): At) -> Json<ServiceDetail> {
    Json(view::detail(service.config(), &service.snapshot()))
}

/// Recorded load, resampled by mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    pub demand_unit: DemandUnit,
    pub step_ms: u64,
    /// One a step, oldest first.
    pub rows: Vec<HistoryRow>,
}

/// Recorded load and replicas, resampled by mean to a step.
#[utoipa::path(
    get, path = "/v1/services/{service}/history", tag = "services",
    params(("service" = String, Path, example = "web"), HistoryQuery),
    responses(
        (status = 200, body = History),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn history(
    At(service): At,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<History>, ApiError> {
    let config = service.config();
    let window = query.window(Utc::now(), config.settings.evaluation_interval)?;
    // A row belongs to the step that ends with it, so the last instant counts too.
    let end = window.to + chrono::TimeDelta::milliseconds(1);
    let rows = service.history(window.from, end).await.map_err(|error| {
        tracing::error!(service = config.name, %error, "history cannot be read");
        ApiError::new(Code::StoreFailed, "the store cannot be read; the log has more")
    })?;
    Ok(Json(History {
        demand_unit: config.demand,
        step_ms: window.step.as_millis() as u64,
        rows: query::resample(&rows, &window),
    }))
}

/// A fresh forecast from the newest demand.
#[utoipa::path(
    get, path = "/v1/services/{service}/forecast", tag = "services",
    params(("service" = String, Path, example = "web"), ForecastQuery),
    responses(
        (status = 200, body = Forecast),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "No model, or not enough recent data"),
    ),
)]
pub async fn forecast(
    At(service): At,
    Params(query): Params<ForecastQuery>,
) -> Result<Json<Forecast>, ApiError> {
    let (horizon, quantiles) = (query.horizon()?, query.quantiles()?);
    match service.forecast(horizon, &quantiles).await {
        Some(Ok(forecast)) => Ok(Json(forecast)),
        Some(Err(error)) => Err(ApiError::new(Code::NoForecast, error.to_string())),
        None => {
            let message = "no model yet; it is trained once there is enough history, or by \
                           POST …/train";
            Err(ApiError::new(Code::NoModel, message))
        }
    }
}

/// Decisions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decisions {
    decisions: Vec<Decision>,
}

/// The last decisions with their reasons, newest first; at most 1000 are kept.
#[utoipa::path(
    get, path = "/v1/services/{service}/decisions", tag = "services",
    params(("service" = String, Path, example = "web"), DecisionsQuery),
    responses(
        (status = 200, body = Decisions),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn decisions(
    At(service): At,
    Params(query): Params<DecisionsQuery>,
) -> Result<Json<Decisions>, ApiError> {
    let limit = query.limit()?;
    let snapshot = service.snapshot();
    let newest = snapshot.decisions.iter().rev().take(limit);
    Ok(Json(Decisions { decisions: newest.map(|decision| (**decision).clone()).collect() }))
}

/// What would be decided now; changes nothing.
#[utoipa::path(
    get, path = "/v1/services/{service}/plan", tag = "services",
    params(("service" = String, Path, example = "web")),
    responses((status = 200, body = Decision), (status = 404, body = ErrorBody)),
)]
pub async fn plan(At(service): At) -> Json<Decision> {
    Json(service.plan().await)
}

/// All replicas.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Replicas {
    pub replicas: Vec<ReplicaView>,
}

/// The replicas with phase, address, requests in flight, and how they stand with the balancer.
#[utoipa::path(
    get, path = "/v1/services/{service}/replicas", tag = "services",
    params(("service" = String, Path, example = "web")),
    responses((status = 200, body = Replicas), (status = 404, body = ErrorBody)),
)]
pub async fn replicas(At(service): At) -> Json<Replicas> {
    Json(Replicas { replicas: view::replicas(&service.snapshot()) })
}

/// One balancing choice, as the built-in proxy would make it, for a balancer outside; with its
/// reason.
#[utoipa::path(
    get, path = "/v1/services/{service}/target", tag = "services",
    params(("service" = String, Path, example = "web"), TargetQuery),
    responses(
        (status = 200, body = Choice),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "No replica is ready and has room"),
    ),
)]
pub async fn target(
    At(service): At,
    Params(query): Params<TargetQuery>,
) -> Result<Json<Choice>, ApiError> {
    let algorithm = service.config().balancer.as_ref().map(|b| b.algorithm).unwrap_or_default();
    match service.pick(query.key(algorithm)?) {
        Ok((replica, choice)) => Ok(Json(Choice { replica, choice })),
        Err(passed_over) => {
            let full = passed_over.iter().any(|replica| replica.because == Because::Full);
            let message = if full { "no replica has room" } else { "no replica is ready" };
            let error = ApiError::new(Code::NoReadyReplica, message);
            Err(error.with(json!({"passed_over": passed_over})))
        }
    }
}
