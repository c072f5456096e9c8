//! I/O: what each test on the real engine starts from: the engine, an image, and names of its own.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, NetworkCreateRequest, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};
use chrono::Utc;
use foresail::config::DockerTarget;
use foresail::fleet::ReplicaReport;
use foresail::io::actuator::Actuator;
use foresail::io::actuator::docker::{CLONE_LABEL, DockerActuator};
use foresail::io::docker::LOCK_LABEL;
use foresail::series::Time;
use futures_util::{FutureExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::image;

/// On everything that a test makes, with the test's service as its value.
const TEST_LABEL: &str = "foresail.test";

/// The port that workers listen on.
pub const PORT: u16 = 8000;

/// Longest wait for anything that should happen soon, on a busy machine; reached only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The engine, and names that no other test uses.
pub struct Bench {
    pub docker: Docker,
    pub service: String,
    pub image: String,
}

/// Runs `test` on the real engine and removes all that it made. Without an engine the test is left
/// out, which is said; where `FORESAIL_TEST_DOCKER` is set it fails instead.
pub async fn with_engine(name: &str, test: impl AsyncFnOnce(&Bench)) {
    static IMAGE: OnceCell<String> = OnceCell::const_new();
    match engine().await {
        Ok(engine) => {
            let image = IMAGE.get_or_init(|| image::import(&engine)).await;
            with(engine, image, name, test).await;
        }
        Err(reason) => {
            let must = std::env::var_os("FORESAIL_TEST_DOCKER").is_some();
            assert!(!must, "FORESAIL_TEST_DOCKER is set, but {reason}");
            say_left_out(name, &format!("{reason} (./check sees to it)"));
        }
    }
}

pub fn say_left_out(name: &str, reason: &str) {
    // Not by `eprintln!`, which is captured while the test passes.
    writeln!(std::io::stderr(), "left out: {name}: {reason}").expect("standard error");
}

/// Runs `test` on `docker` and removes all that it made.
pub async fn with(docker: Docker, image: &str, name: &str, test: impl AsyncFnOnce(&Bench)) {
    let service = format!("foresail-test-{}-{name}", std::process::id());
    let bench = Bench { docker, service, image: image.to_owned() };
    let result = AssertUnwindSafe(test(&bench)).catch_unwind().await;
    bench.clear().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// The engine that `DOCKER_HOST` names, if it answers and can run this program.
async fn engine() -> Result<Docker, String> {
    if !cfg!(target_feature = "crt-static") {
        return Err("the program, alone in its image, is not linked statically".to_owned());
    }
    let answering = async {
        let engine = Docker::connect_with_defaults()?.with_timeout(PATIENCE);
        engine.ping().await?;
        Ok(engine)
    };
    answering.await.map_err(|error: bollard::errors::Error| format!("no engine answers: {error}"))
}

impl Bench {
    pub fn target(&self) -> DockerTarget {
        DockerTarget {
            label: format!("foresail.service={}", self.service),
            host: None,
            port: Some(PORT),
            stop_timeout: Duration::from_secs(10),
        }
    }

    pub fn actuator(&self) -> DockerActuator {
        DockerActuator::connect(&self.service, &self.target()).expect("a well-formed target")
    }

    /// A worker that is ready at once, see [`Bench::worker_with`].
    pub fn worker(&self) -> ContainerCreateBody {
        self.worker_with(&["--warm-up", "0s"])
    }

    /// A worker with options; half a core, published on 127.0.0.1 where Docker likes.
    pub fn worker_with(&self, options: &[&str]) -> ContainerCreateBody {
        let listen = format!("0.0.0.0:{PORT}");
        let command = ["worker", "--listen", &listen, "--cpu-limit", "0.5"];
        let command = command.iter().chain(options).map(|word| (*word).to_owned()).collect();
        let labels = [("foresail.service", &self.service), (TEST_LABEL, &self.service)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.clone()));
        ContainerCreateBody {
            image: Some(self.image.clone()),
            cmd: Some(command),
            labels: Some(labels.into()),
            exposed_ports: Some(vec![format!("{PORT}/tcp")]),
            host_config: Some(HostConfig {
                nano_cpus: Some(500_000_000),
                port_bindings: Some(publish("")),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Makes a container named `<service>-<name>` and gives its id.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> String {
        let name = format!("{}-{name}", self.service);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        self.docker.create_container(Some(options), body).await.expect("create").id
    }

    pub async fn run(&self, name: &str, body: ContainerCreateBody) -> String {
        let id = self.create(name, body).await;
        self.docker.start_container(&id, None::<StartContainerOptions>).await.expect("start");
        id
    }

    /// Makes a network named `<service>-<name>` and gives its name.
    pub async fn network(&self, name: &str) -> String {
        let name = format!("{}-{name}", self.service);
        let labels = HashMap::from([(TEST_LABEL.to_owned(), self.service.clone())]);
        let labels = Some(labels);
        let request =
            NetworkCreateRequest { name: name.clone(), labels, ..NetworkCreateRequest::default() };
        self.docker.create_network(request).await.expect("network");
        name
    }

    pub async fn inspect(&self, id: &str) -> ContainerInspectResponse {
        self.docker.inspect_container(id, None::<InspectContainerOptions>).await.expect("inspect")
    }

    pub async fn is_running(&self, id: &str) -> bool {
        self.inspect(id).await.state.and_then(|state| state.running) == Some(true)
    }

    /// Ids of all clones of this service, in any state.
    pub async fn clones(&self) -> Vec<String> {
        self.labelled(&[CLONE_LABEL, &format!("{TEST_LABEL}={}", self.service)]).await
    }

    /// Whether the engine has done `action` to a clone of this service since `since`.
    pub async fn clone_event(&self, action: &str, since: Time) -> Option<()> {
        let label = format!("{TEST_LABEL}={}", self.service);
        let filters =
            HashMap::from([("event", vec![action]), ("label", vec![CLONE_LABEL, label.as_str()])]);
        let options = EventsOptionsBuilder::new()
            .since(&since.timestamp().to_string())
            .until(&Utc::now().timestamp().to_string())
            .filters(&filters)
            .build();
        let events = self.docker.events(Some(options)).try_collect::<Vec<_>>();
        (!events.await.expect("events").is_empty()).then_some(())
    }

    pub async fn kill(&self, id: &str) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        // Two may remove it at once; what counts is that it is gone, which the tests look at.
        let _ = self.docker.remove_container(id, Some(options)).await;
    }

    /// Ids of all containers with these labels, in any state.
    pub async fn labelled(&self, labels: &[&str]) -> Vec<String> {
        let filters = HashMap::from([("label", labels.to_vec())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await.expect("list");
        found.into_iter().filter_map(|container| container.id).collect()
    }

    async fn clear(&self) {
        let label = format!("{TEST_LABEL}={}", self.service);
        // A Foresail that was killed leaves its lock.
        let lock = format!("{LOCK_LABEL}={}", self.target().label);
        for label in [label.as_str(), &lock] {
            for id in self.labelled(&[label]).await {
                self.kill(&id).await;
            }
        }
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in self.docker.list_networks(Some(options)).await.expect("networks") {
            let name = network.name.expect("a network has a name");
            self.docker.remove_network(&name).await.expect("remove network");
        }
    }
}

/// Publishes the worker's port on 127.0.0.1; Docker chooses an empty `host_port`.
pub fn publish(host_port: &str) -> HashMap<String, Option<Vec<PortBinding>>> {
    let host_ip = Some("127.0.0.1".to_owned());
    let binding = PortBinding { host_ip, host_port: Some(host_port.to_owned()) };
    HashMap::from([(format!("{PORT}/tcp"), Some(vec![binding]))])
}

/// The report of one replica, if it is listed.
pub async fn report(actuator: &DockerActuator, id: &str) -> Option<ReplicaReport> {
    let reports = actuator.list().await.expect("the engine answers");
    reports.into_iter().find(|report| report.id == id)
}

/// Waits until a replica is ready and gives its address.
pub async fn ready(actuator: &DockerActuator, id: &str) -> SocketAddr {
    let is_ready = async || report(actuator, id).await.filter(|report| report.ready);
    eventually("the replica is ready", is_ready).await.address.expect("a ready one has an address")
}

/// Asks until there is an answer, for at most [`PATIENCE`].
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, ask).await
}

pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within {patience:?}: {what}");
}

/// Status of the answer to `GET path`.
pub async fn get(address: SocketAddr, path: &'static str) -> std::io::Result<u16> {
    fetch(address, path).await.map(|(status, _)| status)
}

/// Status and body of the answer to `GET path`.
pub async fn fetch(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    send(address, "GET", path, "").await
}

/// Status and body of the answer to a request with a JSON `body`.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // A container that is gone does not even close its connections.
    let answer = tokio::time::timeout(PATIENCE, exchange(address, &request)).await??;
    let malformed = || std::io::Error::other(format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(malformed)?, body.to_owned()))
}

async fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
