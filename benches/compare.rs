//! I/O: the time of a replay: each policy over four weeks of generated load at five-minute steps.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use foresail::simulator::workload::{Shape, Workload};
use foresail::simulator::{CompareOptions, Contender, compare};

fn replay(c: &mut Criterion) {
    let step = Duration::from_secs(300);
    let load = Workload { shape: Shape::Spiky, step, day: 288, days: 28, level: 10.0, noise: 0.1 };
    let series = load.series(1);
    let mut group = c.benchmark_group("compare");
    group.sample_size(10);
    for contender in [Contender::Threshold, Contender::TargetTracking, Contender::Predictive] {
        let options = CompareOptions { contenders: vec![contender], ..CompareOptions::default() };
        group.bench_function(contender.name(), |b| {
            b.iter(|| compare(black_box(&series), &options));
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
