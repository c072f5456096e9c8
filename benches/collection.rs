//! I/O: one collection round (what replicas there are, and what they use) on a real engine, by the
//! kernel's files and by the engine's stats API: its time, and what it costs Foresail and the engine.
//!
//! `DOCKER_HOST=… cargo bench --bench collection` as root, or as somebody who may use the engine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../tests/docker/image.rs"]
mod image;

use std::fs;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use chrono::Utc;
use foresail::config::DockerTarget;
use foresail::fleet::{Phase, Replica, ReplicaReport};
use foresail::io::actuator::Actuator;
use foresail::io::actuator::docker::DockerActuator;
use foresail::io::collector::MetricsSource;
use foresail::io::collector::docker::DockerSource;
use foresail::io::docker::Engine;
use foresail::io::docker::inventory::Inventory;

const LABEL: &str = "foresail.bench=collection";
const CONTAINERS: [usize; 3] = [10, 50, 100];
/// One a second.
const ROUNDS: usize = 20;

#[tokio::main]
async fn main() {
    let docker = Docker::connect_with_defaults().expect("DOCKER_HOST is an engine");
    if std::env::args().any(|it| it == "--test") || docker.ping().await.is_err() {
        return println!("left out: no engine answers at DOCKER_HOST, or this is `cargo test`");
    }
    let image = image::import(&docker).await;
    println!("| replicas | by | round p50 | p99 | Foresail | engine | engine idle |");
    println!("|---|---|---|---|---|---|---|");
    let mut ids = Vec::new();
    for count in CONTAINERS {
        while ids.len() < count {
            ids.push(run(&docker, &image).await);
        }
        let processes = engine_processes();
        let idle = engine_idle(&processes).await;
        for files in [true, false] {
            let row = measure(count, files, &processes).await;
            println!("{row} {idle:.1} % |");
        }
    }
    for id in ids {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        docker.remove_container(&id, Some(options)).await.expect("remove");
    }
}

/// A worker that waits, ready as soon as it runs.
async fn run(docker: &Docker, image: &str) -> String {
    let (key, value) = LABEL.split_once('=').expect("a label");
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(["worker", "--listen", "127.0.0.1:8000"].map(str::to_owned).to_vec()),
        labels: Some([(key.to_owned(), value.to_owned())].into()),
        host_config: Some(HostConfig {
            nano_cpus: Some(100_000_000),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let id =
        docker.create_container(None::<CreateContainerOptions>, body).await.expect("create").id;
    docker.start_container(&id, None::<StartContainerOptions>).await.expect("start");
    id
}

/// Runs one round a second, as a service does; the first two are not counted.
async fn measure(count: usize, files: bool, engine: &[u32]) -> String {
    let target = DockerTarget {
        label: LABEL.to_owned(),
        host: None,
        port: None,
        stop_timeout: Some(Duration::from_secs(1)),
    };
    let inventory = Inventory::follow(Engine::new(None).expect("an address"));
    let actuator = DockerActuator::on(inventory.clone(), "bench", &target).expect("a target");
    let source = DockerSource::on(inventory);
    let source = if files { source } else { source.without_files() };
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut rounds = Vec::new();
    let (mut from, mut own, mut theirs) = (Instant::now(), 0.0, 0.0);
    let mut known = Vec::new();
    for round in 0..ROUNDS + 3 {
        ticks.tick().await;
        if round == 3 {
            (from, own, theirs) =
                (Instant::now(), cpu_seconds(&[std::process::id()]), cpu_seconds(engine));
        }
        let start = Instant::now();
        let reports = actuator.list().await.expect("the engine answers");
        let readings = source.read(&known).await.expect("the engine answers");
        if round >= 3 {
            rounds.push(start.elapsed());
            assert_eq!((reports.len(), readings.len()), (count, count));
        }
        known = reports.iter().map(replica).collect();
    }
    ticks.tick().await;
    let share = |now: f64, before: f64| 100.0 * (now - before) / from.elapsed().as_secs_f64();
    let own = share(cpu_seconds(&[std::process::id()]), own);
    let theirs = share(cpu_seconds(engine), theirs);
    rounds.sort();
    let ms = |quantile: f64| {
        rounds[((rounds.len() - 1) as f64 * quantile).round() as usize].as_secs_f64() * 1e3
    };
    let by = if files { "files" } else { "streams" };
    format!(
        "| {count} | {by} | {:.0} ms | {:.0} ms | {own:.1} % | {theirs:.1} % |",
        ms(0.5),
        ms(0.99)
    )
}

fn replica(report: &ReplicaReport) -> Replica {
    let (since, created) = (Utc::now(), Utc::now());
    let (phase, address, in_flight) = (Phase::Ready, None, 0);
    let (managed, outdated) = (false, false);
    Replica { id: report.id.clone(), phase, since, created, address, in_flight, managed, outdated }
}

/// What the engine uses while nobody asks it, in per cent of a core.
async fn engine_idle(engine: &[u32]) -> f64 {
    let (from, before) = (Instant::now(), cpu_seconds(engine));
    tokio::time::sleep(Duration::from_secs(5)).await;
    100.0 * (cpu_seconds(engine) - before) / from.elapsed().as_secs_f64()
}

/// The engine, its containerd, and what that keeps beside each container: all whose command names
/// the folder of the socket, or all there are for an engine of the system.
fn engine_processes() -> Vec<u32> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.trim_start_matches("unix://");
    let folder = socket.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = if folder.ends_with("/run") { "" } else { folder };
    let all = fs::read_dir("/proc").expect("processes").filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let command = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        let program = command.split('\0').next()?.rsplit('/').next()?;
        let engine = program == "dockerd" || program.starts_with("containerd");
        (engine && command.contains(folder)).then_some(id)
    });
    all.collect()
}

/// User and system time of processes.
fn cpu_seconds(processes: &[u32]) -> f64 {
    let of = |process: &u32| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The fields after the name, which may hold anything; the first is the state.
        let fields = text.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(ticks as f64 / 100.0)
    };
    processes.iter().filter_map(of).sum()
}
