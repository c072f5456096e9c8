//! I/O: the HTTP API over a running service with a real replica, read by real clients.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use axum::body::Bytes;
use chrono::{TimeDelta, Utc};
use foresail::config;
use foresail::io::api;
use foresail::io::service::{self, Running};
use foresail::io::store::{DemandRow, Store};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[path = "api/balancing.rs"]
mod balancing;
#[path = "api/mode.rs"]
mod mode;
#[path = "api/top.rs"]
mod top;

const FORESAIL: &str = env!("CARGO_BIN_EXE_foresail");

/// A Foresail of its own: one service `web` in mode `act`, five minutes of recorded load, free
/// ports.
struct World {
    folder: tempfile::TempDir,
    running: Running,
    shutdown: CancellationToken,
}

impl World {
    async fn start(api: &str) -> World {
        World::start_with(api, "500ms").await
    }

    async fn start_with(api: &str, evaluation_interval: &str) -> World {
        World::balanced(api, evaluation_interval, "slow_start = \"0s\"", "").await
    }

    /// With more keys of the balancer, and more arguments of the worker.
    async fn balanced(
        api: &str,
        evaluation_interval: &str,
        balancer: &str,
        arguments: &str,
    ) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        record(folder.path());
        let text = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n{api}\n[store]\npath = {:?}\n\
             [services.web]\nmode = \"act\"\n\
             evaluation_interval = {evaluation_interval:?}\n\
             sample_interval = \"100ms\"\nstartup_delay = \"1s\"\nmax_startup_delay = \"5s\"\n\
             balancer = {{ listen = \"127.0.0.1:0\", {balancer} }}\n\
             [services.web.target.process]\n\
             command = [{FORESAIL:?}, \"worker\", \"--warm-up\", \"0s\"{arguments}]\n",
            folder.path()
        );
        let config = config::parse(&text).unwrap_or_else(|e| panic!("{e:?}"));
        let shutdown = CancellationToken::new();
        let running = service::start(config, shutdown.clone()).await.expect("free ports");
        World { folder, running, shutdown }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.api_address)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, None).await
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|value| ("application/json", value.to_string()));
        let (status, _, body) = self.request(method, path, body).await;
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (status, value)
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, String)>,
    ) -> (u16, hyper::HeaderMap, Bytes) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let mut request = hyper::Request::builder().method(method).uri(self.url(path));
        if let Some((content_type, _)) = &body {
            request = request.header("content-type", *content_type);
        }
        let body = Full::new(Bytes::from(body.map(|(_, text)| text).unwrap_or_default()));
        let answer = client.request(request.body(body).expect("a good request")).await;
        let (parts, body) = answer.expect("an answer").into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        (parts.status.as_u16(), parts.headers, body)
    }

    /// Asks until the answer is as wanted; a minute is far more than any of it takes.
    async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let mut last = (0, Value::Null);
        for _ in 0..1200 {
            last = self.get(path).await;
            if wanted(last.0, &last.1) {
                return last.1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} stays at {last:?}");
    }

    /// The job that a request started, when it has ended.
    async fn job(&self, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|value| ("application/json", value.to_string()));
        let (status, headers, answer) = self.request("POST", path, body).await;
        assert_eq!(status, 202, "{answer:?}");
        let location = headers["location"].to_str().expect("text").to_string();
        self.until(&location, |_, job| matches!(job["state"].as_str(), Some("done" | "failed")))
            .await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.stopped().await;
    }
}

