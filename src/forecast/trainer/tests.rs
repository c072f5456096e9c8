//! Pure: tests of the trainer.

use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::forecast::QUANTILES;

fn series(values: Vec<f64>) -> Series {
    let start = DateTime::from_timestamp_millis(1_700_000_000_000).expect("in range");
    Series::new(start, Duration::from_millis(250), values)
}

fn trained(values: Vec<f64>, horizon: usize) -> Result<(Series, Model), ForecastError> {
    let history = series(values);
    let options = TrainOptions { horizon, origins: 3, ..TrainOptions::default() };
    train(history.end(), &history, &options).map(|model| (history, model))
}

/// A steep peak in every 40 steps on a noise that repeats only after a long time.
fn peaks(i: usize) -> f64 {
    let noise = ((i * 7919) % 101) as f64 / 101.0 - 0.5;
    (if (24..32).contains(&(i % 40)) { 3.0 } else { 0.6 }) + 0.4 * noise
}

/// Trains, and forecasts with quantiles that are finite, ordered and not negative.
fn check(values: Vec<f64>, horizon: usize) -> Option<Method> {
    let (history, model) = match trained(values, horizon) {
        Ok(trained) => trained,
        Err(ForecastError::TooShort { .. }) => return None,
        Err(e) => panic!("{e}"),
    };
    let recent = &history.values()[history.len().saturating_sub(12)..];
    let forecast = match model.forecast(&history, horizon, &QUANTILES) {
        Err(ForecastError::NoRecentData(_)) if recent.iter().all(|v| v.is_nan()) => {
            return None;
        }
        other => other.expect("a model forecasts from what it was trained on"),
    };
    assert_eq!(forecast.horizon(), horizon);
    for paths in [&forecast.paths, &forecast.peaks] {
        for h in 0..horizon {
            let column: Vec<f64> = paths.iter().map(|path| path[h]).collect();
            assert!(column.iter().all(|v| v.is_finite() && *v >= 0.0), "{column:?}");
            assert!(column.is_sorted(), "{column:?}");
        }
    }
    for (path, peak) in forecast.paths.iter().zip(&forecast.peaks) {
        assert!(peak.is_sorted() && path.iter().zip(peak).all(|(s, p)| s <= p));
    }
    assert!(forecast.point.iter().all(|y| y.is_finite() && *y >= 0.0));
    Some(model.method())
}

#[test]
fn degenerate_loads_are_trained_on_without_a_fuss() {
    let n = 240;
    let shift = |i: usize| if i < 160 { 1.0 } else { 50.0 };
    check((0..n).map(shift).collect(), 12);
    check((0..n).map(|i| if i % 97 == 0 { 1e6 } else { 0.0 }).collect(), 12);
    check((0..n).map(|i| if i % 3 == 0 { f64::NAN } else { peaks(i) }).collect(), 12);
    check((0..n).map(|i| if (100..160).contains(&i) { f64::NAN } else { peaks(i) }).collect(), 12);
    check((0..n).map(|i| if i > 220 { f64::NAN } else { peaks(i) }).collect(), 12);
    check((0..n).map(|i| if i % 2 == 0 { 1e150 } else { -1e150 }).collect(), 3);
    check(vec![f64::NAN; n], 12);
    for constant in [0.0, 7.5] {
        let (history, model) = trained(vec![constant; n], 12).unwrap();
        let forecast = model.forecast(&history, 12, &QUANTILES).unwrap();
        assert!(forecast.paths.iter().flatten().all(|v| (v - constant).abs() < 1e-9));
    }
}

#[test]
fn too_little_history_is_refused_with_what_is_needed() {
    for points in [0, 1, 9] {
        let error = trained(vec![1.0; points], 12).unwrap_err();
        assert_eq!(error, ForecastError::TooShort { have: points, need: 10 });
    }
    // Members are compared from 30 points on, and for long horizons from 2 x 20 + 8.
    for (points, horizon, cold) in [(10, 12, true), (31, 12, true), (47, 20, true), (40, 4, false)]
    {
        let (_, model) = trained((0..points).map(peaks).collect(), horizon).unwrap();
        assert_eq!(model.training.cold_start, cold, "{points} points, {horizon} ahead");
        assert_eq!(model.training.scores.is_empty(), cold);
    }
}

