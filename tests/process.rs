//! I/O: the process target with the real worker: start, ready, count CPU, drain, stop.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use foresail::config::ProcessTarget;
use foresail::fleet::{Phase, Replica, ReplicaReport};
use foresail::io::actuator::{Actuator, process::ProcessActuator};
use foresail::io::collector::MetricsSource;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

const WORKER: &str = env!("CARGO_BIN_EXE_foresail");

fn worker(arguments: &str) -> ProcessActuator {
    let words = format!("worker --port {{port}} --parent {arguments}");
    let command = [WORKER].into_iter().chain(words.split_whitespace()).map(str::to_owned);
    ProcessActuator::new(
        "test",
        &ProcessTarget {
            command: command.collect(),
            env: BTreeMap::new(),
            cpu_limit: Some(0.5),
            ready_path: Some("/healthz".to_owned()),
            stop_timeout: Duration::from_secs(10),
        },
    )
}

async fn started(actuator: &ProcessActuator) -> ReplicaReport {
    actuator.start().await.expect("the worker starts");
    loop {
        let reports = actuator.list().await.expect("listing does not fail");
        if let Some(ready) = reports.into_iter().find(|r| r.ready) {
            return ready;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn get(client: &Client<HttpConnector, Empty<Bytes>>, to: SocketAddr) -> (u16, String) {
    let url = format!("http://{to}/work").parse().expect("a URL");
    let response = client.get(url).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn cpu_seconds(actuator: &ProcessActuator, report: &ReplicaReport) -> f64 {
    let now = chrono::Utc::now();
    let replica = Replica {
        id: report.id.clone(),
        phase: Phase::Ready,
        since: now,
        created: now,
        address: report.address,
        in_flight: 0,
        managed: true,
        outdated: false,
    };
    let readings = actuator.metrics().read(&[replica]).await.expect("readings");
    readings.first().expect("a reading of the replica").cpu_seconds_total
}

#[tokio::test]
async fn cpu_seconds_are_those_of_the_requests() {
    let actuator = worker("--warm-up 10ms --cpu-limit 1 --cost 10ms");
    let report = started(&actuator).await;
    let (client, address) = (client(), report.address.expect("an address"));
    let before = cpu_seconds(&actuator, &report).await;
    for _ in 0..30 {
        assert_eq!(get(&client, address).await.0, 200);
    }
    let used = cpu_seconds(&actuator, &report).await - before;
    // 30 x 10 ms, and what HTTP takes: little when optimized, a few milliseconds a request when
    // not.
    assert!((0.3..0.6).contains(&used), "{used} CPU seconds");
    actuator.shutdown(Duration::from_secs(5)).await;
    assert!(actuator.list().await.expect("a list").is_empty());
}

#[tokio::test]
async fn a_stopped_worker_first_answers_what_it_has_accepted() {
    // A lane of 0.2 cores needs 100 ms for each request, so most of these wait in its queue.
    let actuator = worker("--warm-up 10ms --cpu-limit 0.2 --cost 20ms --queue-timeout 9s");
    let report = started(&actuator).await;
    let (client, address) = (client(), report.address.expect("an address"));
    let requests = (0..8).map(|_| get(&client, address));
    let mut all = Box::pin(futures_util::future::join_all(requests));
    // They are accepted once the worker was seen to work for them.
    let idle = cpu_seconds(&actuator, &report).await;
    while cpu_seconds(&actuator, &report).await < idle + 0.02 {
        let _ = tokio::time::timeout(Duration::from_millis(5), &mut all).await;
    }
    let (answers, stopped) = tokio::join!(all, actuator.stop(&report.id));
    stopped.expect("it stops");
    assert_eq!(answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200; 8]);
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_refused_in_json() {
    let actuator = worker("--warm-up 10ms --cpu-limit 0.05 --cost 20ms --queue-timeout 300ms");
    let report = started(&actuator).await;
    let (client, address) = (client(), report.address.expect("an address"));
    // 400 ms for each: the last ones wait longer than 300 ms.
    let answers = futures_util::future::join_all((0..4).map(|_| get(&client, address))).await;
    let refused = answers.iter().find(|(status, _)| *status == 503).expect("one is refused");
    assert!(refused.1.contains(r#""code":"queue_timeout""#), "{}", refused.1);
    actuator.shutdown(Duration::from_secs(5)).await;
}

/// Foresail does without huge pages, which a child would inherit.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_replica_has_the_huge_pages_that_foresail_does_without() {
    let state = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        line.expect("a line of the kernel's").trim().to_owned()
    };
    let own = || state(&std::fs::read_to_string("/proc/self/status").expect("readable"));
    let before = own();
    foresail::io::memory::give_back();
    assert_eq!(own(), "0");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("status");
    // Moved there when it is whole.
    let path = file.display();
    let script = format!("cat /proc/self/status > {path}.new && mv {path}.new {path}; read end");
    let target = ProcessTarget {
        command: ["sh", "-c", &script].map(str::to_owned).into(),
        env: BTreeMap::new(),
        cpu_limit: None,
        ready_path: None,
        stop_timeout: Duration::from_secs(10),
    };
    let actuator = ProcessActuator::new("pages", &target);
    actuator.start().await.expect("it starts");
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(state(&std::fs::read_to_string(file).expect("readable")), before);
    actuator.shutdown(Duration::from_secs(5)).await;
}

#[test]
fn a_worker_ends_with_its_parents_end_of_the_pipe() {
    let mut child = Command::new(WORKER)
        .args(["worker", "--parent", "--warm-up", "1h"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    for (arguments, right, code) in [
        (["--cpu-limit", "2"], "at most 1", 2),
        (["--cost", "fast"], "expected number", 2),
        (["--listen", "localhost"], "invalid socket address", 2),
        // More than a process can address.
        (["--memory", "4294967295"], "cannot fill 4294967295 MiB of memory", 1),
    ] {
        let output = Command::new(WORKER).arg("worker").args(arguments).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(right), "{text}");
    }
}
