//! I/O: requests to the router, without a network.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use chrono::DateTime;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::*;
use crate::balancer::Standing;
use crate::config::Mode;
use crate::fleet::{Phase, Replica};
use crate::forecast::{Method, Training};
use crate::io::artifact::catalog::ModelInfo;
use crate::io::service::{Counters, Snapshot};
use crate::planner::{Basis, Decision, ForecastUsed, Signal, Trust};
use crate::series::Time;

/// A service as most are configured.
pub fn web() -> config::Service {
    let text = "[services.web]\ntarget = { process = { command = [\"w\"] } }";
    config::parse(text).expect("a good file").services.remove("web").expect("web")
}

fn time() -> Time {
    DateTime::from_timestamp(1_767_614_400, 0).expect("in range")
}

/// A replica that was just ejected.
fn standing() -> Standing {
    Standing {
        weight: 1.0,
        passes_checks: Some(true),
        ejected_for_ms: Some(9_900),
        ejections: 2,
        requests: 100,
        errors: 8,
        failures: 1,
        error_share: 0.25,
        latency_ms: Some(20.0),
        latency_p50_ms: Some(10.0),
        latency_p99_ms: Some(90.0),
        ..Standing::default()
    }
}

/// What the service looks like after a decision by forecast.
pub fn snapshot() -> Snapshot {
    let trust = Trust {
        trusted: true,
        doubted: false,
        skill: Some(0.4),
        evidence: 50,
        reason: "good".into(),
    };
    let forecast = ForecastUsed {
        method: Method::Foresail,
        origin: time(),
        lookahead_ms: 75_000,
        overload_price: 40.0,
        overload_risk: 0.01,
        peak_low: 2.0,
        peak_median: 3.0,
        peak_high: 4.5,
        cheapest: 5,
        cheapest_larger_budget: 4,
        planned: 5,
        regret: 0.0,
        patience: 3.0,
    };
    let decision = Decision {
        time: time(),
        basis: Basis::Forecast,
        signal: Signal::Fresh { demand: 2.5, lower_bound: false, age_ms: 40 },
        capacity: 1.0,
        ready_replicas: 1,
        current_replicas: 2,
        utilization: Some(2.5),
        forecast: Some(forecast),
        trust,
        proposals: Vec::new(),
        recommendation: 5,
        limits: Vec::new(),
        desired_replicas: 5,
        without_forecast: 3,
        reason: "a peak is near".into(),
        notes: Vec::new(),
    };
    let replica = |id: &str, phase: Phase| -> Replica {
        let value = serde_json::json!({
            "id": id, "phase": phase, "since": time(), "created": time(), "address": null,
            "in_flight": 0, "managed": true,
        });
        serde_json::from_value(value).expect("a replica")
    };
    Snapshot {
        time: time(),
        mode: Mode::Observe,
        demand: Some(2.5),
        capacity: 1.0,
        replicas: vec![replica("a", Phase::Ready), replica("b", Phase::Starting)],
        decisions: vec![Arc::new(decision)],
        forecast: None,
        model: Some(ModelInfo {
            version: Some(3),
            method: Method::Foresail,
            season_lengths: vec![240],
            horizon: 41,
            step_ms: 15_000,
            training: Training {
                trained_at: time(),
                from: time(),
                to: time(),
                points: 900,
                cold_start: false,
                scores: Vec::new(),
                members: Vec::new(),
            },
            events: Vec::new(),
            notes: Vec::new(),
        }),
        learning: Default::default(),
        startup_delay: Duration::from_secs(60),
        override_: None,
        counters: Counters {
            samples: 7,
            samples_refused: BTreeMap::from([("nan", 2)]),
            command_failures: [("exited", 1)].into(),
            decisions: BTreeMap::from([("forecast", 3)]),
            matches: BTreeMap::from([("won", 1)]),
            ..Counters::default()
        },
        notes: Vec::new(),
        standings: BTreeMap::from([("a".to_owned(), standing())]),
        arrivals_total: 0,
        waiting: 3,
        refused_total: 2,
        retries_total: 4,
        retries_refused_total: 1,
        requests_total: 0,
        request_failures_total: 0,
    }
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// The answer of an API without services.
async fn send(api: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let text = format!("[api]\n{api}\n[services.a]\ntarget = {{ docker = {{}} }}");
    let api = config::parse(&text).expect("a good file").api;
    let router = router(api, Services::default());
    call(router, method, path, headers, Body::empty()).await
}

async fn call(
    router: Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Answer {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).expect("a good request");
    let answer = TowerToHyperService::new(router).call(request).await.expect("infallible");
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("in memory");
    let body = String::from_utf8(body.to_vec()).expect("text");
    Answer { status: parts.status, headers: parts.headers, body }
}

const TOKEN: &str = "token = \"s3cret\"";

#[tokio::test]
async fn every_error_has_one_form() {
    let cases = [
        ("GET", "/nowhere", 404, "unknown_route", "no route /nowhere"),
        ("GET", "/v1/services/wbe", 404, "unknown_service", "no service `wbe`; known: "),
        ("POST", "/v1/services/wbe/train", 404, "unknown_service", "no service `wbe`"),
        ("GET", "/v1/jobs/9", 404, "unknown_job", "no job `9`"),
        ("POST", "/healthz", 405, "method_not_allowed", "/healthz does not take POST"),
        ("DELETE", "/v1/services", 405, "method_not_allowed", "/v1/services does not take DELETE"),
    ];
    for (method, path, status, code, message) in cases {
        let answer = send("", method, path, &[]).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status.as_u16(), error["code"].as_str()),
            (status, Some(code)),
            "{path}"
        );
        assert!(error["message"].as_str().unwrap().starts_with(message), "{}", error["message"]);
        assert!(error["details"].is_object());
    }
    let answer = send("", "POST", "/healthz", &[]).await;
    assert_eq!(answer.headers[header::ALLOW], "GET,HEAD");
}

