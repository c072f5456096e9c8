//! I/O: the Compose target beside the real `docker-compose`: each must take the other's replicas
//! for its own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use foresail::config::ComposeTarget;
use foresail::io::actuator::docker::{CLONE_LABEL, DockerActuator};
use foresail::io::actuator::{Actuator, ActuatorError};
use foresail::io::docker::Engine;
use foresail::io::docker::inventory::Inventory;
use foresail::planner::Decision;
use foresail::series::Time;

use crate::bench::{Bench, PORT, eventually, get, ready, report, say_left_out, with_engine};
use crate::refusal;
use crate::serve::Serve;

const NUMBER: &str = "com.docker.compose.container-number";
const CONFIG_HASH: &str = "com.docker.compose.config-hash";

/// A Compose project of the test's own.
pub struct Project<'b> {
    pub bench: &'b Bench,
    pub folder: tempfile::TempDir,
}

/// Runs `test` with a project; as [`with_engine`] where there is no `docker-compose`.
pub async fn with_project(name: &str, test: impl AsyncFnOnce(&Project)) {
    if Command::new("docker-compose").arg("version").output().is_err() {
        let must = std::env::var_os("FORESAIL_TEST_DOCKER").is_some();
        assert!(!must, "FORESAIL_TEST_DOCKER is set, but docker-compose is not installed");
        return say_left_out(name, "docker-compose is not installed (./check sees to it)");
    }
    with_engine(name, async |bench| {
        let folder = tempfile::tempdir().expect("temporary folder");
        test(&Project { bench, folder }).await;
    })
    .await;
}

impl Drop for Project<'_> {
    /// Also after a failure. What Compose does not know [`Bench::clear`] will find.
    fn drop(&mut self) {
        let down = ["down", "--volumes", "--remove-orphans", "--timeout", "1"];
        let _ = self.command(&down).output();
    }
}

impl Project<'_> {
    /// Writes the Compose file: the service `web` with these lines, and what all have.
    fn write(&self, lines: &str) {
        let Bench { service: test, image, .. } = self.bench;
        let listen = format!("0.0.0.0:{PORT}");
        let text = format!(
            r#"
services:
  web:
    image: {image}
    command: ["worker", "--listen", "{listen}", "--warm-up", "0s", "--cpu-limit", "0.5"]
    cpus: 0.5
    stop_grace_period: 5s
    labels: {{ test.foresail: "{test}" }}
{lines}
networks:
  default: {{ labels: {{ test.foresail: "{test}" }} }}
"#
        );
        std::fs::write(self.file(), text).expect("write the Compose file");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("docker-compose.yml")
    }

    /// Runs `docker-compose`; gives what it says.
    pub fn compose(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("docker-compose runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let errors = text(&output.stderr);
        assert!(output.status.success(), "docker-compose {arguments:?}: {errors}");
        text(&output.stdout)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command.arg("--file").arg(self.file()).args(["--project-name", &self.bench.service]);
        // Its own way to build needs neither another program nor the network.
        command.args(arguments).env("COMPOSE_DOCKER_CLI_BUILD", "0");
        command
    }

    /// Ids of the replicas that `docker-compose` lists.
    pub fn listed(&self) -> BTreeSet<String> {
        self.compose(&["ps", "--quiet", "web"]).lines().map(str::to_owned).collect()
    }

    fn target(&self) -> ComposeTarget {
        ComposeTarget {
            project: self.bench.service.clone(),
            service: "web".to_owned(),
            host: None,
            port: Some(PORT),
            stop_timeout: Some(Duration::from_secs(10)),
        }
    }

    fn actuator(&self) -> DockerActuator {
        let engine = Engine::new(None).expect("as of the other tests");
        DockerActuator::compose(Inventory::follow(engine), &self.target())
    }
}

/// Ids of the replicas that Foresail sees.
async fn seen(actuator: &DockerActuator) -> BTreeSet<String> {
    let reports = actuator.list().await.expect("the engine answers").into_iter();
    reports.filter(|report| !report.exited).map(|report| report.id).collect()
}

