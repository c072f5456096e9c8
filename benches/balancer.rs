//! Pure: how long one choice takes, by algorithm and number of replicas, and how long it takes to
//! publish a change.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use foresail::balancer::{
    Algorithm, Key, Outcome, OutcomeKind, Rules, Snapshot, Target, hash, mix,
};

const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("round_robin", Algorithm::RoundRobin),
    ("weighted_round_robin", Algorithm::WeightedRoundRobin),
    ("random", Algorithm::Random),
    ("least_request", Algorithm::LeastRequest),
    ("peak_ewma", Algorithm::PeakEwma),
    ("first_fit", Algorithm::FirstFit),
    ("ip_hash", Algorithm::IpHash),
    ("key_hash", Algorithm::KeyHash),
];
const REPLICAS: [u16; 3] = [10, 100, 1000];

/// One of them, the `warming`th, may be in slow start.
fn targets(replicas: u16, warming: Option<u16>) -> Vec<Target> {
    let target = |number: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + number));
        let weight = if warming == Some(number) { 0.3 } else { 1.0 };
        // As long as a container's id.
        Target { weight, ..Target::new(format!("{number:064x}"), address) }
    };
    (0..replicas).map(target).collect()
}

/// Every replica has answered, some with errors; under first-fit the first half is full.
fn snapshot(algorithm: Algorithm, replicas: u16) -> Snapshot {
    let max_in_flight = (algorithm == Algorithm::FirstFit).then_some(8);
    let rules = Rules { max_in_flight, ..algorithm.into() };
    let snapshot = Snapshot::new(rules, targets(replicas, None), None);
    for (number, target) in snapshot.targets().iter().enumerate() {
        let latency = Duration::from_millis(10 + number as u64 % 7);
        for status in [200, if number % 8 == 0 { 500 } else { 200 }] {
            let kind = OutcomeKind::Answered(status);
            target.counters.report(Duration::from_secs(1), Outcome { latency, kind });
        }
        let in_flight = if number < usize::from(replicas / 2) { 8 } else { number % 5 };
        (0..in_flight).for_each(|_| std::mem::forget(target.begin()));
    }
    snapshot
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for (name, algorithm) in ALGORITHMS {
        for replicas in REPLICAS {
            let snapshot = snapshot(algorithm, replicas);
            let mut number = 0_u32;
            group.bench_function(BenchmarkId::new(name, replicas), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_add(1);
                    let client = Some(IpAddr::V4(Ipv4Addr::from(number)));
                    let keyed = algorithm == Algorithm::KeyHash;
                    let key = keyed.then(|| hash(&number.to_le_bytes()));
                    let key = Key { client, key, session: None };
                    let now = Duration::from_micros(1_500_000 + u64::from(number));
                    let picked = snapshot.pick(key, mix(u64::from(number)), now);
                    black_box(picked.map(|target| target.address))
                });
            });
        }
    }
    group.finish();
}

/// The weight of one replica changes, as it does each second of a slow start.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for (name, algorithm) in ALGORITHMS {
        for replicas in REPLICAS {
            let before = Snapshot::new(algorithm, targets(replicas, None), None);
            let changed = targets(replicas, Some(replicas / 2));
            group.bench_function(BenchmarkId::new(name, replicas), |bencher| {
                bencher.iter(|| Snapshot::new(algorithm, changed.clone(), Some(&before)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick, publish);
criterion_main!(benches);
