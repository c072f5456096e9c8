//! Pure: how long one choice takes, by algorithm and number of replicas.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use foresail::balancer::{Algorithm, Key, Snapshot, Target, mix};

fn snapshot(algorithm: Algorithm, replicas: u16) -> Snapshot {
    let target = |number: u16| Target {
        // As long as a container's id.
        id: format!("{number:064x}"),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + number)),
        weight: 1.0,
        ready: true,
        counters: Arc::default(),
    };
    Snapshot::new(algorithm, (0..replicas).map(target).collect(), None)
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for (name, algorithm) in [
        ("round_robin", Algorithm::RoundRobin),
        ("weighted_round_robin", Algorithm::WeightedRoundRobin),
        ("least_request", Algorithm::LeastRequest),
        ("ip_hash", Algorithm::IpHash),
        ("random", Algorithm::Random),
    ] {
        for replicas in [4, 20, 100] {
            let snapshot = snapshot(algorithm, replicas);
            let mut number = 0_u32;
            group.bench_function(BenchmarkId::new(name, replicas), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_add(1);
                    let client = Some(IpAddr::V4(Ipv4Addr::from(number)));
                    let picked = snapshot.pick(Key { client }, mix(u64::from(number)));
                    black_box(picked.map(|target| target.address))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
