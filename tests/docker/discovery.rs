//! I/O: `foresail serve` without a file: services that come, change and go with their containers.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::bench::{Bench, eventually, eventually_within, fetch, with_engine};
use crate::relay::Relay;

/// A third of the time after which a listing would find it without any event. On a quiet machine
/// most of it takes a fifth of a second, which is printed.
const BY_EVENTS: Duration = Duration::from_secs(10);

/// Whoever discovers finds every container on the engine that opts in, also another test's.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_come_change_and_go_with_their_containers() {
    let _alone = ALONE.lock().await;
    with_engine("discovery", async |bench| {
        let mut serve = Serve::start(None).await;
        let name = bench.service.as_str();
        assert!(serve.service(name).await.is_none());

        let first = bench.run("web", labelled(bench, &[("min", "2"), ("max", "4")])).await;
        let found = serve.soon("found", async || serve.service(name).await).await;
        assert_eq!(found["mode"], "observe", "unless a label says otherwise");
        let settings = &found["settings"];
        assert_eq!((&settings["min_replicas"], &settings["max_replicas"]), (&2.into(), &4.into()));

        // A wrong label lets the service go, with the reason; the right one brings it back.
        bench.kill(&first).await;
        let wrong = bench.run("web", labelled(bench, &[("min", "two")])).await;
        let note = format!("container {name}-web: label foresail.min: \"two\" is no whole number");
        let noted =
            async || serve.notes().await.iter().any(|it| it.starts_with(&note)).then_some(());
        serve.soon("noted", noted).await;
        let gone = async || serve.service(name).await.is_none().then_some(());
        serve.soon("let go because of a wrong label", gone).await;
        bench.kill(&wrong).await;

        // Redeployed to act: a clone is started, and is of the same service.
        let labels = [("min", "2"), ("mode", "act"), ("evaluation_interval", "500ms")];
        let acting = bench.run("web", labelled(bench, &labels)).await;
        let two = async || {
            let service = serve.service(name).await?;
            (service["replicas"]["ready"] == 2).then_some(service)
        };
        assert_eq!(eventually("two replicas are ready", two).await["mode"], "act");
        assert!(!serve.notes().await.iter().any(|note| note.contains(name)));
        assert_eq!(bench.clones().await.len(), 1);

        // New settings by a redeploy, beside a clone with the labels from before.
        bench.kill(&acting).await;
        bench.run("web", labelled(bench, &[("min", "1")])).await;
        let observes = async || serve.service(name).await.filter(|it| it["mode"] == "observe");
        let service = serve.soon("restarted with other settings", observes).await;
        assert_eq!(service["settings"]["min_replicas"], 1);
        let differs = format!("container {name}-foresail-1: its labels are not those of");
        assert!(serve.notes().await.iter().any(|note| note.starts_with(&differs)));

        // While it acted it may have ordered one more, in the place of the first.
        let gone_with_all = async || {
            for id in bench.made().await {
                bench.kill(&id).await;
            }
            gone().await
        };
        serve.soon("let go with its last container", gone_with_all).await;
        serve.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_the_engine_was_away_is_made_up_for() {
    let _alone = ALONE.lock().await;
    with_engine("made-up", async |bench| {
        let mut relay = Relay::absent();
        let mut serve = Serve::start(Some(&relay.host())).await;
        let away = async || {
            let silent = |note: &String| note.contains("no Docker engine answers");
            serve.notes().await.iter().any(silent).then_some(())
        };
        eventually("the missing engine is noted", away).await;

        let (one, two) = (format!("{}-1", bench.service), format!("{}-2", bench.service));
        let labels = |name: &str| labelled(bench, &[("service", name)]);
        let first = bench.run("one", labels(&one)).await;
        relay.open();
        eventually("found", async || serve.service(&one).await).await;

        relay.crash().await;
        eventually("the lost engine is noted", away).await;
        bench.kill(&first).await;
        bench.run("two", labels(&two)).await;
        assert!(serve.service(&one).await.is_some(), "nobody knows whether it is gone");
        relay.open();
        let swapped = async || {
            let (first, second) = (serve.service(&one).await, serve.service(&two).await);
            (first.is_none() && second.is_some()).then_some(())
        };
        eventually("the one let go, the other found", swapped).await;
        assert_eq!(away().await, None);
        serve.stop().await;
    })
    .await;
}

/// A worker with the label that opts it in, and `foresail.KEY=VALUE` for each pair.
fn labelled(bench: &Bench, pairs: &[(&str, &str)]) -> ContainerCreateBody {
    let mut worker = bench.worker();
    let labels = worker.labels.as_mut().expect("given");
    labels.insert("foresail.enable".to_owned(), "true".to_owned());
    let pairs = pairs.iter().map(|(key, value)| (format!("foresail.{key}"), (*value).to_owned()));
    labels.extend(pairs);
    worker
}

/// The running program.
struct Serve {
    child: Child,
    api: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Serve {
    /// Without a file, on the engine at `host`.
    async fn start(host: Option<&str>) -> Serve {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_foresail"));
        command.env_remove("FORESAIL_CONFIG").env("FORESAIL_API_LISTEN", "127.0.0.1:0");
        command.env("FORESAIL_STORE_PATH", folder.path().join("data"));
        if let Some(host) = host {
            command.env("DOCKER_HOST", host);
        }
        let command = command.arg("serve").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("foresail serve");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next_line().await.expect("text").expect("a line");
        let (_, api) = line.split_once("http://").expect("an address");
        Serve { child, api: api.parse().expect("an address"), _folder: folder }
    }

    /// As the API describes it; `None` while it does not know it.
    async fn service(&self, name: &str) -> Option<Value> {
        let path = format!("/v1/services/{name}");
        let (status, body) = fetch(self.api, &path).await.expect("the API answers");
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    async fn notes(&self) -> Vec<String> {
        let (_, body) = fetch(self.api, "/v1/services").await.expect("the API answers");
        let list = serde_json::from_str::<Value>(&body).expect("JSON");
        serde_json::from_value(list["notes"].clone()).expect("notes")
    }

    /// Waits for what an event of the engine brings about.
    async fn soon<T>(&self, what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
        let start = Instant::now();
        let answer = eventually_within(BY_EVENTS, what, ask).await;
        println!("{what} after {:?}", start.elapsed());
        answer
    }

    async fn stop(&mut self) {
        let id = self.child.id().expect("it runs");
        kill(Pid::from_raw(id as i32), Signal::SIGTERM).expect("SIGTERM");
        assert!(self.child.wait().await.expect("exit").success());
    }
}
