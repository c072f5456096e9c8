//! `foresail serve` as a user runs it, killed in mid-flight: what was recorded survives, children
//! do not.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const FORESAIL: &str = env!("CARGO_BIN_EXE_foresail");
/// Longest wait for anything; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a crash may lose, and one evaluation that was under way.
const MAY_BE_LOST: chrono::TimeDelta = chrono::TimeDelta::milliseconds(5_000 + 500);

/// A running `serve`; killed when dropped.
struct Serve {
    child: Child,
    api: String,
    balancer: String,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serve {
    fn start(config: &Path) -> Serve {
        let mut child = Command::new(FORESAIL)
            .args(["serve", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("foresail starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut address = || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line");
            line.trim().rsplit("http://").next().expect("an address").to_owned()
        };
        let (api, balancer) = (address(), address());
        Serve { child, api, balancer }
    }

    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.api).expect("the API listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {answer}"))
    }

    fn decisions(&self) -> Vec<Value> {
        let answer = self.get("/v1/services/web/decisions?limit=1000");
        answer["decisions"].as_array().expect("decisions").clone()
    }
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn config(folder: &Path, mode: &str) -> PathBuf {
    config_of(folder, mode, (2, 4), 0.1, "")
}

/// Replicas from the first to the second number, each with so many cores; `arguments` are the
/// worker's.
fn config_of(
    folder: &Path,
    mode: &str,
    (min, max): (u32, u32),
    cpu_limit: f64,
    arguments: &str,
) -> PathBuf {
    let path = folder.join("foresail.toml");
    let store = folder.join("store");
    let worker = format!("worker --port {{port}} --warm-up 100ms --parent {arguments}");
    let command: Vec<&str> = [FORESAIL].into_iter().chain(worker.split_whitespace()).collect();
    let text = format!(
        r#"
[api]
listen = "127.0.0.1:0"
[store]
path = {store:?}
[services.web]
mode = "{mode}"
evaluation_interval = "500ms"
sample_interval = "500ms"
max_staleness = "5s"
replicas = {{ min = {min}, max = {max} }}
balancer = {{ listen = "127.0.0.1:0" }}

[services.web.target.process]
command = {command:?}
cpu_limit = {cpu_limit}
ready_path = "/healthz"
"#
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn time(decision: &Value) -> chrono::DateTime<chrono::Utc> {
    decision["time"].as_str().expect("a time").parse().expect("RFC 3339")
}

fn ready(serve: &Serve) -> Option<Vec<Value>> {
    let decisions = serve.decisions();
    decisions.iter().any(|d| d["ready_replicas"] == 2).then_some(decisions)
}

/// Addresses of the replicas that serve.
fn addresses(serve: &Serve) -> Vec<String> {
    let answer = serve.get("/v1/services/web/replicas");
    let replicas = answer["replicas"].as_array().expect("replicas").clone();
    replicas.iter().filter_map(|r| Some(r["address"].as_str()?.to_owned())).collect()
}

#[test]
fn a_kill_loses_at_most_one_flush_and_leaves_no_child() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "act");
    let mut first = Serve::start(&config);
    // Longer than one flush interval, so that something was written.
    let before = until("seven seconds of decisions", || {
        let decisions = ready(&first)?;
        (time(&decisions[0]) - time(decisions.last()?) > chrono::TimeDelta::seconds(7))
            .then_some(decisions)
    });
    let workers = addresses(&first);
    assert_eq!(workers.len(), 2, "{workers:?}");
    first.child.kill().expect("killed");
    first.child.wait().expect("gone");
    until("the workers to go with it", || {
        workers.iter().all(|w| TcpStream::connect(w).is_err()).then_some(())
    });

    let second = Serve::start(&config);
    let oldest = time(before.last().expect("some"));
    let newest = time(&before[0]);
    // Decisions and demand of before, but for those of the last flush interval.
    let kept = second.decisions();
    let expected: Vec<_> = before.iter().filter(|d| newest - time(d) > MAY_BE_LOST).collect();
    assert!(expected.len() > 1, "only {} decisions to compare", expected.len());
    for decision in expected {
        assert!(kept.contains(decision), "lost: {decision}");
    }
    let from = oldest.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let to = (newest - MAY_BE_LOST).format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let history = second.get(&format!("/v1/services/web/history?from={from}&to={to}&step=500ms"));
    let rows = history["rows"].as_array().expect("rows");
    assert!(!rows.is_empty(), "{history}");
}

