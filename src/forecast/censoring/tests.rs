//! Pure: tests of censored training: what is recovered, and what a forecast gains by it.

use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::forecast::trainer::{TrainOptions, train};

const GAP: f64 = f64::NAN;

/// What is expected behind `values`, those of which are lower bounds that `bounds` lists.
fn check(values: &[f64], bounds: &[usize], seasons: &[usize], want: &[f64], within: f64) {
    let flags: Vec<bool> = (0..values.len()).map(|i| bounds.contains(&i)).collect();
    let got = recover(values, &flags, seasons, Recovery::Expected);
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= within || (a.is_nan() && b.is_nan());
    assert!(got.iter().zip(want).all(same) && got.len() == want.len(), "{got:?} is not {want:?}");
}

#[test]
fn a_clipped_peak_gets_the_height_that_other_days_show() {
    let day = [1.0, 2.0, 8.0, 2.0];
    let days = |n: usize| day.repeat(n);
    let with = |n: usize, at: &[(usize, f64)]| {
        let mut values = days(n);
        at.iter().for_each(|&(i, v)| values[i] = v);
        values
    };
    check(&with(4, &[(6, 3.0), (14, 5.0)]), &[6, 14], &[4], &days(4), 1e-6);
    // Nor does a load with hardly any error know less than one with none.
    let mut nearly = with(6, &[(6, 3.0), (22, 5.0)]);
    nearly[0] += 1e-6;
    check(&nearly, &[6, 22], &[4], &days(6), 1e-4);
    // A bound above what was expected stays, and a little more is expected.
    check(&with(4, &[(6, 9.0)]), &[6], &[4], &with(4, &[(6, 9.2)]), 0.2);
    // Gaps stay gaps, and are no bounds.
    check(&with(4, &[(5, GAP), (6, 3.0)]), &[5, 6], &[4], &with(4, &[(5, GAP)]), 1e-6);
    // The better of two seasons is taken, and what is none is passed over.
    for seasons in [&[3, 4][..], &[4, 3], &[0, 4, 99]] {
        check(&with(6, &[(6, 3.0), (22, 5.0)]), &[6, 22], seasons, &days(6), 0.05);
    }
}

#[test]
fn a_clipped_peak_is_scaled_to_the_level_of_its_own_day() {
    // The fourth day is twice as large as those around, which its night and flanks show, and is
    // seen to 5 of 16. Its unseen part, 64 of 73 squares of the profile, counts a tenth at the
    // level around: (9 × 2 + 6.4 × 81 / 73 ..) / 15.4 is about 1.65, or 13.2 of the 16.
    let mut values = [1.0, 2.0, 8.0, 2.0].repeat(6);
    values[12..16].copy_from_slice(&[2.0, 4.0, 5.0, 4.0]);
    let mut flags = vec![false; 24];
    flags[14] = true;
    let got = recover(&values, &flags, &[4], Recovery::Expected)[14];
    assert!((11.0..16.0).contains(&got), "{got}");
}

#[test]
fn without_anything_to_learn_from_recovered_values_stay_near_the_bound() {
    // Changes of 1 between neighbours that are both known: one above the bound is expected.
    check(&[1.0, 2.0, 5.0, 3.0, 2.0], &[2], &[], &[1.0, 2.0, 6.0, 3.0, 2.0], 1e-9);
    check(&[5.0; 4], &[0, 1, 2, 3], &[], &[5.0; 4], 1e-9);
    check(&[0.0; 4], &[1], &[2], &[0.0; 4], 0.0);
    check(&[GAP; 4], &[1], &[2], &[GAP; 4], 0.0);
    check(&[], &[], &[1], &[], 0.0);
    // Every day is clipped at 4.
    let wobble = |i: usize| 1.0 + 0.02 * ((i * 7) % 5) as f64;
    let values: Vec<f64> = (0..80).map(|i| if i % 8 >= 5 { 4.0 } else { wobble(i) }).collect();
    let flags: Vec<bool> = (0..80).map(|i| i % 8 >= 5).collect();
    let got = recover(&values, &flags, &[8], Recovery::Expected);
    assert!(got.iter().all(|v| *v < 1.2 * 4.0), "{got:?}");
}

#[test]
fn draws_are_as_scattered_as_what_they_stand_for() {
    // A bound of 1 where 1 is expected, give or take a scale of 0.1: what is above has a mean of
    // 1 + 0.1 × 2 ln 2 by the logistic distribution, and half of it is below 1 + 0.1 × ln 3.
    let n = 10_000;
    let fit = Fit { expected: vec![1.0; n], spread: (0.1, 0.0), error: 0.0 };
    let expected = 1.0 + 0.2 * 2f64.ln();
    assert!((fit.demand(0, 1.0, Recovery::Expected) - expected).abs() < 1e-12);
    let draws: Vec<f64> = (0..n).map(|i| fit.demand(i, 1.0, Recovery::Drawn)).collect();
    assert!((mean(&draws) - expected).abs() < 0.003, "{}", mean(&draws));
    let low = draws.iter().filter(|v| **v < 1.0 + 0.1 * 3f64.ln()).count();
    assert!(low.abs_diff(n / 2) < 10, "{low}");
}

/// Steps of a day, a quarter of an hour each.
const DAY: usize = 96;
const STEP: Duration = Duration::from_secs(900);

/// A service whose workers do not suffice on most days.
struct Saturated {
    /// What was asked for.
    truth: Vec<f64>,
    /// What CPU use shows of it.
    seen: Series,
}

