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

use crate::harness::*;

const CHANGES: u32 = 1000;
const MOST: usize = 6;
const CLIENTS: usize = 8;

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

/// Replaces the replicas, by id.
fn publish(world: &World, replicas: &BTreeMap<String, SocketAddr>, leaving: Option<&String>) {
    let target = |(id, address): (&String, &SocketAddr)| Target {
        ready: Some(id) != leaving,
        ..Target::new(id.clone(), *address)
    };
    let before = world.snapshots.borrow().clone();
    let targets = replicas.iter().map(target).collect();
    let snapshot = Snapshot::new(Algorithm::LeastRequest, targets, Some(&before));
    world.snapshots.send_replace(Arc::new(snapshot));
}

async fn start(
    world: &World,
    actuator: &ProcessActuator,
    replicas: &mut BTreeMap<String, SocketAddr>,
) {
    let id = actuator.start().await.expect("the worker starts");
    let address = within(async {
        loop {
            let reports = actuator.list().await.expect("the list of workers");
            let ready = reports.into_iter().find(|report| report.id == id && report.ready);
            match ready.and_then(|report| report.address) {
                Some(address) => return address,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    replicas.insert(id.clone(), address.await);
    publish(world, replicas, None);
}

async fn stop(
    world: &World,
    actuator: &ProcessActuator,
    replicas: &mut BTreeMap<String, SocketAddr>,
    random: u64,
) {
    let index = random as usize % replicas.len();
    let leaving = replicas.keys().nth(index).expect("a replica").clone();
    publish(world, replicas, Some(&leaving));
    let counters = {
        let snapshot = world.snapshots.borrow();
        let target = snapshot.targets().iter().find(|target| target.id == leaving);
        Arc::clone(&target.expect("the leaving one").counters)
    };
    until(|| counters.in_flight.load(Ordering::Acquire) == 0).await;
    assert_eq!(counters.failures.load(Ordering::Acquire), 0, "at {leaving}");
    actuator.stop(&leaving).await.expect("the worker stops");
    replicas.remove(&leaving);
    publish(world, replicas, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_over_a_thousand_changes() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = option_env!("SEED").map_or(clock.as_nanos() as u64, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let actuator = workers();
    let settings = config::Balancer { algorithm: Algorithm::LeastRequest, ..settings() };
    let world = Arc::new(World::new(settings, &[]).await);
    let mut replicas = BTreeMap::new();
    start(&world, &actuator, &mut replicas).await;

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
    for _ in 0..CHANGES {
        random = mix(random.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let up = random & 1 == 0;
        if replicas.len() == 1 || (up && replicas.len() < MOST) {
            start(&world, &actuator, &mut replicas).await;
        } else {
            stop(&world, &actuator, &mut replicas, random >> 1).await;
        }
    }
    over.store(true, Ordering::Release);
    for client in clients {
        client.await.expect("every answer is as it should be");
    }
    actuator.shutdown(PATIENCE).await;
    let offered = Arc::clone(world.snapshots.borrow().offered());
    let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
    let answered = count(&answered);
    println!("{answered} requests over {CHANGES} changes");
    assert_eq!(count(&offered.arrived), answered);
    assert_eq!((count(&offered.refused), count(&offered.retried)), (0, 0));
    assert!(answered > u64::from(CHANGES));
}