/// 600 steps of a wave with a period of 30 s, up to now.
fn record(folder: &Path) {
    let store = Store::open(folder, Duration::from_secs(86_400)).expect("a store");
    let now = Utc::now();
    let row = |i: i32| DemandRow {
        time: now - TimeDelta::milliseconds(500 * i64::from(600 - i)),
        demand: Some(1.0 + (f64::from(i) * std::f64::consts::TAU / 60.0).sin()),
        lower_bound: false,
        ready_replicas: 1,
        current_replicas: 1,
        desired_replicas: 1,
    };
    store.append("web", &[], &(0..600).map(row).collect::<Vec<_>>()).expect("kept");
    store.flush(now).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_reads_answers() {
    let world = World::start("").await;
    world.until("/readyz", |status, _| status == 200).await;
    assert_eq!(world.get("/healthz").await, (200, json!({"status": "ok"})));
    let (_, list) = world.get("/v1/services").await;
    assert_eq!(list["services"][0]["name"], "web");
    let (_, detail) = world.get("/v1/services/web").await;
    assert_eq!(
        (&detail["mode"], &detail["settings"]["target"]),
        (&json!("act"), &json!("process"))
    );

    let ready = |_, body: &Value| {
        body["replicas"].as_array().is_some_and(|all| all.iter().any(|r| r["phase"] == "ready"))
    };
    world.until("/v1/services/web/replicas", ready).await;
    let target = world.until("/v1/services/web/target?key=192.0.2.1", |status, _| status == 200);
    assert!(target.await["address"].is_string());

    let (_, history) = world.get("/v1/services/web/history?step=5s").await;
    let rows = history["rows"].as_array().expect("rows");
    // An hour in steps of 5 s is 720, widened at both ends.
    assert!((720..=722).contains(&rows.len()), "{}", rows.len());
    let recorded = rows.iter().filter(|row| row["demand"].is_f64()).count();
    // 300 s were recorded.
    assert!(recorded >= 60, "{recorded}");

    let (_, decisions) = world.get("/v1/services/web/decisions?limit=1").await;
    assert_eq!(decisions["decisions"].as_array().map(Vec::len), Some(1));
    assert!(decisions["decisions"][0]["reason"].is_string());
    let (status, plan) = world.get("/v1/services/web/plan").await;
    assert_eq!((status, plan["desired_replicas"].as_u64().is_some()), (200, true));

    let (status, error) = world.get("/v1/services/wbe/plan").await;
    assert_eq!((status, &error["error"]["details"]["known"]), (404, &json!(["web"])));
    for (path, code) in [
        ("history?step=0s", "bad_query"),
        ("history?form=x", "bad_query"),
        ("forecast?quantiles=2", "bad_query"),
        ("decisions?limit=all", "bad_query"),
        ("target?key=x", "bad_query"),
    ] {
        let (status, error) = world.get(&format!("/v1/services/web/{path}")).await;
        assert_eq!((status, error["error"]["code"].as_str()), (400, Some(code)), "{path}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_there_is_no_forecast() {
    // Five minutes of load are less than one step: nothing can be trained on it.
    let world = World::start_with("", "1h").await;
    let (status, error) = world.get("/v1/services/web/forecast").await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("no_model")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_is_a_job() {
    let world = World::start("").await;
    let trained = world.job("/v1/services/web/train", None).await;
    assert_eq!(trained["state"], "done", "{trained}");
    assert!(trained["result"]["train"]["training"]["points"].as_u64() > Some(500), "{trained}");
    let forecast = "/v1/services/web/forecast?horizon=2s&quantiles=0.1,0.9";
    let forecast = world.until(forecast, |status, _| status == 200).await;
    assert_eq!(forecast["quantiles"], json!([0.1, 0.9]));
    // 2 s in steps of 500 ms.
    assert_eq!(forecast["point"].as_array().map(Vec::len), Some(4));

    let policies = ["threshold", "oracle", "target_tracking:target=0.5..0.9/3"];
    let request = json!({"policies": policies, "capacity": 0.5, "warmup": "1m"});
    let compared = world.job("/v1/services/web/compare", Some(request)).await;
    assert_eq!(compared["state"], "done", "{compared}");
    let trace = &compared["result"]["compare"];
    assert_eq!((&trace["name"], &trace["step_seconds"]), (&json!("web"), &json!(0.5)));
    let policies = trace["policies"].as_array().expect("policies");
    assert_eq!((policies.len(), &policies[3]["parameters"]["target"]), (5, &json!(0.7)));
    let wrong = json!({"policies": ["target_tracking:target=2"]});
    let (status, error) = world.send("POST", "/v1/services/web/compare", Some(wrong)).await;
    assert_eq!((status, &error["error"]["details"]["field"]), (400, &json!("policies")));
    let (status, error) =
        world.send("POST", "/v1/services/web/compare", Some(json!({"x": 1}))).await;
    assert_eq!((status, error["error"]["code"].as_str()), (400, Some("bad_body")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_kept_and_chosen() {
    let world = World::start("").await;
    let models = "/v1/services/web/models";
    let post = async |path: &str| world.send("POST", &format!("{models}/{path}"), None).await;
    // The first is trained by itself.
    world.until(models, |_, list| list["models"][0]["in_use"] == true).await;
    assert_eq!(post("rollback").await.1["error"]["code"], "no_model");
    let second = &world.job("/v1/services/web/train", None).await["result"]["train"];
    let outcome = (&second["version"], &second["verdict"]["promoted"]);
    assert_eq!(outcome, (&json!(2), &json!(true)), "{second}");
    let (status, pinned) = post("1/promote").await;
    assert_eq!((status, &pinned["version"], &pinned["pinned"]), (200, &json!(1), &json!(true)));
    let used = |_, body: &Value| body["model"]["version"] == 1;
    world.until("/v1/services/web", used).await;
    let third = world.job("/v1/services/web/train", None).await;
    assert_eq!(third["result"]["train"]["verdict"]["promoted"], false, "{third}");
    assert_eq!(post("unpin").await.1["pinned"], false);
    assert_eq!(post("rollback").await.1["version"], 2);
    let (status, shown) = world.get(&format!("{models}/3")).await;
    assert_eq!((status, &shown["in_use"]), (200, &json!(false)));
    assert!(
        shown["verdict"]["reason"].as_str().is_some_and(|r| r.contains("is pinned")),
        "{shown}"
    );

    let damaged = world.folder.path().join("models/web/3.json");
    std::fs::write(damaged, "{").expect("written");
    for (path, status, code) in [
        ("3/promote", 409, "model_refused"),
        ("9/promote", 404, "unknown_model"),
        ("newest/promote", 404, "unknown_model"),
    ] {
        let (got, error) = post(path).await;
        assert_eq!((got, error["error"]["code"].as_str()), (status, Some(code)), "{error}");
    }
    let (_, shown) = world.get(&format!("{models}/3")).await;
    assert!(shown["refused"].as_str().is_some_and(|r| r.contains("3.json: damaged")), "{shown}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_and_overrides_are_taken_in() {
    let world = World::start("").await;
    world.until("/readyz", |status, _| status == 200).await;
    let now = Utc::now();
    let samples = json!({"samples": [{"time": now, "demand": 2.0}, {"time": now, "demand": -1.0}]});
    let (status, pushed) = world.send("POST", "/v1/services/web/samples", Some(samples)).await;
    assert_eq!((status, &pushed["accepted"]), (200, &json!(1)));
    assert_eq!(pushed["refused"][0]["index"], 1);

    let until = now + TimeDelta::minutes(5);
    let order = json!({"replicas": 0, "until": until, "reason": "maintenance"});
    let path = "/v1/services/web/override";
    assert_eq!(world.send("PUT", path, Some(order)).await.0, 200);
    let stopped = |_, body: &Value| body["desired_replicas"] == 0 && body["override"].is_object();
    world.until("/v1/services/web", stopped).await;
    assert_eq!(world.send("DELETE", path, None).await, (204, Value::Null));
    world.until("/v1/services/web", |_, body| body["override"].is_null()).await;
    let past = json!({"replicas": 1, "until": now - TimeDelta::minutes(1), "reason": "x"});
    assert_eq!(world.send("PUT", path, Some(past)).await.1["error"]["details"]["field"], "until");

    let large = format!("[{}]", " ".repeat(2 * 1024 * 1024));
    for (content_type, body, status, code) in [
        ("application/json", "{".to_string(), 400, "bad_body"),
        ("application/json", "{\"samples\": [{\"demand\": 1}]}".to_string(), 400, "bad_body"),
        ("text/plain", "{}".to_string(), 415, "unsupported_media_type"),
        ("application/json", large, 413, "body_too_large"),
    ] {
        let path = "/v1/services/web/samples";
        let (got, _, answer) = world.request("POST", path, Some((content_type, body))).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_prometheus_read_it() {
    let world = World::start("token = \"s3cret\"").await;
    let Some(curl) = tool("curl") else { return world.stop().await };
    let run = |args: &[&str]| {
        let output = Command::new(&curl).args(["-sS", "--max-time", "20"]).args(args).output();
        text(&output.expect("curl runs"))
    };
    let services = world.url("/v1/services");
    assert!(run(&[&services]).contains("\"code\":\"unauthorized\""));
    let listed = run(&["-H", "Authorization: Bearer s3cret", &services]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["services"][0]["name"], "web");
    let head = run(&["-I", &world.url("/healthz")]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    let metrics = world.url("/metrics");
    let open = run(&["-H", "Accept: application/openmetrics-text", &metrics]);
    assert!(open.ends_with("# EOF\n"), "{open}");
    let path = world.folder.path().join("metrics");
    std::fs::write(&path, run(&[&metrics])).expect("a file");
    if let Some(promtool) = tool("promtool") {
        let input = std::fs::File::open(&path).expect("just written");
        let checked = Command::new(promtool).args(["check", "metrics"]).stdin(input).output();
        let checked = checked.expect("promtool runs");
        assert!(checked.status.success() && checked.stderr.is_empty(), "{}", text(&checked));
    }
    world.stop().await;
}

/// A program of the system, found in the search path. Under `./check` none may be missing.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file());
    if found.is_none() {
        let required = std::env::var_os("FORESAIL_TEST_TOOLS").is_some();
        assert!(!required, "{name} is not installed");
        eprintln!("left out: what needs {name}, which is not installed");
    }
    found
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn config_and_plan_answer_on_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("foresail.toml");
    let run = |args: &[&str]| {
        let output = Command::new(FORESAIL).args(args).current_dir(folder.path()).output();
        let output = output.expect("foresail runs");
        (output.status.code(), text(&output))
    };
    let (code, example) = run(&["config", "example"]);
    assert_eq!(code, Some(0));
    std::fs::write(&file, example).expect("a file");
    let checked = run(&["config", "check", "foresail.toml"]);
    assert_eq!(checked, (Some(0), "ok: 1 service\n".to_string()));

    std::fs::write(&file, "[services.web]\nmode = \"akt\"\n").expect("a file");
    let (code, errors) = run(&["config", "check", "foresail.toml"]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("\nforesail.toml:2: services.web.mode: \"akt\" is none of"),
        "{errors}"
    );
    assert!(errors.contains("\nforesail.toml:1: services.web.target: missing"), "{errors}");
    assert_eq!(run(&["config", "check", "missing.toml"]).0, Some(2));

    let quick = "[services.web]\nevaluation_interval = \"200ms\"\n\
                 target = { process = { command = [\"true\"] } }\n";
    std::fs::write(&file, quick).expect("a file");
    let (code, plan) = run(&["plan", "--config", "foresail.toml", "--format", "json"]);
    assert_eq!(code, Some(0), "{plan}");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    // Nothing is measured, so it holds; but one replica is the minimum.
    assert_eq!(plan["services"][0]["plan"]["basis"], "hold");
    assert_eq!(plan["services"][0]["plan"]["desired_replicas"], 1);
    let (_, table) = run(&["plan", "--config", "foresail.toml"]);
    assert!(table.contains("desired") && table.contains("hold"), "{table}");
    assert!(!folder.path().join("foresail-data").exists(), "a plan records nothing");
}

/// The document is kept as a file, so that a change of the API shows in review. `UPDATE_GOLDEN=1`
/// rewrites it.
#[test]
fn the_openapi_document_is_as_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
    let document = serde_json::to_value(api::document()).expect("JSON");
    let text = format!("{document:#}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the golden folder");
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(recorded == text, "the API changed; UPDATE_GOLDEN=1 cargo test --test api records it");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            assert!(operation["summary"].is_string(), "{method} {path} says nothing");
            assert!(operation["responses"].is_object(), "{method} {path} answers nothing");
        }
    }
    for reference in text.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap_or_default();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}