/// Days of 1 to about 10, each with a level of its own and 5 % noise. On `share` of the days the
/// capacity is 3 to 8: their peaks are clipped, each at another height.
fn saturated(seed: u64, days: usize, share: f64) -> Saturated {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut truth, mut flags) = (Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for _ in 0..days {
        let level = 0.85 + 0.3 * rng.random::<f64>();
        let short = rng.random::<f64>() < share;
        let capacity = if short { 3.0 + 5.0 * rng.random::<f64>() } else { 20.0 };
        for step in 0..DAY {
            let wave = (std::f64::consts::TAU * (step as f64 / DAY as f64 - 0.6)).cos();
            // The sum of twelve uniform draws has a standard deviation of 1.
            let noise = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
            let load = 1.0 + 8.5 * (0.5 + 0.5 * wave).powi(3);
            let demand = level * load * (1.0 + 0.05 * noise);
            truth.push(demand);
            seen.push(demand.min(capacity));
            flags.push(demand >= capacity);
        }
    }
    let start = DateTime::from_timestamp_millis(0).expect("in range");
    let seen = Series::new(start, STEP, seen).with_lower_bounds(flags);
    Saturated { truth, seen }
}

/// Mean |a - b| over `steps`.
fn error(a: &[f64], b: &[f64], steps: &[usize]) -> f64 {
    steps.iter().map(|&i| (a[i] - b[i]).abs()).sum::<f64>() / steps.len() as f64
}

/// Mean error of forecasts, one to eight steps ahead, at the true peaks (above 7) of the days from
/// `first` on. The service sees at each origin what a service does: clipped history.
fn peak_error(seen: &Series, truth: &[f64], first: usize) -> f64 {
    let history = seen.slice(0..first * DAY);
    let options = TrainOptions { horizon: 8, origins: 2, ..TrainOptions::default() };
    let model = train(history.end(), &history, &options).expect("weeks are enough");
    let mut errors = Vec::new();
    for origin in (first * DAY..seen.len() - 8).step_by(8) {
        let forecast = model.forecast(&seen.slice(0..origin), 8, &[0.5]).expect("trained on it");
        let steps = forecast.point.iter().zip(&truth[origin..]);
        errors.extend(steps.filter(|(_, t)| **t > 7.0).map(|(point, t)| (point - t).abs()));
    }
    mean(&errors)
}

/// The promise: at the true peaks a training that knows of the lower bounds errs at most half as
/// much as one that takes them for demand. `cargo test censoring -- --nocapture` prints the
/// figures.
#[test]
fn forecasts_err_at_most_half_as_much_at_the_true_peaks() {
    for (seed, share) in [(0, 0.5), (1, 0.5), (2, 0.8), (3, 0.8), (4, 1.0)] {
        let Saturated { truth, seen } = saturated(seed, 18, share);
        let bounds: Vec<usize> = (0..seen.len()).filter(|&i| seen.is_lower_bound(i)).collect();
        let recovered = for_forecast(&seen, 0, &[DAY]);
        let [clipped, behind] = [seen.values(), &recovered].map(|v| error(v, &truth, &bounds));
        let ignorant = Series::new(seen.start(), STEP, seen.values().to_vec());
        let [ignored, known] = [&ignorant, &seen].map(|s| peak_error(s, &truth, 14));
        println!(
            "seed {seed}, share of clipped days {share}: error of {} lower bounds {clipped:.2}, \
             recovered {behind:.2}; of forecasts at true peaks {ignored:.2}, knowing {known:.2}",
            bounds.len(),
        );
        assert!(behind < 0.5 * clipped && known < 0.5 * ignored, "seed {seed}");
    }
}

#[test]
fn what_has_no_lower_bound_is_not_touched_nor_copied() {
    let Saturated { seen, .. } = saturated(7, 4, 0.0);
    for history in [for_training(&seen, 9), for_forecast(&seen, 9, &[DAY])] {
        assert!(matches!(history, Cow::Borrowed(values) if values == &seen.values()[9..]));
    }
    // Flags before the first step that is read do not count either.
    let flagged = seen.clone().with_lower_bounds(vec![true; 9]);
    assert!(matches!(for_training(&flagged, 9), Cow::Borrowed(_)));
    assert!(matches!(for_training(&flagged, 8), Cow::Owned(_)));
}

proptest! {
    #[test]
    fn recovered_values_are_finite_bounded_and_never_lower(
        pieces in prop::collection::vec((0usize..6, 1usize..60, -1e3f64..1e6, any::<bool>()), 1..6),
        seasons in prop::collection::vec(0usize..150, 0..3),
        drawn in any::<bool>(),
    ) {
        let (mut values, mut flags) = (Vec::new(), Vec::new());
        for (kind, length, size, flag) in pieces {
            values.extend((0..length).map(|i| match kind {
                0 => f64::NAN,
                1 => size,
                2 => size * (i % 12) as f64,
                3 => size * 1e300,
                4 => size * 1e-300,
                _ => (i as f64 * size).sin() * size,
            }));
            flags.extend((0..length).map(|i| flag && i % 3 > 0));
        }
        let recovery = if drawn { Recovery::Drawn } else { Recovery::Expected };
        let got = recover(&values, &flags, &seasons, recovery);
        let highest = values.iter().filter(|v| v.is_finite()).fold(0.0f64, |h, v| h.max(v.abs()));
        prop_assert_eq!(got.len(), values.len());
        for ((got, seen), flag) in got.iter().zip(&values).zip(&flags) {
            if seen.is_nan() || !flag {
                prop_assert_eq!(got.to_bits(), seen.to_bits());
            } else {
                let most = seen.max(CEILING * highest);
                prop_assert!(got.is_finite() && seen <= got && *got <= most, "{} {}", got, seen);
            }
        }
        let again = recover(&values, &flags, &seasons, recovery);
        prop_assert!(got.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
