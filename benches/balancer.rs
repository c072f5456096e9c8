//! Pure: how long one choice takes, by algorithm and number of replicas.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use foresail::balancer::{Algorithm, Key, Snapshot, Target, hash, mix};

fn snapshot(algorithm: Algorithm, replicas: u16) -> Snapshot {
    let target = |number: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + number));
        // As long as a container's id.
        Target::new(format!("{number:064x}"), address)
    };
    Snapshot::new(algorithm, (0..replicas).map(target).collect(), None)
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for (name, algorithm) in [
        ("round_robin", Algorithm::RoundRobin),
        ("weighted_round_robin", Algorithm::WeightedRoundRobin),
        ("least_request", Algorithm::LeastRequest),
        ("peak_ewma", Algorithm::PeakEwma),
        ("first_fit", Algorithm::FirstFit),
        ("ip_hash", Algorithm::IpHash),
        ("key_hash", Algorithm::KeyHash),
        ("random", Algorithm::Random),
    ] {
        for replicas in [10, 100, 1000] {
            let snapshot = snapshot(algorithm, replicas);
            let mut number = 0_u32;
            group.bench_function(BenchmarkId::new(name, replicas), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_add(1);
                    let client = Some(IpAddr::V4(Ipv4Addr::from(number)));
                    let key = Some(hash(&number.to_le_bytes()));
                    let key = Key { client, key, session: None };
                    let now = Duration::from_micros(u64::from(number));
                    let picked = snapshot.pick(key, mix(u64::from(number)), now);
                    black_box(picked.map(|target| target.address))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
