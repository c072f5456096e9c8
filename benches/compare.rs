//! I/O: the time of a replay: rules over 80 000 steps and at three lengths, and the forecast over
//! four weeks of five-minute steps; and the time of one live decision.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foresail::autoscaler::{Autoscaler, DemandSample, Observation, Settings, TrainingSchedule};
use foresail::forecast::trainer::train;
use foresail::planner::predictive::Predictive;
use foresail::planner::threshold::Threshold;
use foresail::planner::{Basis, Behavior, Policy};
use foresail::series::Series;
use foresail::simulator::workload::{Shape, Workload};
use foresail::simulator::{CompareOptions, compare, contender};

fn load(step: Duration, day: usize, days: usize) -> Series {
    Workload { shape: Shape::Spiky, step, day, days, level: 10.0, noise: 0.1 }.series(1)
}

fn replay(c: &mut Criterion) {
    let minute = Duration::from_secs(60);
    let mut group = c.benchmark_group("compare");
    group.sample_size(10);
    let mut bench = |name: &str, series: &Series, specs: &str| {
        let contenders = contender::parse(&[specs], &[]).expect("a valid specification");
        let options = CompareOptions::default();
        group.throughput(Throughput::Elements(series.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| compare("bench", black_box(series), &contenders, &options));
        });
    };
    // 56 days of minutes are 80 640 steps; all three are to take 0.3 s at most.
    let days = load(minute, 1_440, 56);
    bench("threshold, target_tracking, oracle", &days, "threshold,target_tracking,oracle");
    for rule in ["threshold", "target_tracking", "oracle:budget=0.01"] {
        bench(rule, &days, rule);
    }
    for steps in [10_000, 100_000, 1_000_000] {
        let series = load(minute, 1_000, steps / 1_000);
        bench(&format!("target_tracking over {steps} steps"), &series, "target_tracking");
    }
    bench("predictive, 28 days", &load(5 * minute, 288, 28), "predictive");
    group.finish();
}

/// A step of a service with four weeks of 15 s behind it and a fitted model; one that starts its
/// workers in 5 minutes, so that the forecast reaches through 20 steps.
fn decide(c: &mut Criterion) {
    let step = Duration::from_secs(15);
    let history = load(step, 5_760, 28);
    let mut autoscaler = Autoscaler::new(Settings {
        policy: Policy::Predictive(Predictive::default()),
        fallback: Threshold::default(),
        behavior: Behavior { max_replicas: 20, ..Behavior::unlimited() },
        evaluation_interval: step,
        max_staleness: 4 * step,
        training: TrainingSchedule {
            min_history: Duration::from_secs(3_600),
            interval: Duration::from_secs(6 * 3_600),
            max_history: Duration::from_secs(28 * 86_400),
        },
        startup_delay: Duration::from_secs(300),
        max_startup_delay: Duration::ZERO,
    });
    let (mut now, mut demand) = (history.end(), history.values().iter().cycle());
    autoscaler.restore(history.clone());
    let (series, options) = autoscaler.training_set();
    autoscaler.adopt(train(now, &series, &options).expect("history enough"));
    let mut current_replicas = 10;
    let mut decision = || {
        now += step;
        let sample =
            demand.next().map(|&demand| DemandSample { time: now, demand, lower_bound: false });
        let seen = Observation {
            demand: sample,
            capacity: 1.0,
            ready_replicas: current_replicas,
            current_replicas,
            ..Observation::default()
        };
        let decision = autoscaler.step(now, black_box(&seen));
        current_replicas = decision.desired_replicas;
        decision
    };
    // Until the forecast has earned trust: what is measured decides by it.
    let trusted = (0..5_760).any(|_| decision().basis == Basis::Forecast);
    assert!(trusted, "the forecast never decided");
    c.bench_function("one live decision", |b| b.iter(&mut decision));
}

criterion_group!(benches, replay, decide);
criterion_main!(benches);
