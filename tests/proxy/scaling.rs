//! I/O: a thousand random starts and stops of real workers under load, and not one failed request.
//!
//! The load is POST alone, which is never sent twice, so no retry can hide a failure. A worker
//! leaves as the fleet lets it leave: out of the snapshot's ready ones first, stopped once nothing
//! is in flight there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foresail::balancer::{Algorithm, Snapshot, Target, mix};
use foresail::config::{self, ProcessTarget};
use foresail::io::actuator::{Actuator, process::ProcessActuator};
use futures_util::future::join_all;

use crate::harness::*;

const CHANGES: u64 = 1000;
const MOST: usize = 8;
const CLIENTS: usize = 8;

type Replicas = BTreeMap<String, SocketAddr>;

fn workers() -> ProcessActuator {
    let words = "worker --port {port} --parent --warm-up 1ms --cpu-limit 1 --cost 100us";
    let program = env!("CARGO_BIN_EXE_foresail");
    let command = [program].into_iter().chain(words.split_whitespace()).map(str::to_owned);
    ProcessActuator::new(
        "scaling",
        &ProcessTarget {
            command: command.collect(),
            env: BTreeMap::new(),
            cpu_limit: None,
            ready_path: Some("/healthz".to_owned()),
            stop_timeout: Duration::from_secs(10),
        },
    )
}

/// Replaces the replicas, by id; those that leave are not ready.
fn publish(world: &World, replicas: &Replicas, leaving: &[String]) {
    let target = |(id, address): (&String, &SocketAddr)| Target {
        ready: !leaving.contains(id),
        ..Target::new(id.clone(), *address)
    };
    let before = world.snapshots.borrow().clone();
    let targets = replicas.iter().map(target).collect();
    let snapshot = Snapshot::new(Algorithm::LeastRequest, targets, Some(&before));
    world.snapshots.send_replace(Arc::new(snapshot));
}

async fn start(world: &World, actuator: &ProcessActuator, replicas: &mut Replicas, count: usize) {
    let start = async || {
        let id = actuator.start().await.expect("the worker starts");
        loop {
            let reports = actuator.list().await.expect("the list of workers");
            let ready = reports.into_iter().find(|report| report.id == id && report.ready);
            match ready.and_then(|report| report.address) {
                Some(address) => return (id, address),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    replicas.extend(within(join_all((0..count).map(|_| start()))).await);
    publish(world, replicas, &[]);
}

async fn stop(world: &World, actuator: &ProcessActuator, replicas: &mut Replicas, ids: &[String]) {
    publish(world, replicas, ids);
    let stop = async |id: &String| {
        let counters = {
            let snapshot = world.snapshots.borrow();
            let target = snapshot.targets().iter().find(|target| target.id == *id);
            Arc::clone(&target.expect("the leaving one").counters)
        };
        until(|| counters.in_flight.load(Ordering::Acquire) == 0).await;
        assert_eq!(counters.failures.load(Ordering::Acquire), 0, "at {id}");
        actuator.stop(id).await.expect("the worker stops");
    };
    join_all(ids.iter().map(stop)).await;
    replicas.retain(|id, _| !ids.contains(id));
    publish(world, replicas, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_over_a_thousand_changes() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed: u64 = given.unwrap_or(clock.as_nanos() as u64);
    println!("SEED={seed}");
    let actuator = workers();
    let settings = config::Balancer { algorithm: Algorithm::LeastRequest, ..settings() };
    let world = Arc::new(World::new(settings, &[]).await);
    let mut replicas = BTreeMap::new();
    start(&world, &actuator, &mut replicas, 1).await;

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = |number: usize| {
        let (world, over, answered) =
            (Arc::clone(&world), Arc::clone(&over), Arc::clone(&answered));
        tokio::spawn(async move {
            let client = client();
            while !over.load(Ordering::Acquire) {
                let uri = format!("http://{}/work?client={number}", world.address);
                let request = hyper::Request::post(uri).body("body".into()).unwrap();
                let (status, body) = send(&client, request).await;
                assert!(status == 200 && !body.is_empty(), "seed {seed}: {status} {body}");
                answered.fetch_add(1, Ordering::AcqRel);
            }
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(load).collect();
    let mut random = seed;
    let mut changes = 0;
    while changes < CHANGES {
        random = mix(random.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let (now, some) = (replicas.len(), 1 + (random >> 1) as usize % 4);
        let up = now == 1 || (random & 1 == 0 && now < MOST);
        let count = if up { some.min(MOST - now) } else { some.min(now - 1) };
        if up {
            start(&world, &actuator, &mut replicas, count).await;
        } else {
            let first = (random >> 8) as usize % now;
            let ids = replicas.keys().cycle().skip(first).take(count).cloned();
            let ids: Vec<String> = ids.collect();
            stop(&world, &actuator, &mut replicas, &ids).await;
        }
        changes += count as u64;
    }
    over.store(true, Ordering::Release);
    for client in clients {
        client.await.expect("every answer is as it should be");
    }
    actuator.shutdown(PATIENCE).await;
    let offered = Arc::clone(world.snapshots.borrow().offered());
    let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
    let answered = count(&answered);
    println!("{answered} requests over {changes} changes");
    assert_eq!(count(&offered.arrived), answered);
    assert_eq!((count(&offered.refused), count(&offered.retried)), (0, 0));
    assert!(answered > CHANGES);
}
