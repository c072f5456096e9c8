//! Pure: what training and forecasting cost, on one core.
//!
//! The figures are in the README, "Speed". A forecast runs at every planning step, a training a few
//! times a day for one service; thousands of services share a core where each costs little.

use std::{hint::black_box, time::Duration};

use chrono::DateTime;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use foresail::{
    forecast::{
        adaptation::Adaptation,
        seasons,
        trainer::{TrainOptions, train},
    },
    series::Series,
};

const DAY: u64 = 86_400;
const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.9, 0.99];
/// Those that a planner asks for.
const PLANNED: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999];

/// A day's wave with a weekend, and noise; another one for each `service`.
fn days(days: u64, step: u64, service: usize) -> Series {
    let per_day = DAY / step;
    let value = |i: u64| {
        let angle = i as f64 * std::f64::consts::TAU / per_day as f64;
        let wave = 1.5 + (angle + service as f64).sin();
        let noise = ((i * i + 7 * service as u64) % 1_009) as f64 / 1_009.0;
        if i % (7 * per_day) < 5 * per_day { 5.0 * wave + noise } else { 2.0 * wave + noise }
    };
    let start = DateTime::from_timestamp_millis(0).expect("1970 is in range");
    Series::new(start, Duration::from_secs(step), (0..days * per_day).map(value).collect())
}

fn whole(history: &Series, horizon: usize) -> TrainOptions {
    TrainOptions { horizon, max_history: history.len(), ..TrainOptions::default() }
}

fn fit_and_forecast(c: &mut Criterion) {
    let mut group = c.benchmark_group("fit and forecast 12 steps");
    group.sample_size(10);
    for (name, length, step) in
        [("28 days of 5 min", 28, 300), ("28 days of 1 min", 28, 60), ("30 days of 15 s", 30, 15)]
    {
        let history = days(length, step, 0);
        let options = whole(&history, 12);
        group.bench_with_input(BenchmarkId::from_parameter(name), &history, |b, history| {
            b.iter(|| {
                let model = train(history.end(), history, &options).expect("history enough");
                model.forecast(history, 12, &QUANTILES)
            });
        });
    }
}

fn forecast(c: &mut Criterion) {
    let history = days(28, 60, 0);
    for horizon in [12, 240] {
        let options = whole(&history, horizon);
        let model = train(history.end(), &history, &options).expect("history enough");
        c.bench_function(&format!("forecast {horizon} steps, 5 quantiles"), |b| {
            b.iter(|| model.forecast(black_box(&history), horizon, &QUANTILES));
        });
    }
    c.bench_function("seasons of 28 days of 1 min", |b| {
        b.iter(|| seasons::detect(history.values(), 60_000));
    });
}

/// What a new sample costs beside the forecast: the longest horizon of a service, all quantiles.
fn online_update(c: &mut Criterion) {
    let history = days(28, 60, 0);
    let model = train(history.end(), &history, &whole(&history, 60)).expect("history enough");
    let forecast = model.forecast(&history, 60, &PLANNED).expect("history enough");
    let mut adaptation = Adaptation::default();
    let mut demand = history.values().iter().cycle();
    c.bench_function("online update, 60 steps, 10 quantiles", |b| {
        b.iter_batched(
            || forecast.clone(),
            |forecast| {
                adaptation.observe(demand.next().copied());
                adaptation.adapt(forecast)
            },
            BatchSize::SmallInput,
        );
    });
}

/// The cost of many services grows by the slope between these: what is shared drops out.
fn services(c: &mut Criterion) {
    let histories: Vec<Series> = (0..200).map(|service| days(28, 60, service)).collect();
    let mut group = c.benchmark_group("retrain services of 28 days of 1 min");
    group.sample_size(10);
    for count in [50, 100, 200] {
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, &count| {
            b.iter(|| {
                for history in &histories[..count] {
                    let _ = black_box(train(history.end(), history, &whole(history, 12)));
                }
            });
        });
    }
}

criterion_group!(benches, fit_and_forecast, forecast, online_update, services);
criterion_main!(benches);
