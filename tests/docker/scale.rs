//! I/O: many replicas: what is started and stopped leaves nothing behind.

use std::fs;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::ListVolumesOptions;
use chrono::Utc;
use foresail::planner::Decision;

use crate::bench::{Bench, eventually, with_engine};
use crate::serve::Serve;

/// Replicas that are started and stopped again at once.
const BATCH: usize = 10;

/// How many in all; `FORESAIL_TEST_REPLICAS` asks for more.
const REPLICAS: usize = 30;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_starts_and_stops_leave_nothing_behind() {
    with_engine("many", async |bench| {
        let wanted = std::env::var("FORESAIL_TEST_REPLICAS").ok();
        let wanted = wanted.map_or(REPLICAS, |text| text.parse().expect("a number of replicas"));
        bench.run("web", worker(bench)).await;
        let label = bench.target().label;
        let mut serve = Serve::start(&format!(
            r#"
            target = {{ docker = {{ label = "{label}", stop_timeout = "1s" }} }}
            mode = "act"
            replicas = {{ min = 1, max = {} }}
            evaluation_interval = "500ms"
            sample_interval = "500ms"
            balancer = {{ listen = "127.0.0.1:0", drain_timeout = "1s" }}
            "#,
            BATCH + 1
        ))
        .await;
        let reach = async |replicas: usize| {
            serve.override_replicas(replicas as u32).await;
            let is = |decision: &Decision| {
                decision.ready_replicas as usize == replicas
                    && decision.current_replicas as usize == replicas
            };
            serve.decision(&format!("with {replicas} replicas"), Utc::now(), is).await;
            let exact = async || (bench.clones().await.len() == replicas - 1).then_some(());
            eventually("as many containers", exact).await;
        };
        // The first batch makes what stays: threads, buffers, connections that are kept.
        let mut started = 0;
        let mut before = None;
        while started < wanted {
            reach(BATCH + 1).await;
            let volumes = volumes_of_clones(bench).await;
            assert_eq!(volumes.len(), BATCH);
            reach(1).await;
            are_gone(bench, &volumes).await;
            started += BATCH;
            before.get_or_insert_with(|| held(serve.process()));
        }
        let (before, after) = (before.expect("a batch"), held(serve.process()));
        println!("{started} replicas: {before:?}, then {after:?}");
        // A leak would be one for each start or stop; calls in flight are a few.
        let slack = BATCH / 2;
        assert!(after.files <= before.files + slack, "{before:?}, then {after:?}");
        assert!(after.threads <= before.threads + slack, "{before:?}, then {after:?}");
        // 64 KiB for each replica, beside what an allocator does not give back.
        let room = 16 * 1024 + 64 * started;
        assert!(after.resident_kib <= before.resident_kib + room, "{before:?}, then {after:?}");
        serve.stop().await;
    })
    .await;
}
