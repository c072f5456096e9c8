//! I/O: the HTTP API: forecasts, decisions, replicas, metrics; reads snapshots.
//!
//! Every route is registered together with its documentation, so `/openapi.json` cannot miss one.
//! All errors have one form ([`error::ErrorBody`]). Where a token is set, every request must carry
//! it, but for `/healthz`, `/readyz`, `/openapi.json`, and `/metrics` while the API listens on
//! loopback: local Prometheus servers and health checks seldom carry tokens, and loopback is as far
//! as an unprotected scrape may reach.

pub mod actions;
pub mod error;
pub mod jobs;
pub mod metrics;
pub mod mode;
pub mod models;
pub mod query;
pub mod services;
pub mod view;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::service::Services;
use crate::config;
use error::{ApiError, Code};

/// Largest request body: about 10 000 pushed samples.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Longest time for one answer; long work is a job.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for open requests at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What every handler sees.
#[derive(Clone)]
pub struct App {
    pub services: Services,
    pub settings: Arc<config::Api>,
    pub jobs: jobs::Jobs,
}

/// Serves until `shutdown`, then lets open requests finish for a few seconds.
pub async fn serve(
    listener: TcpListener,
    settings: config::Api,
    services: Services,
    shutdown: CancellationToken,
) {
    let router = router(settings, services);
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let give_up = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        // The server itself never fails: errors of connections end that connection alone.
        _ = server => {}
        () = give_up => tracing::warn!("requests still open at shutdown were cut off"),
    }
}

/// All routes over running services.
pub fn router(settings: config::Api, services: Services) -> Router {
    let (router, _) = documented();
    let app = App { services, settings: Arc::new(settings), jobs: jobs::Jobs::default() };
    router
        .fallback(|request: Request| async move {
            ApiError::new(Code::UnknownRoute, format!("no route {}", request.uri().path()))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let (method, path) = (request.method(), request.uri().path());
            ApiError::new(Code::MethodNotAllowed, format!("{path} does not take {method}"))
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), authorize))
        .layer(middleware::from_fn(refuse_foreign_origin))
        .layer(middleware::from_fn(contain))
        .with_state(app)
}

/// The OpenAPI 3.1 document as text, made when it is first asked for: few processes ever are.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string_pretty(&document()).unwrap_or_default());

/// The OpenAPI 3.1 document.
pub fn document() -> utoipa::openapi::OpenApi {
    documented().1
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Foresail",
        description = "Forecasts, decisions and replicas of the services that Foresail scales. \
            Times are RFC 3339, durations in queries and bodies such as `30s` or `5m`, in answers \
            milliseconds. Demand and capacity are in the service's unit.",
    ),
    components(schemas(error::ErrorBody)),
    security(("token" = [])),
)]
struct Document;

fn documented() -> (Router<App>, utoipa::openapi::OpenApi) {
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let (router, mut document) = OpenApiRouter::with_openapi(document)
        .routes(routes!(services::healthz))
        .routes(routes!(services::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(services::openapi))
        .routes(routes!(services::list))
        .routes(routes!(services::detail))
        .routes(routes!(services::history))
        .routes(routes!(services::forecast))
        .routes(routes!(services::decisions))
        .routes(routes!(services::plan))
        .routes(routes!(services::replicas))
        .routes(routes!(services::target))
        .routes(routes!(actions::train))
        .routes(routes!(actions::compare))
        .routes(routes!(actions::push_samples))
        .routes(routes!(actions::set_override, actions::end_override))
        .routes(routes!(mode::set_mode))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(models::promote))
        .routes(routes!(models::rollback))
        .routes(routes!(models::unpin))
        .routes(routes!(jobs::job))
        .split_for_parts();
    document.paths.paths.values_mut().for_each(refuse_without_token);
    (router, document)
}

/// Every operation that takes the token may answer 401; said once here instead of at each of them.
fn refuse_without_token(item: &mut PathItem) {
    let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
    for operation in operations.into_iter().flatten().filter(|o| o.security.is_none()) {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new()
            .description("No token, or a wrong one")
            .content("application/json", body)
            .build();
        operation.responses.responses.insert("401".to_string(), response.into());
    }
}

/// Answers in time and in JSON, whatever the handler does: a panic is this request's alone.
async fn contain(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_string();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(path, "a request handler panicked");
            ApiError::new(Code::Internal, "a fault in Foresail; its log has more").into_response()
        }
        Err(_) => {
            let message = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
            ApiError::new(Code::Timeout, message).into_response()
        }
    }
}

/// A web page of another origin must not act through the browser of somebody who can reach the API.
async fn refuse_foreign_origin(request: Request, next: Next) -> Response {
    let foreign = is_foreign(request.headers());
    if foreign && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "requests from web pages of other origins may not change anything";
        return ApiError::new(Code::ForeignOrigin, message).into_response();
    }
    next.run(request).await
}

/// Browsers send `Origin` with every request that a page makes to another place, and with all but
/// GET and HEAD.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (headers.get(header::ORIGIN).is_some(), text(header::ORIGIN), text(header::HOST)) {
        (false, ..) => false,
        (true, Some(origin), Some(host)) => {
            origin.split_once("://").is_none_or(|(_, at)| at != host)
        }
        _ => true,
    }
}

/// Everything needs the token, but for what the head of this file lists.
async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(token) = &app.settings.token else { return next.run(request).await };
    let open = match request.uri().path() {
        "/healthz" | "/readyz" | "/openapi.json" => true,
        "/metrics" => app.settings.listen.ip().is_loopback(),
        _ => false,
    };
    let header = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let allowed = open || header.is_some_and(|header| carries(header, token));
    if allowed {
        return next.run(request).await;
    }
    let message = "send the configured token as `Authorization: Bearer …`";
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, ApiError::new(Code::Unauthorized, message)).into_response()
}

/// Whether the header is `Bearer <token>`. The time it takes does not depend on where the texts
/// differ.
fn carries(header: &[u8], token: &str) -> bool {
    let Some((scheme, sent)) = header.split_at_checked("Bearer ".len()) else { return false };
    let differing = sent.iter().zip(token.as_bytes()).fold(0, |acc, (a, b)| acc | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && sent.len() == token.len()
        && std::hint::black_box(differing) == 0
}

#[cfg(test)]
pub mod tests;
