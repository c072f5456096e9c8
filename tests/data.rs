//! Pure but for the comparison with the file: the generator of `data/generated-two-weeks_5m.csv`.
//!
//! `FORESAIL_UPDATE=1 cargo test --test data` writes the file anew.

#![allow(clippy::disallowed_methods, reason = "the comparison reads a file")]

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use chrono::{DateTime, TimeDelta};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const SEED: u64 = 2;
const STEP_MINUTES: i64 = 5;
/// Monday 2024-01-01T00:00:00Z.
const START_MS: i64 = 1_704_067_200_000;
const DAYS: i64 = 14;

#[test]
fn the_generated_recording_is_what_its_generator_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/generated-two-weeks_5m.csv");
    let generated = generate();
    if std::env::var_os("FORESAIL_UPDATE").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap();
    let differing = recorded.lines().zip(generated.lines()).position(|(a, b)| a != b);
    assert_eq!(differing, None, "first differing line, from 0");
    assert_eq!(recorded.len(), generated.len());
}

/// Cores used by an inference service: nights at one core, a steep rise at nine on workdays, a dip
/// at lunch, a smaller evening wave; half of it at weekends; some noise, and three hours of the
/// tenth day missing.
fn generate() -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut noise = 0.0;
    let mut text = "timestamp,value\n".to_owned();
    for i in 0..DAYS * 24 * 60 / STEP_MINUTES {
        let minute = i * STEP_MINUTES;
        let (day, hour) = (minute / 1_440, (minute % 1_440) as f64 / 60.0);
        // A sum of four uniform numbers is close enough to a normal one, and the same on every
        // machine.
        let uniform = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
        let draw: f64 = (0..4).map(|_| uniform(rng.next_u64()) - 0.5).sum();
        noise = 0.7 * noise + 0.08 * draw;
        let value = load(hour, day % 7 >= 5) * (1.0 + noise);
        if (9 * 1_440 + 780..9 * 1_440 + 960).contains(&minute) {
            continue;
        }
        let time = DateTime::from_timestamp_millis(START_MS).unwrap() + TimeDelta::minutes(minute);
        text += &format!("{},{:.3}\n", time.format("%Y-%m-%dT%H:%M:%SZ"), value.max(0.0));
    }
    text
}

fn load(hour: f64, weekend: bool) -> f64 {
    let rise = |at: f64, minutes: f64| 1.0 / (1.0 + ((at - hour) * 60.0 / minutes).exp());
    let workday = 6.0 * (rise(9.0, 6.0) - rise(17.5, 25.0));
    let lunch = 1.5 * (-((hour - 12.5) / 0.5).powi(2)).exp();
    let evening = 2.0 * (-((hour - 20.5) / 1.2).powi(2)).exp();
    let night = 1.0 + 0.3 * (TAU * (hour - 10.0) / 24.0).sin();
    night + (if weekend { 0.5 } else { 1.0 }) * (workday - lunch * rise(9.0, 6.0) + evening)
}
