//! I/O: an engine that is killed under a running `foresail serve`, and started again.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::{API_DEFAULT_VERSION, Docker};
use foresail::planner::{Basis, Decision};
use foresail::series::Time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Bench, PATIENCE, eventually, get, say_left_out, with};
use crate::image;
use crate::serve::Serve;

/// An engine for one test alone.
struct Engine {
    /// The program, its folder, and options that this machine needs.
    command: Vec<String>,
    dockerd: Child,
}

impl Engine {
    /// `None` where nobody says how to start one, which only root can.
    fn start() -> Option<Engine> {
        let command = std::env::var("FORESAIL_TEST_ENGINE").ok()?;
        let command = command.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let dockerd = launch(&command);
        Some(Engine { command, dockerd })
    }

    fn socket(&self) -> String {
        socket(&self.command)
    }

    /// Its containers go on without it.
    fn kill(&mut self) {
        self.dockerd.kill().expect("it runs");
        self.dockerd.wait().expect("it ends");
    }

    /// It neither answers nor hangs up, and its containers go on.
    fn pause(&self) {
        kill(Pid::from_raw(self.dockerd.id() as i32), Signal::SIGSTOP).expect("it runs");
    }

    fn go_on(&self) {
        kill(Pid::from_raw(self.dockerd.id() as i32), Signal::SIGCONT).expect("it runs");
    }

    fn start_again(&mut self) {
        self.dockerd = launch(&self.command);
    }
}

impl Drop for Engine {
    /// Ends it with its containers. Those of a killed engine are ended by the one that comes after.
    fn drop(&mut self) {
        if !matches!(self.dockerd.try_wait(), Ok(None)) {
            self.start_again();
        }
        let _ = kill(Pid::from_raw(self.dockerd.id() as i32), Signal::SIGTERM);
        let _ = self.dockerd.wait();
    }
}

/// Starts an engine and waits until it answers. It keeps away from the packet filter, which it
/// would share with the engine of the other tests.
fn launch(command: &[String]) -> Child {
    let mut dockerd = Command::new(&command[0])
        .args(&command[1..])
        .args(["--iptables=false", "--ip6tables=false"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the engine starts");
    let start = Instant::now();
    while UnixStream::connect(socket(command)).is_err() {
        assert!(dockerd.try_wait().expect("a state").is_none(), "the engine has ended");
        assert!(start.elapsed() < PATIENCE, "the engine does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    dockerd
}

fn socket(command: &[String]) -> String {
    format!("{}/docker.sock", command[1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_engine_is_waited_for_and_its_service_restored() {
    let Some(mut engine) = Engine::start() else {
        return say_left_out("restart", "only ./check, as root, starts an engine to be killed");
    };
    let host = engine.socket();
    let docker = Docker::connect_with_unix(&host, PATIENCE.as_secs(), API_DEFAULT_VERSION)
        .expect("a socket");
    let image = image::import(&docker).await;
    with(docker, &image, "restart", async |bench| {
        let mut worker = bench.worker();
        // Published ports go with the engine; a container's own address does not.
        worker.host_config.as_mut().expect("given").port_bindings = None;
        let template = bench.run("web", worker).await;
        let mut serve = Serve::start(&configuration(bench, &host)).await;
        let two = |decision: &Decision| decision.ready_replicas == 2;
        let before = serve.decision("with two replicas", Time::MIN_UTC, two).await;
        let clones = bench.clones().await;
        assert_eq!(clones.len(), 1);

        let before = check_slow_and_paused(&engine, &serve, before.time).await;
        assert_eq!(bench.clones().await, clones, "nobody was started or stopped for it");

        engine.kill();
        let says_so = |decision: &Decision| {
            let says = |note: &String| note.contains("no Docker engine answers");
            decision.basis == Basis::Hold && decision.notes.iter().any(says)
        };
        let away = serve.decision("that misses the engine", before.time, says_so).await;
        let answered = async || get(serve.balancer, "/work").await.ok().filter(|it| *it == 200);
        eventually("replicas answer without their engine", answered).await;
        // As long as it is away, nobody is started or stopped for it.
        let later = away.time + Duration::from_secs(5);
        serve.decision("five seconds later", later, |_| true).await;
        for decision in serve.decisions().await.iter().filter(|it| it.time >= away.time) {
            let Decision { basis, current_replicas, desired_replicas, .. } = decision;
            assert_eq!((*basis, *current_replicas, *desired_replicas), (Basis::Hold, 2, 2));
            assert!(says_so(decision), "{:?}", decision.notes);
        }

        engine.start_again();
        // It has ended the containers that it found running. The user's own stays as it is, and
        // two clones do the work.
        let back = |decision: &Decision| two(decision) && decision.notes.is_empty();
        serve.decision("with two replicas again", later, back).await;
        assert!(!bench.is_running(&template).await);
        eventually("requests are answered", answered).await;
        let mut running = Vec::new();
        for clone in bench.clones().await {
            assert!(bench.is_running(&clone).await || clones.contains(&clone), "an orphan");
            running.extend(bench.is_running(&clone).await.then_some(clone));
        }
        assert_eq!(running.len(), 2, "{running:?}");
        serve.stop().await;
    })
    .await;
}

/// An engine that answers late, then not at all: what is there is held, which is said, and work
/// goes on when it is back. Gives the last decision.
async fn check_slow_and_paused(engine: &Engine, serve: &Serve, before: Time) -> Decision {
    for _ in 0..3 {
        engine.pause();
        tokio::time::sleep(Duration::from_secs(1)).await;
        engine.go_on();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    engine.pause();
    let says_so = |decision: &Decision| {
        // Who gives up first, the question or the round that it is part of, is not determined.
        let says = |note: &String| note.contains("answer within");
        decision.notes.iter().any(says)
    };
    let silent = serve.decision("that misses an answer", before, says_so).await;
    assert_eq!(silent.basis, Basis::Hold);
    let still = serve.decision("some time later", silent.time + Duration::from_secs(3), says_so);
    let still = still.await;
    let answered = async || get(serve.balancer, "/work").await.ok().filter(|it| *it == 200);
    eventually("replicas answer without their engine", answered).await;
    engine.go_on();
    let back = |decision: &Decision| decision.notes.is_empty();
    let back = serve.decision("after the engine is back", still.time, back).await;
    for decision in serve.decisions().await.iter().filter(|it| it.time > before) {
        let Decision { current_replicas, desired_replicas, .. } = decision;
        assert_eq!((*current_replicas, *desired_replicas), (2, 2), "{}", decision.reason);
    }
    back
}

fn configuration(bench: &Bench, socket: &str) -> String {
    let label = bench.target().label;
    format!(
        r#"
        target = {{ docker = {{ label = "{label}", host = "unix://{socket}", port = 8000 }} }}
        mode = "act"
        policy = "threshold" # which has nothing to say of a model
        replicas = {{ min = 2, max = 3 }}
        evaluation_interval = "500ms"
        sample_interval = "500ms"
        balancer = {{ listen = "127.0.0.1:0" }}
        "#
    )
}