#[test]
fn observing_starts_nothing_and_says_what_it_would_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = Serve::start(&config(folder.path(), "observe"));
    let decision = until("a decision", || serve.decisions().into_iter().next());
    assert_eq!(decision["desired_replicas"], 2, "min: {decision}");
    assert_eq!(addresses(&serve), Vec::<String>::new());
}

#[test]
fn two_errors_in_a_configuration_are_both_said_with_their_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, "[services.web]\nmode = \"act now\"\noverload_budget = 7\n")
        .expect("written");
    let output =
        Command::new(FORESAIL).args(["serve", "--config"]).arg(&path).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in
        ["wrong.toml:2: services.web.mode", "wrong.toml:3: services.web.overload_budget"]
    {
        assert!(said.contains(expected), "{said} does not say {expected}");
    }
}

/// Requests that the balancer counts show what saturated workers hide: how much more is wanted.
#[test]
fn saturated_workers_no_longer_hide_the_load() {
    /// Cores of the one worker, and CPU seconds of a request: 40 requests per second saturate it.
    const LIMIT: f64 = 0.2;
    const COST: f64 = 0.005;
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = format!("--cpu-limit {LIMIT} --cost {COST}s --queue-timeout 200ms");
    let path = config_of(folder.path(), "act", (1, 1), LIMIT, &arguments);
    let serve = Serve::start(&path);
    until("the worker", || {
        serve.decisions().iter().any(|d| d["ready_replicas"] == 1).then_some(())
    });
    let measured = || serve.decisions().iter().filter_map(demand).filter(|d| *d > 0.0).count();
    // Calm times, which teach what a request costs: 20 intervals with some clients or others.
    for clients in [1, 3, 2, 4].into_iter().cycle() {
        let before = measured();
        if before > 30 {
            break;
        }
        let pause = Duration::from_millis(150);
        under_load(&serve.balancer, clients, pause, || {
            until("measured demand", || (measured() > before + 1).then_some(()));
        });
    }
    let taught = serve.decisions();
    assert!(taught.iter().filter_map(demand).all(|demand| demand < 1.2 * LIMIT), "{taught:?}");
    // 40 clients, each answered within 200 ms, well or not, want about 1 core of the 0.2.
    let busy =
        |decisions: Vec<Value>| decisions.iter().filter_map(demand).find(|d| *d > 2.0 * LIMIT);
    let (seen, offered) = under_load(&serve.balancer, 40, Duration::ZERO, || {
        // The first may have begun before all clients were there.
        until("demand beyond the limit", || busy(serve.decisions()));
        let before = measured();
        until("demand", || (measured() > before + 2).then(|| serve.decisions()).and_then(busy))
    });
    let wanted = offered * COST;
    assert!(wanted > 2.0 * LIMIT, "the load is too small to show anything: {wanted}");
    assert!((0.5..2.0).contains(&(seen / wanted)), "{seen} cores seen, {wanted} wanted");
}

/// Measured demand of a decision that is no mere lower bound.
fn demand(decision: &Value) -> Option<f64> {
    let signal = &decision["signal"];
    signal["demand"].as_f64().filter(|_| signal["lower_bound"] == false)
}

/// What comes of `work` while clients ask at `address`, wait for the answer, pause and ask again;
/// and how many requests per second that was.
fn under_load<T>(
    address: &str,
    clients: u32,
    pause: Duration,
    work: impl FnOnce() -> T,
) -> (T, f64) {
    /// Also when `work` panics, for the scope waits for the clients.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (stopped, requests, start) = (AtomicBool::new(false), AtomicU32::new(0), Instant::now());
    let client = || {
        while !stopped.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(address).expect("the balancer listens");
            write!(stream, "GET /work HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
                .expect("sent");
            stream.read_to_end(&mut Vec::new()).expect("an answer");
            requests.fetch_add(1, Ordering::Relaxed);
            thread::sleep(pause);
        }
    };
    let result = thread::scope(|scope| {
        let _stop = Stop(&stopped);
        (0..clients).for_each(|_| drop(scope.spawn(client)));
        work()
    });
    (result, f64::from(requests.into_inner()) / start.elapsed().as_secs_f64())
}