fn label(container: &ContainerInspectResponse, key: &str) -> Option<String> {
    container.config.as_ref()?.labels.as_ref()?.get(key).cloned()
}

fn environment(container: &ContainerInspectResponse) -> Vec<String> {
    container.config.clone().and_then(|config| config.env).unwrap_or_default()
}

/// Name or path of what is mounted at `path`.
fn mounted(container: &ContainerInspectResponse, path: &str) -> String {
    let mounts = container.mounts.iter().flatten();
    let mut mounts = mounts.filter(|mount| mount.destination.as_deref() == Some(path));
    let mount = mounts.next().unwrap_or_else(|| panic!("{path} is not mounted"));
    mount.name.clone().or(mount.source.clone()).expect("a name or a path")
}

const RICH: &str = r#"
    ports: ["127.0.0.1::8000"]
    volumes: ["/anonymous", "named:/named"]
    environment: { COLOUR: blue }
    restart: unless-stopped
    mem_limit: 512m
    networks: { default: { aliases: [shop] }, back: {} }
    secrets: [password]
secrets:
  password: { file: ./password }
volumes:
  named: {}
"#;

/// [`Project::write`] ends with the networks, so that these lines can add one.
const BACK: &str = r#"  back: { labels: { test.foresail: "TEST" } }"#;

#[tokio::test]
async fn compose_takes_new_replicas_for_its_own() {
    with_project("compose", async |project| {
        let bench = project.bench;
        project.write(RICH);
        let back = BACK.replace("TEST", &bench.service);
        let text = std::fs::read_to_string(project.file()).expect("as just written") + &back;
        std::fs::write(project.file(), text).expect("write the Compose file");
        std::fs::write(project.folder.path().join("password"), "x").expect("write a secret");
        project.compose(&["up", "--detach"]);
        let actuator = project.actuator();
        let template = seen(&actuator).await.pop_first().expect("the first replica");

        // At the same time, as when a peak comes.
        let (one, two) = tokio::join!(actuator.start(), actuator.start());
        let clones = [one.expect("start"), two.expect("start")];
        let all = BTreeSet::from([&template, &clones[0], &clones[1]].map(Clone::clone));
        let mut numbers = BTreeSet::new();
        for clone in &clones {
            let address = ready(&actuator, clone).await;
            assert_eq!(get(address, "/healthz").await.expect("answer"), 200);
            numbers.insert(label(&bench.inspect(clone).await, NUMBER).expect("a number"));
        }
        assert_eq!(numbers, BTreeSet::from(["2", "3"].map(str::to_owned)));
        is_like_its_template(bench, &template, &clones[0]).await;

        assert_eq!(project.listed(), all);
        let names = [1, 2, 3].map(|number| format!("{}_web_{number}", bench.service));
        let table = project.compose(&["ps"]);
        assert!(names.iter().all(|name| table.contains(name)), "{table}");
        let logs = project.compose(&["logs", "--no-color"]);
        // A worker says nothing; whose logs they are is said above them.
        assert!(names.iter().all(|name| logs.contains(name)), "{logs}");

        project.compose(&["up", "--detach", "--scale", "web=3"]);
        assert_eq!(project.listed(), all, "nothing is made again");
        project.compose(&["up", "--detach", "--scale", "web=4"]);
        let four = seen(&actuator).await;
        assert_eq!((four.len(), four == project.listed()), (4, true));
        // Compose removes the highest numbers, clones or not.
        project.compose(&["up", "--detach", "--scale", "web=2", "--timeout", "5"]);
        let two = seen(&actuator).await;
        assert_eq!((two.len(), &two), (2, &project.listed()));
        assert!(two.contains(&template) && two.is_subset(&all), "{two:?}");

        // The user's own goes like any other; the last one is what the next are made from.
        actuator.stop(&template).await.expect("stop");
        let left = two.difference(&BTreeSet::from([template])).next().cloned().expect("a clone");
        assert_eq!(project.listed(), BTreeSet::from([left.clone()]));
        actuator.stop(&left).await.expect("stop");
        assert!(!bench.is_running(&left).await, "stopped, but not removed");
        let again = actuator.start().await.expect("start");
        ready(&actuator, &again).await;
        assert_eq!(actuator.notes(), [""; 0]);

        project.compose(&["down", "--volumes", "--timeout", "5"]);
        assert_eq!(seen(&actuator).await, BTreeSet::new());
        assert_eq!(bench.clones().await, [""; 0]);
        let nothing = refusal(&actuator).await;
        assert!(nothing.contains("`docker-compose up -d web` makes one"), "{nothing}");
    })
    .await;
}

