//! I/O: `foresail serve` from its configuration file to the containers: a recurring peak, met ahead
//! of time.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use foresail::config::{Mode, Target};
use foresail::planner::{Basis, Decision, Signal};
use foresail::series::Time;
use nix::sys::signal::{Signal as Unix, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::bench::{Bench, eventually_within, fetch, get, ready, send, with_engine};

/// A compressed day: quiet, then a steep peak.
const DAY: Duration = Duration::from_secs(20);
const PEAK: Duration = Duration::from_secs(8);

/// Requests per second. Each takes 10 ms of CPU time, and a replica has [`CORES`], that is 12
/// requests per second: the quiet needs one replica, the peak at least two. All together they use a
/// third of a core: more than that a busy machine does not give to containers, and then the load
/// that they show has no peaks.
const QUIET_RATE: u32 = 2;
const PEAK_RATE: u32 = 24;
const CORES: f64 = 0.12;

const MAX_REPLICAS: u32 = 4;

/// Longest wait for what some day should bring; reached only by a failure. A machine that stands
/// still now and then leaves gaps in the load, and the forecast wins no trust across them.
const PATIENCE: Duration = Duration::from_secs(45 * DAY.as_secs());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_scales_containers_ahead_of_a_recurring_peak() {
    with_engine("serve", async |bench| {
        let mut worker = bench.worker_with(&["--warm-up", "1s", "--cost", "10ms"]);
        let limit = Some((CORES * 1e9) as i64);
        worker.host_config.as_mut().expect("given").nano_cpus = limit;
        let template = bench.run("web", worker).await;
        ready(&bench.actuator(), &template).await;

        let mut serve = Serve::start(&configuration(bench)).await;
        let load = load(serve.balancer);

        // Each is looked for in records, not at the moment when it happens.
        let ahead = serve.decision("ahead of a peak", Time::MIN_UTC, is_ahead).await;
        println!("{}", ahead.reason);
        let up = async || bench.clone_event("start", ahead.time).await;
        eventually_within(PATIENCE, "a clone is started after it", up).await;
        let behind = serve.decision("after a peak", ahead.time, is_behind).await;
        println!("{}", behind.reason);
        let down = async || bench.clone_event("destroy", behind.time).await;
        eventually_within(PATIENCE, "a clone is removed after it", down).await;
        assert!(bench.is_running(&template).await, "the user's container goes on");

        let Load { answered, failed } = load.stop().await;
        assert!(answered > 0);
        assert_eq!(failed, 0, "of {answered} requests");
        serve.stop().await;
    })
    .await;
}

/// The forecast starts replicas that the rule would not, while the demand is still low.
fn is_ahead(decision: &Decision) -> bool {
    decision.basis == Basis::Forecast
        && decision.desired_replicas > decision.without_forecast.max(decision.current_replicas)
        && half_idle(decision, decision.desired_replicas)
}

/// The forecast lets replicas go once the demand is low.
fn is_behind(decision: &Decision) -> bool {
    decision.basis == Basis::Forecast
        && decision.desired_replicas < decision.current_replicas
        && half_idle(decision, decision.current_replicas)
}

fn half_idle(decision: &Decision, replicas: u32) -> bool {
    let Signal::Fresh { demand, .. } = decision.signal else { return false };
    demand < 0.5 * f64::from(replicas) * decision.capacity
}

/// The running program.
pub struct Serve {
    child: Child,
    api: SocketAddr,
    pub balancer: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Serve {
    /// Serves the service `web`, whose section of the configuration has these `keys`.
    pub async fn start(keys: &str) -> Serve {
        Serve::start_in(keys, &std::env::temp_dir()).await
    }

    /// As [`Serve::start`], with a folder for temporary files: in another one it finds no lock file.
    pub async fn start_in(keys: &str, temporary: &Path) -> Serve {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("foresail.toml");
        let store = folder.path().join("data");
        let text = format!(
            r#"
            api = {{ listen = "127.0.0.1:0" }}
            store = {{ path = {store:?}, flush_interval = "1s" }}
            [services.web]
            {keys}
            "#
        );
        let config = foresail::config::parse(&text).expect("a valid configuration");
        assert!(matches!(config.services["web"].target, Target::Docker(_)));
        std::fs::write(&file, text).expect("write the configuration");
        let mut child = Command::new(env!("CARGO_BIN_EXE_foresail"))
            .args(["serve", "--config"])
            .arg(&file)
            .env("TMPDIR", temporary)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("foresail serve");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // The program says its addresses, one a line.
        let mut address = async || {
            let line = lines.next_line().await.expect("text").expect("an address");
            let (_, address) = line.split_once("http://").expect("an address");
            address.parse().expect("an address")
        };
        let (api, balancer) = (address().await, address().await);
        Serve { child, api, balancer, _folder: folder }
    }

    /// Waits for a decision later than `since` that `is` like this.
    pub async fn decision(
        &self,
        what: &str,
        since: Time,
        is: impl Fn(&Decision) -> bool,
    ) -> Decision {
        let start = Instant::now();
        loop {
            let newest_first = self.decisions().await;
            let found = newest_first.iter().rev().find(|found| found.time > since && is(found));
            if let Some(found) = found {
                return found.clone();
            }
            let reasons = || newest_first.iter().rev().map(|decision| decision.reason.as_str());
            assert!(
                start.elapsed() < PATIENCE,
                "no decision {what}; the last ones:\n{}",
                reasons().collect::<Vec<_>>().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The newest hundred, newest first.
    pub async fn decisions(&self) -> Vec<Decision> {
        let path = "/v1/services/web/decisions?limit=100";
        let (status, body) = fetch(self.api, path).await.expect("the API answers");
        assert_eq!(status, 200, "{body}");
        let answer = serde_json::from_str::<serde_json::Value>(&body).expect("JSON");
        serde_json::from_value(answer["decisions"].clone()).expect("decisions")
    }

    /// Ends it at once, by SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    pub fn process(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub async fn mode(&self) -> Mode {
        let (status, body) = fetch(self.api, "/v1/services/web").await.expect("the API answers");
        assert_eq!(status, 200, "{body}");
        let answer = serde_json::from_str::<serde_json::Value>(&body).expect("JSON");
        match answer["mode"].as_str() {
            Some("act") => Mode::Act,
            Some("observe") => Mode::Observe,
            other => panic!("no mode: {other:?}"),
        }
    }

    /// Sets the replicas over the planner's head.
    pub async fn override_replicas(&self, replicas: u32) {
        let until = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
        let body = format!(r#"{{"replicas": {replicas}, "until": {until:?}, "reason": "test"}}"#);
        let path = "/v1/services/web/override";
        let (status, answer) = send(self.api, "PUT", path, &body).await.expect("the API answers");
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn stop(&mut self) {
        let id = self.child.id().expect("it runs");
        kill(Pid::from_raw(id as i32), Unix::SIGTERM).expect("SIGTERM");
        assert!(self.child.wait().await.expect("exit").success());
    }
}

fn configuration(bench: &Bench) -> String {
    let label = bench.target().label;
    format!(
        r#"
        target = {{ docker = {{ label = "{label}", port = 8000 }} }}
        mode = "act"
        overload_budget = 0.05
        replicas = {{ min = 1, max = {MAX_REPLICAS} }}
        evaluation_interval = "1s"
        sample_interval = "250ms"
        startup_delay = "2s"
        max_startup_delay = "5s"
        fallback = {{ up = 0.8, down = 0.2, window = "2s" }}
        behavior = {{ stabilization_window = {{ up = "0s", down = "2s" }} }}
        training = {{ min_history = "60s", interval = "20s", max_history = "10m" }}
        balancer = {{ listen = "127.0.0.1:0", slow_start = "500ms", drain_timeout = "5s" }}
        "#
    )
}

/// The load generator at work.
struct Generator(JoinHandle<Load>, tokio_util::sync::CancellationToken);

#[derive(Debug, Default)]
struct Load {
    answered: usize,
    failed: usize,
}

/// Sends requests day by day, each when its time comes, whether or not others are answered.
fn load(balancer: SocketAddr) -> Generator {
    let stop = tokio_util::sync::CancellationToken::new();
    let token = stop.clone();
    let sending = tokio::spawn(async move {
        let mut requests = tokio::task::JoinSet::new();
        let start = Instant::now();
        let mut due = Duration::ZERO;
        while !token.is_cancelled() {
            let time_of_day = due.as_secs_f64() % DAY.as_secs_f64();
            let quiet = time_of_day < (DAY - PEAK).as_secs_f64();
            due += Duration::from_secs(1) / if quiet { QUIET_RATE } else { PEAK_RATE };
            tokio::time::sleep_until((start + due).into()).await;
            requests.spawn(get(balancer, "/work"));
        }
        let mut load = Load::default();
        for status in requests.join_all().await {
            match status {
                // The worker sheds load (503) while replicas are missing; that is an answer, too.
                Ok(200 | 503) => load.answered += 1,
                _ => load.failed += 1,
            }
        }
        load
    });
    Generator(sending, stop)
}

impl Generator {
    async fn stop(self) -> Load {
        let Generator(sending, stop) = self;
        stop.cancel();
        sending.await.expect("the generator does not panic")
    }
}
