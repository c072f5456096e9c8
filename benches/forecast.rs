//! Pure: what training and forecasting cost, on four weeks of minutes.
//!
//! A forecast runs at every planning step and should stay below 30 µs; a training runs a few times
//! a day (a few hundred times in a replay) and should stay below 0.3 s.

use std::{hint::black_box, time::Duration};

use chrono::DateTime;
use criterion::{Criterion, criterion_group, criterion_main};
use foresail::{
    forecast::{
        QUANTILES, seasons,
        trainer::{TrainOptions, train},
    },
    series::Series,
};

/// A day's wave with a weekend, and noise.
fn four_weeks_of_minutes() -> Series {
    let value = |i: usize| {
        let wave = 1.0 + (i as f64 * std::f64::consts::TAU / 1_440.0).sin();
        let noise = ((i * i) % 1_009) as f64 / 1_009.0;
        if i % 10_080 < 7_200 { 5.0 * wave + noise } else { 2.0 * wave + noise }
    };
    let start = DateTime::from_timestamp_millis(0).expect("1970 is in range");
    Series::new(start, Duration::from_secs(60), (0..40_000).map(value).collect())
}

fn forecast(c: &mut Criterion) {
    let history = four_weeks_of_minutes();
    let options = TrainOptions::default();
    let model = train(history.end(), &history, &options).expect("history enough");
    c.bench_function("forecast, 12 steps", |b| {
        b.iter(|| model.forecast(black_box(&history), 12, &QUANTILES));
    });
    let mut slow = c.benchmark_group("40 000 steps");
    slow.sample_size(10);
    slow.bench_function("train", |b| b.iter(|| train(history.end(), &history, &options)));
    slow.bench_function("seasons", |b| b.iter(|| seasons::detect(history.values(), 60_000)));
}

criterion_group!(benches, forecast);
criterion_main!(benches);