/// All that a user wrote in the Compose file, and only what must be its own is not the same.
async fn is_like_its_template(bench: &Bench, template: &str, clone: &str) {
    let (before, after) = (bench.inspect(template).await, bench.inspect(clone).await);
    let networks = |of: &ContainerInspectResponse| {
        let settings = of.network_settings.clone().expect("settings");
        let networks = settings.networks.expect("networks").into_iter();
        let mut networks = networks
            .map(|(name, endpoint)| {
                let aliases = endpoint.aliases.unwrap_or_default().into_iter();
                (name, aliases.collect::<BTreeSet<_>>())
            })
            .collect::<Vec<_>>();
        networks.sort();
        networks
    };
    let mut expected = networks(&before);
    assert_eq!(expected.len(), 2, "{expected:?}");
    for (_, aliases) in &mut expected {
        assert!(aliases.remove(&template[..12]), "{aliases:?}");
        aliases.insert(clone[..12].to_owned());
    }
    assert_eq!(networks(&after), expected);

    assert_eq!(after.host_config, before.host_config);
    for path in ["/named", "/run/secrets/password"] {
        assert_eq!(mounted(&after, path), mounted(&before, path));
    }
    assert_ne!(mounted(&after, "/anonymous"), mounted(&before, "/anonymous"));

    let (mut before, mut after) = (before.config.expect("config"), after.config.expect("config"));
    assert_ne!(after.hostname.take(), before.hostname.take());
    let labels = after.labels.as_mut().expect("labels");
    assert_eq!(labels.remove(CLONE_LABEL).as_deref(), Some(template));
    assert_ne!(labels.remove(NUMBER), before.labels.as_mut().expect("labels").remove(NUMBER));
    // The engine keeps the paths in no order.
    for config in [&mut before, &mut after] {
        config.volumes.as_mut().expect("two volumes").sort();
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_redeploy_is_followed_and_not_fought() {
    with_project("redeploy", async |project| {
        let bench = project.bench;
        let colour = |colour| {
            format!("    environment: {{ COLOUR: {colour} }}\n    volumes: [/anonymous]\n")
        };
        project.write(&colour("blue"));
        project.compose(&["up", "--detach"]);
        let actuator = project.actuator();
        actuator.start().await.expect("start");
        let blue = seen(&actuator).await;

        project.write(&colour("green"));
        project.compose(&["up", "--detach", "--scale", "web=2", "--timeout", "5"]);
        let green = seen(&actuator).await;
        assert_eq!((green.len(), green.is_disjoint(&blue)), (2, true), "both were made again");
        assert_eq!(actuator.notes(), [""; 0]);
        let clone = actuator.start().await.expect("start");
        let (first, made) = (green.first().expect("two"), bench.inspect(&clone).await);
        let first = bench.inspect(first).await;
        assert!(environment(&made).contains(&"COLOUR=green".to_owned()), "{made:?}");
        assert_eq!(label(&made, CONFIG_HASH), label(&first, CONFIG_HASH));
        // Compose has handed the first one's volume on, and it must not be shared.
        assert_ne!(mounted(&made, "/anonymous"), mounted(&first, "/anonymous"));

        // One of the old configuration is left, as when its start and the redeploy crossed.
        let mut labels = made.config.clone().and_then(|config| config.labels).expect("labels");
        labels.insert(CONFIG_HASH.to_owned(), "0".repeat(64));
        labels.insert(NUMBER.to_owned(), "9".to_owned());
        let old = ContainerCreateBody { labels: Some(labels), ..bench.worker() };
        let old = bench.run("old", old).await;
        actuator.list().await.expect("list");
        let notes = actuator.notes();
        assert!(notes.iter().any(|note| note.contains("redeployed")), "{notes:?}");
        // Unless this machine is so slow that the redeploy has settled already.
        if let Err(error) = actuator.start().await {
            let ActuatorError::Unavailable(reason) = &error else { panic!("{error:?}") };
            assert!(reason.contains("is being redeployed"), "{reason}");
        }
        let settled = async || report(&actuator, &old).await.filter(|it| it.outdated);
        eventually("the redeploy has settled", settled).await;
        assert!(!report(&actuator, &clone).await.expect("listed").outdated);
        let made = bench.inspect(&actuator.start().await.expect("start")).await;
        assert!(environment(&made).contains(&"COLOUR=green".to_owned()), "{made:?}");
        actuator.stop(&old).await.expect("stop");
        assert_eq!(report(&actuator, &old).await, None);
        assert_eq!(actuator.notes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_compose_cannot_scale_is_said_and_one_off_containers_are_ignored() {
    with_project("cannot", async |project| {
        let actuator = project.actuator();
        let check = async |lines: &str, words: &str| {
            project.write(lines);
            // Only created: the host port may be taken on this machine.
            project.compose(&["up", "--no-start"]);
            let reason = refusal(&actuator).await;
            assert!(reason.contains(words), "{reason}");
            actuator.list().await.expect("list");
            assert_eq!(actuator.notes(), [reason]);
        };
        check("    ports: [\"8080:8000\"]", "`ports: [\"127.0.0.1::8000\"]`").await;
        let named =
            format!("    expose: [8000]\n    container_name: {}-own", project.bench.service);
        check(&named, "take `container_name` out of the Compose file").await;
        project.compose(&["rm", "--force", "--stop"]);

        project.write("    expose: [8000]");
        project.compose(&["run", "--detach", "web"]);
        assert_eq!(seen(&actuator).await, BTreeSet::new());
        let nothing = refusal(&actuator).await;
        assert!(nothing.contains("has no container"), "{nothing}");
        let made = project.bench.made().await;
        let [one_off] = &made[..] else { panic!("not one container: {made:?}") };
        let error = actuator.stop(one_off).await.expect_err("foreign");
        assert!(matches!(&error, ActuatorError::Refused(m) if m.contains("left alone")), "{error}");
        assert!(project.bench.is_running(one_off).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_scales_a_running_project_up_and_down() {
    with_project("compose-serve", async |project| {
        project.write("    expose: [8000]");
        project.compose(&["up", "--detach"]);
        for replicas in [3, 1] {
            let mut serve = Serve::start(&configuration(project, replicas)).await;
            let count = replicas as u32;
            let ready = |it: &Decision| (it.ready_replicas, it.current_replicas) == (count, count);
            let decision = serve.decision("with all of them ready", Time::MIN_UTC, ready).await;
            assert_eq!(decision.notes, [""; 0]);
            let all = async || (project.listed().len() == replicas).then_some(());
            eventually("Compose lists as many", all).await;
            let answered = async || get(serve.balancer, "/work").await.ok().filter(|it| *it == 200);
            eventually("requests are answered", answered).await;
            serve.stop().await;
        }
    })
    .await;
}

fn configuration(project: &Project, replicas: usize) -> String {
    let name = &project.bench.service;
    format!(
        r#"
        target = {{ compose = {{ project = "{name}", service = "web", port = {PORT} }} }}
        mode = "act"
        policy = "static"
        static_replicas = {replicas}
        behavior = {{ stabilization_window = "0s" }}
        evaluation_interval = "500ms"
        sample_interval = "500ms"
        balancer = {{ listen = "127.0.0.1:0" }}
        "#
    )
}
