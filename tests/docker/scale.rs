//! I/O: many replicas: what is started and stopped leaves nothing behind.

use std::fs;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::ListVolumesOptions;
use chrono::Utc;
use foresail::config::DockerTarget;
use foresail::fleet::{Phase, Replica, ReplicaReport};
use foresail::io::actuator::Actuator;
use foresail::io::actuator::docker::DockerActuator;
use foresail::io::collector::MetricsSource;
use foresail::io::collector::docker::DockerSource;
use foresail::io::docker::Engine;
use foresail::io::docker::inventory::Inventory;
use foresail::planner::Decision;

use crate::bench::{Bench, eventually, with_engine};
use crate::gate::Gate;
use crate::serve::Serve;

/// Replicas that are started, and stopped again, in one go: a few first, which make what stays
/// (threads, buffers), then as many as a collection round is to bear.
const BATCHES: [usize; 2] = [8, 99];

/// What one process holds.
#[derive(Debug)]
struct Held {
    files: usize,
    threads: usize,
    resident_kib: usize,
}

fn held(process: u32) -> Held {
    let count =
        |what: &str| fs::read_dir(format!("/proc/{process}/{what}")).expect("it runs").count();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let resident_kib = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    Held { files: count("fd"), threads: count("task"), resident_kib }
}

/// Cheap: without a network, and ready as soon as it runs. Each has a volume of its own.
fn worker(bench: &Bench) -> ContainerCreateBody {
    ContainerCreateBody {
        exposed_ports: None,
        volumes: Some(vec!["/data".to_owned()]),
        host_config: Some(HostConfig {
            nano_cpus: Some(10_000_000),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..bench.worker()
    }
}

/// Names of the volumes of all clones.
async fn volumes_of_clones(bench: &Bench) -> Vec<String> {
    let mut names = Vec::new();
    for clone in bench.clones().await {
        let mounts = bench.inspect(&clone).await.mounts.unwrap_or_default();
        names.extend(mounts.into_iter().filter_map(|mount| mount.name));
    }
    names
}

async fn are_gone(bench: &Bench, volumes: &[String]) {
    let left = bench.docker.list_volumes(None::<ListVolumesOptions>).await.expect("volumes");
    for volume in left.volumes.unwrap_or_default() {
        assert!(!volumes.contains(&volume.name), "volume {} is left", volume.name);
    }
}

fn service(bench: &Bench, replicas: usize) -> String {
    let label = bench.target().label;
    format!(
        r#"
        target = {{ docker = {{ label = "{label}", stop_timeout = "1s" }} }}
        mode = "act"
        replicas = {{ min = 1, max = {replicas} }}
        evaluation_interval = "1s"
        sample_interval = "1s"
        balancer = {{ listen = "127.0.0.1:0", drain_timeout = "1s" }}
        "#
    )
}

/// `FORESAIL_TEST_REPLICAS` asks for more in all.
fn batches() -> Vec<usize> {
    let wanted = std::env::var("FORESAIL_TEST_REPLICAS").ok();
    let wanted = wanted.map_or(0, |text| text.parse::<usize>().expect("a number of replicas"));
    let more = wanted.saturating_sub(BATCHES.iter().sum()).div_ceil(BATCHES[1]);
    BATCHES.into_iter().chain(std::iter::repeat_n(BATCHES[1], more)).collect()
}

/// Replicas of the service, itself and `more`, ready and no others there.
async fn reach(bench: &Bench, serve: &Serve, more: usize) {
    let replicas = more as u32 + 1;
    serve.override_replicas(replicas).await;
    let is = |decision: &Decision| {
        (decision.ready_replicas, decision.current_replicas) == (replicas, replicas)
    };
    serve.decision(&format!("with {replicas} replicas"), Utc::now(), is).await;
    let exact = async || (bench.clones().await.len() == more).then_some(());
    eventually("as many containers", exact).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_replicas_are_read_at_once_and_leave_nothing_behind() {
    with_engine("many", async |bench| {
        bench.run("web", worker(bench)).await;
        let mut serve = Serve::start(&service(bench, BATCHES[1] + 1)).await;
        let (mut started, mut before) = (0, None);
        for batch in batches() {
            reach(bench, &serve, batch).await;
            let volumes = volumes_of_clones(bench).await;
            assert_eq!(volumes.len(), batch);
            if batch == BATCHES[1] {
                collection_round(bench, batch + 1).await;
            }
            reach(bench, &serve, 0).await;
            are_gone(bench, &volumes).await;
            started += batch;
            before.get_or_insert_with(|| held(serve.process()));
        }
        let (before, after) = (before.expect("a batch"), held(serve.process()));
        println!("{started} replicas: {before:?}, then {after:?}");
        // A leak would be one for each start or stop; calls in flight are a few.
        let slack = 10;
        assert!(after.files <= before.files + slack, "{before:?}, then {after:?}");
        assert!(after.threads <= before.threads + slack, "{before:?}, then {after:?}");
        // What an allocator does not give back, and decisions that are kept.
        let room = 64 * 1024;
        assert!(after.resident_kib <= before.resident_kib + room, "{before:?}, then {after:?}");
        serve.stop().await;
    })
    .await;
}

/// The best of several rounds is what a round needs; the others show what else the machine does.
async fn collection_round(bench: &Bench, replicas: usize) {
    let inventory = Inventory::follow(Engine::new(None).expect("an address"));
    let target = DockerTarget { port: None, ..bench.target() };
    let actuator = DockerActuator::on(inventory.clone(), "web", &target).expect("a target");
    let source = DockerSource::on(inventory);
    let mut known = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        let reports = actuator.list().await.expect("the engine answers");
        let readings = source.read(&known).await.expect("the engine answers");
        if !known.is_empty() {
            assert_eq!((reports.len(), readings.len()), (replicas, replicas));
            rounds.push(start.elapsed());
        }
        known = reports.iter().map(replica).collect();
    }
    rounds.sort();
    println!("{replicas} replicas: rounds of {rounds:?}");
    assert!(rounds[0] <= Duration::from_millis(300), "{rounds:?}");
}

fn replica(report: &ReplicaReport) -> Replica {
    let (since, created) = (Utc::now(), Utc::now());
    let (phase, address, in_flight, managed) = (Phase::Ready, None, 0, report.managed);
    Replica { id: report.id.clone(), phase, since, created, address, in_flight, managed }
}

/// From the order to start to the engine's being asked to make a container.
#[tokio::test]
async fn a_start_reaches_the_engine_soon() {
    with_engine("soon", async |bench| {
        bench.create("web", worker(bench)).await;
        let gate = Gate::open(|_| true);
        let target = DockerTarget { host: Some(gate.host()), port: None, ..bench.target() };
        let actuator = DockerActuator::connect(&bench.service, &target).expect("a target");
        let mut delays = Vec::new();
        for _ in 0..6 {
            // As a service does before each decision.
            actuator.list().await.expect("the engine answers");
            let ordered = Instant::now();
            actuator.start().await.expect("start");
            delays.push(gate.last("POST /containers/create").expect("asked") - ordered);
        }
        delays.sort();
        println!("from order to call: {delays:?}");
        assert!(delays[0] <= Duration::from_millis(50), "{delays:?}");
    })
    .await;
}
