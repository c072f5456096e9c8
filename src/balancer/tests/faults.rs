//! Pure: a seeded simulation of replicas that answer slowly, or errors at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// How a replica answers.
#[derive(Clone, Copy)]
struct Manner {
    latency: Duration,
    /// Share of requests that meet an error, after a millisecond.
    errors: f64,
}

/// Share of requests that each replica got, after a first tenth in which the balancer learns.
/// `arrivals` requests come at exponential distances of `every` on average; a new snapshot every
/// second, health every tenth of one.
fn run(algorithm: Algorithm, manners: &[Manner], every: Duration, ejection: Ejection) -> Vec<f64> {
    const ARRIVALS: u64 = 8_000;
    let mut health = Health::new(ejection, None);
    let mut snapshot = Snapshot::new(algorithm, targets(&vec![1.0; manners.len()]), None);
    let mut ends = BinaryHeap::new();
    let mut guards = BTreeMap::new();
    let (mut now, mut published, mut stepped) = (NOW, NOW, NOW);
    let mut got = vec![0.0; manners.len()];
    for number in 0..ARRIVALS {
        let draw = |stream: u64| mix(number.wrapping_mul(STRIDE) ^ mix(stream));
        let unit = |stream| (draw(stream) >> 11) as f64 / (1_u64 << 53) as f64;
        now += every.mul_f64(-(1.0 - unit(1)).ln());
        while let Some(Reverse((at, id))) = ends.peek().copied()
            && at <= now
        {
            ends.pop();
            let (guard, outcome): (InFlight, Outcome) = guards.remove(&id).unwrap();
            guard.report(at, outcome);
        }
        if now >= stepped + Duration::from_millis(100) {
            stepped = now;
            let changed = health.step(now, snapshot.targets());
            if changed || now >= published + Duration::from_secs(1) {
                published = now;
                let mut targets = targets(&vec![1.0; manners.len()]);
                targets.iter_mut().for_each(|t| t.healthy = health.is_healthy(&t.id));
                snapshot = Snapshot::new(algorithm, targets, Some(&snapshot));
            }
        }
        let (target, guard) = snapshot.take(client(number as u32), draw(2), now).unwrap();
        let index = usize::from(target.id.as_bytes()[0] - b'a');
        let fails = unit(3) < manners[index].errors;
        let latency = if fails {
            Duration::from_millis(1)
        } else {
            manners[index].latency.mul_f64(unit(4) + 0.5)
        };
        let kind = OutcomeKind::Answered(if fails { 500 } else { 200 });
        guards.insert(number, (guard, Outcome { latency, kind }));
        ends.push(Reverse((now + latency, number)));
        if number >= ARRIVALS / 10 {
            got[index] += 1.0 / (ARRIVALS * 9 / 10) as f64;
        }
    }
    got
}

fn never() -> Ejection {
    Ejection { max_ejected: 0.0, ..Ejection::default() }
}

fn manners(latency: Duration, errors: [f64; 4]) -> Vec<Manner> {
    errors.iter().map(|errors| Manner { latency, errors: *errors }).collect()
}

#[test]
fn fast_errors_attract_no_traffic() {
    // Of four replicas one errs. A fair share is 0.25; a balancer that believes in speed or in few
    // requests in flight would give far more.
    let check = |algorithm, latency_ms, every_ms, errors, most: f64| {
        let latency = Duration::from_millis(latency_ms);
        let every = Duration::from_millis(every_ms);
        let shares = run(algorithm, &manners(latency, [errors, 0.0, 0.0, 0.0]), every, never());
        assert!(shares[0] <= most, "{algorithm:?} {latency_ms} {errors}: {shares:?}");
    };
    for (latency, every) in [(50, 5), (30_000, 3_000), (50, 500)] {
        check(Algorithm::PeakEwma, latency, every, 1.0, 0.02);
        check(Algorithm::LeastRequest, latency, every, 1.0, 0.07);
        check(Algorithm::PeakEwma, latency, every, 0.3, 0.15);
        // A fair share, but for chance.
        check(Algorithm::LeastRequest, latency, every, 0.3, 0.27);
    }
}

#[test]
fn peak_ewma_leaves_a_slow_replica_and_comes_back() {
    let slow = Manner { latency: Duration::from_millis(500), errors: 0.0 };
    let fast = Manner { latency: Duration::from_millis(20), errors: 0.0 };
    let every = Duration::from_millis(5);
    let shares = run(Algorithm::PeakEwma, &[slow, fast, fast, fast], every, never());
    // It is asked now and then, or it could never recover.
    assert!(shares[0] > 0.0 && shares[0] < 0.01, "{shares:?}");
    let shares = run(Algorithm::PeakEwma, &[fast; 4], every, never());
    assert!(shares.iter().all(|share| (share - 0.25).abs() < 0.05), "{shares:?}");
}

#[test]
fn ejection_takes_an_erring_replica_out_under_every_algorithm() {
    for algorithm in ALGORITHMS {
        if algorithm == Algorithm::FirstFit {
            continue;
        }
        let manners = manners(Duration::from_millis(50), [0.9, 0.0, 0.0, 0.0]);
        let every = Duration::from_millis(5);
        let shares = run(algorithm, &manners, every, Ejection::default());
        // 40 s of virtual time: out for 10, 20, 30 s; in between, at most a tenth of a second and
        // five errors.
        assert!(shares[0] < 0.02, "{algorithm:?}: {shares:?}");
        assert!(shares[1..].iter().all(|share| *share > 0.2), "{algorithm:?}: {shares:?}");
    }
}
