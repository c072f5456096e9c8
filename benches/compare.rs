//! I/O: the time of a replay: rules over 80 000 steps and at three lengths, and the forecast over
//! four weeks of five-minute steps.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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

criterion_group!(benches, replay);
criterion_main!(benches);