#[tokio::test]
async fn the_token_guards_all_but_health() {
    let cases: [(&str, Option<&str>, u16); 10] = [
        ("/v1/services", None, 401),
        ("/v1/services", Some("Bearer s3cret"), 200),
        ("/v1/services", Some("bearer s3cret"), 200),
        ("/v1/services", Some("Bearer s3cre"), 401),
        ("/v1/services", Some("Bearer s3cret2"), 401),
        ("/v1/services", Some("s3cret"), 401),
        ("/nowhere", None, 401),
        ("/healthz", None, 200),
        ("/openapi.json", None, 200),
        ("/metrics", None, 200),
    ];
    for (path, token, status) in cases {
        let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        let answer = send(TOKEN, "GET", path, &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {token:?}");
    }
    let refused = send(TOKEN, "GET", "/v1/services", &[]).await;
    assert_eq!(refused.headers[header::WWW_AUTHENTICATE], "Bearer");
    assert_eq!(refused.json()["error"]["code"], "unauthorized");
    let open = format!("{TOKEN}\nlisten = \"0.0.0.0:8080\"");
    assert_eq!(send(&open, "GET", "/metrics", &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn web_pages_of_other_origins_change_nothing() {
    let cases = [("http://evil.example", 403), ("null", 403), ("http://localhost:8080", 404)];
    for (origin, status) in cases {
        let headers = [("origin", origin), ("host", "localhost:8080")];
        let answer = send("", "POST", "/v1/services/web/train", &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{origin}");
    }
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    async fn broken() {
        panic!("boom");
    }
    let router = Router::new().route("/", axum::routing::get(broken));
    let router = router.layer(middleware::from_fn(contain));
    let answer = call(router, "GET", "/", &[], Body::empty()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["code"].as_str()),
        (500, Some("internal"))
    );
}

#[tokio::test]
async fn the_document_is_served() {
    let answer = send("", "GET", "/openapi.json", &[]).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.json()["openapi"], "3.1.0");
    assert_eq!(answer.json()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_summary_tells_the_last_decision() {
    let summary = serde_json::to_value(view::detail(&web(), &snapshot())).expect("JSON");
    let expected = serde_json::json!({
        "name": "web", "mode": "observe", "policy": "predictive", "demand_unit": "cores",
        "demand": 2.5, "utilization": 2.5, "desired_replicas": 5, "basis": "forecast",
        "forecast_trusted": true, "startup_delay_ms": 60_000, "override": null,
        "replicas": {"starting": 1, "warming": 0, "ready": 1, "draining": 0},
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&summary[key], value, "{key}");
    }
    assert_eq!(summary["settings"]["max_replicas"], 20);
    assert_eq!(summary["decision"]["without_forecast"], 3);
}