#[test]
fn a_cold_start_says_as_now_and_widens_with_the_root_of_the_steps() {
    // Changes of 1, up and down; the last value is 6.
    let values = (0..11).map(|i| if i % 2 == 0 { 6.0 } else { 5.0 }).collect();
    let (history, model) = trained(values, 4).unwrap();
    let forecast = model.forecast(&history, 4, &[0.1, 0.9]).unwrap();
    assert_eq!((forecast.method, &forecast.point[..]), (Method::Naive, &[6.0; 4][..]));
    for (h, root) in [(0, 1.0), (3, 2.0)] {
        assert!((forecast.paths[0][h] - (6.0 - root)).abs() < 1e-9, "{:?}", forecast.paths);
        assert!((forecast.paths[1][h] - (6.0 + root)).abs() < 1e-9, "{:?}", forecast.paths);
    }
    assert!(forecast.peaks[0].iter().all(|peak| *peak >= 6.0));
}

#[test]
fn members_are_weighed_and_the_ensemble_is_scored() {
    let (_, model) = trained((0..400).map(peaks).collect(), 6).unwrap();
    let members = &model.training.members;
    assert_eq!(members.len(), 5, "{members:?}");
    assert!((members.iter().map(|m| m.weight).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(members.is_sorted_by(|a, b| a.weight >= b.weight));
    let naive = members.iter().find(|m| m.method == Method::Naive).unwrap();
    assert!(naive.weight < 0.1 && model.training.scores[0].mase < 0.7 * naive.mase);
}

#[test]
fn recurring_peaks_are_foreseen() {
    let (mut history, model) = trained((0..244).map(peaks).collect(), 12).unwrap();
    assert_eq!(model.season_lengths.first(), Some(&40));
    assert_ne!(model.method(), Method::Naive);
    // 260 is 20 into a period: 0.6 now, the peak of 3.0 four to eleven steps ahead.
    for i in 244..260 {
        history.push(peaks(i));
    }
    let forecast = model.forecast(&history, 12, &QUANTILES).unwrap();
    assert!(forecast.point[2] < 1.2 && forecast.point[6] > 2.4, "{:?}", forecast.point);
    assert!(forecast.peak(4, 0.5).unwrap() < 1.4 && forecast.peak(12, 0.5).unwrap() > 2.6);
}

#[test]
fn only_the_context_matters_and_it_must_be_there() {
    let (history, model) = trained((0..400).map(peaks).collect(), 6).unwrap();
    let (least, context) = (model.least(), model.context().min(history.len()));
    let last = |steps: usize| history.slice(history.len() - steps..history.len());
    let all = model.forecast(&history, 6, &QUANTILES);
    assert_eq!(model.forecast(&last(context), 6, &QUANTILES), all);
    assert!(model.forecast(&last(least), 6, &QUANTILES).is_ok());
    let short = last(least - 1);
    let error = ForecastError::TooShort { have: least - 1, need: least };
    assert_eq!(model.forecast(&short, 6, &QUANTILES), Err(error));
    let other = Series::new(history.start(), Duration::from_secs(1), vec![1.0; 400]);
    assert!(matches!(model.forecast(&other, 6, &QUANTILES), Err(ForecastError::Step { .. })));
}

#[test]
fn a_model_survives_json_exactly() {
    let (history, model) = trained((0..400).map(peaks).collect(), 6).unwrap();
    let back: Model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!(back, model);
    assert_eq!(back.forecast(&history, 6, &[0.9]), model.forecast(&history, 6, &[0.9]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_came_quantiles_are_finite_ordered_and_not_negative(
        pieces in prop::collection::vec((0usize..6, 1usize..90, -1e3f64..1e6), 1..6),
        horizon in 1usize..16,
    ) {
        let mut values = Vec::new();
        for (kind, length, size) in pieces {
            values.extend((0..length).map(|i| match kind {
                0 => f64::NAN,
                1 => size,
                2 => size * peaks(i),
                3 => if i % 17 == 0 { size * 100.0 } else { 0.0 },
                4 => 1e300,
            _ => (i as f64 * size).sin() * size,
            }));
        }
        check(values, horizon);
    }
}
