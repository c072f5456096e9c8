//! I/O: `foresail serve` from its configuration file to the containers: a recurring peak, met ahead
//! of time.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use foresail::config::Target;
use foresail::planner::{Basis, Decision, Signal};
use nix::sys::signal::{Signal as Unix, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::bench::{Bench, eventually_within, fetch, get, ready, with_engine};

/// A compressed day: quiet, then a steep peak.
const DAY: Duration = Duration::from_secs(20);
const PEAK: Duration = Duration::from_secs(8);

/// Requests per second. Each takes 20 ms of CPU time, and a replica has a quarter of a core, that
/// is 12 requests per second: the quiet needs one replica, the peak at least two.
const QUIET_RATE: u32 = 2;
const PEAK_RATE: u32 = 24;

const MAX_REPLICAS: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_scales_containers_ahead_of_a_recurring_peak() {
    with_engine("serve", async |bench| {
        let mut worker = bench.worker_with(&["--warm-up", "1s", "--cost", "20ms"]);
        let limit = Some(250_000_000);
        worker.host_config.as_mut().expect("given").nano_cpus = limit;
        let template = bench.run("web", worker).await;
        ready(&bench.actuator(), &template).await;

        let mut serve = Serve::start(bench).await;
        let load = load(serve.balancer);

        // The forecast asks for more replicas than the rule would, while the demand is still low.
        let ahead = async || {
            let decisions = serve.decisions().await;
            decisions.into_iter().find(is_ahead)
        };
        let patience = DAY * 12;
        let ahead = eventually_within(patience, "a decision ahead of the peak", ahead).await;
        println!("{}", ahead.reason);
        let up = async || (!bench.clones().await.is_empty()).then_some(());
        eventually_within(DAY, "a second replica", up).await;
        let down = async || bench.clones().await.is_empty().then_some(());
        eventually_within(DAY * 4, "one replica after the peak", down).await;
        assert!(bench.is_running(&template).await, "the user's container goes on");

        let Load { answered, failed } = load.stop().await;
        assert!(answered > 0);
        assert_eq!(failed, 0, "of {answered} requests");
        serve.stop().await;
    })
    .await;
}

fn is_ahead(decision: &Decision) -> bool {
    let Signal::Fresh { demand, .. } = decision.signal else { return false };
    decision.basis == Basis::Forecast
        && decision.desired_replicas > decision.without_forecast
        && demand < 0.5 * f64::from(decision.desired_replicas) * decision.capacity
}

/// The running program.
struct Serve {
    child: Child,
    api: SocketAddr,
    balancer: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Serve {
    async fn start(bench: &Bench) -> Serve {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("foresail.toml");
        let text = configuration(bench, &folder.path().join("data").display().to_string());
        std::fs::write(&file, text).expect("write the configuration");
        let mut child = Command::new(env!("CARGO_BIN_EXE_foresail"))
            .args(["serve", "--config"])
            .arg(&file)
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

    async fn decisions(&self) -> Vec<Decision> {
        let path = "/v1/services/web/decisions?limit=100";
        let (status, body) = fetch(self.api, path).await.expect("the API answers");
        assert_eq!(status, 200, "{body}");
        let answer = serde_json::from_str::<serde_json::Value>(&body).expect("JSON");
        serde_json::from_value(answer["decisions"].clone()).expect("decisions")
    }

    async fn stop(&mut self) {
        let id = self.child.id().expect("it runs");
        kill(Pid::from_raw(id as i32), Unix::SIGTERM).expect("SIGTERM");
        assert!(self.child.wait().await.expect("exit").success());
    }
}

fn configuration(bench: &Bench, store: &str) -> String {
    let label = bench.target().label;
    let text = format!(
        r#"
        [api]
        listen = "127.0.0.1:0"
        [store]
        path = "{store}"
        flush_interval = "1s"
        [services.web]
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
    );
    let config = foresail::config::parse(&text).expect("a valid configuration");
    assert!(matches!(config.services["web"].target, Target::Docker(_)));
    text
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
