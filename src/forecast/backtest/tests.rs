//! Pure: tests of the rolling-origin protocol.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn series(step: Duration, values: Vec<f64>) -> Series {
    Series::new(DateTime::from_timestamp_millis(0).expect("in range"), step, values)
}

/// A day's wave in hours with a little noise.
fn wave(n: usize) -> Series {
    let value = |i: usize| 5.0 + 4.0 * (i as f64 * std::f64::consts::TAU / 24.0).sin();
    let noise = |i: usize| ((i * 7919) % 499) as f64 / 499.0;
    series(HOUR, (0..n).map(|i| value(i) + noise(i)).collect())
}

/// The whole backtest, with a clock that ticks once a second at each look.
fn scores(
    series: &Series,
    options: &BacktestOptions,
    contenders: &[Contender],
) -> Result<BTreeMap<Contender, ContenderScore>, BacktestError> {
    let backtest = Backtest::new(series, options)?;
    let mut seconds = 0;
    let mut clock = || {
        seconds += 1;
        Duration::from_secs(seconds)
    };
    let mut forecasts = Vec::new();
    for &origin in &backtest.origins {
        forecasts.extend(backtest.forecast(origin, contenders, &mut clock)?);
    }
    Ok(backtest.score(&forecasts))
}

#[test]
fn origins_are_truncated_as_the_protocol_says() {
    // linspace(70, 87, 4) = 70, 75.67, 81.33, 87.
    assert_eq!(origins(70, 87, 4), [70, 75, 81, 87]);
    assert_eq!(origins(70, 87, 1), [70]);
    assert_eq!(origins(5, 7, 9), [5, 6, 7], "each once");
    assert_eq!(origins(5, 7, 0), [0; 0]);
}

#[test]
fn the_step_is_five_minutes_unless_the_recording_is_coarser() {
    let check = |recorded, asked: Option<u64>, want: Result<u64, ()>| {
        let step = step_for(Duration::from_secs(recorded), asked.map(Duration::from_secs));
        assert_eq!(step.map(|s| s.as_secs()).map_err(|_| ()), want, "{recorded} {asked:?}");
    };
    check(60, None, Ok(300));
    check(600, None, Ok(600));
    check(7, None, Ok(294));
    check(60, Some(120), Ok(120));
    check(60, Some(60), Ok(60));
    for asked in [0, 30, 90, u64::MAX] {
        check(60, Some(asked), Err(()));
    }
    let error = step_for(MINUTE, Some(Duration::from_secs(90))).unwrap_err().to_string();
    assert_eq!(error, "a step of 1m 30s is no multiple of the recording's step of 1m");
}

#[test]
fn the_bars_score_as_computed_by_hand() {
    // Ten days of hours whose value is the number of the day, cut at 0.7 * 240 = 168: each day is 1
    // above the one before, so the scale is 1 and yesterday is always missed by 1.
    let days = series(HOUR, (0..240).map(|i| (i / 24) as f64).collect());
    let options = BacktestOptions { horizon: 12, origins: 4, ..BacktestOptions::default() };
    let backtest = Backtest::new(&days, &options).unwrap();
    assert_eq!(backtest.scale, 1.0);
    // linspace(168, 227, 4) = 168, 187.67, 207.33, 227, which are the hours 0, 19, 15 and 11 of
    // their days: the last value misses the 0, 8, 4 and 0 steps after midnight, 12 of 48, by 1.
    assert_eq!(backtest.origins, [168, 187, 207, 227]);
    let bars = [Contender::SeasonalNaive, Contender::Naive];
    let scores = scores(&days, &options, &bars).unwrap();
    let mase = |c| scores[&c].accuracy.mase;
    assert_eq!((mase(bars[0]), mase(bars[1])), (1.0, 12.0 / 48.0));
    // It was always missed by 1, so its quantiles are all 1 above it, and right.
    assert_eq!(scores[&bars[0]].accuracy.pinball, 0.0);
    assert_eq!(scores[&bars[0]].accuracy.coverage_80, 1.0);
    assert_eq!((scores[&bars[0]].origins, scores[&bars[0]].fit_seconds), (4, 1.0));
}

#[test]
fn a_season_is_worth_more_than_the_last_value() {
    let options = BacktestOptions { horizon: 6, origins: 3, ..BacktestOptions::default() };
    let scores = scores(&wave(480), &options, &Contender::ALL).unwrap();
    assert_eq!(scores.keys().copied().collect::<Vec<_>>(), Contender::ALL);
    let mase = |c| scores[&c].accuracy.mase;
    assert!(mase(Contender::Foresail) < 1.2 && mase(Contender::SeasonalNaive) < 1.3);
    assert!(mase(Contender::Naive) > 4.0);
}

#[test]
fn steps_without_a_value_are_not_scored_and_origins_without_recent_data_say_so() {
    let mut values = wave(240).values().to_vec();
    values[200..230].fill(f64::NAN);
    let options = BacktestOptions { origins: 8, ..BacktestOptions::default() };
    let backtest = Backtest::new(&series(HOUR, values), &options).unwrap();
    let at = |origin| backtest.forecast(origin, &[Contender::Foresail], &mut || Duration::ZERO);
    assert_eq!(at(219), Err(ForecastError::NoRecentData(12)));
    let blind = at(205).unwrap();
    assert_eq!(backtest.score(&blind), BTreeMap::new(), "no step after 205 has a value");
    assert_eq!(backtest.score(&at(195).unwrap()).len(), 1, "four steps after 195 have one");
}

#[test]
fn a_short_series_is_refused() {
    let check = |n, from, want: ForecastError| {
        let options = BacktestOptions { from, ..BacktestOptions::default() };
        let error = scores(&wave(n), &options, &[Contender::Foresail]).unwrap_err();
        assert_eq!(error, want.into(), "{n} steps from {from}");
    };
    // 13 steps are 30 % of 44; a training needs 10.
    for n in [0, 1, 40] {
        check(n, 0.7, ForecastError::TooShort { have: n, need: 44 });
    }
    check(44, 0.1, ForecastError::TooShort { have: 5, need: 10 });
    check(99, 1.0, ForecastError::TooShort { have: 99, need: usize::MAX });
    check(99, f64::NAN, ForecastError::TooShort { have: 1, need: 10 });
}

#[test]
fn scored_quantiles_are_carried() {
    assert!(SCORED.iter().all(|q| QUANTILES.contains(q)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn whatever_was_recorded_scores_are_finite_and_not_negative(
        level in prop_oneof![Just(0.0), Just(1e-300), 1.0f64..1e6, Just(1e150)],
        noise in prop::collection::vec(prop_oneof![4 => 0.0f64..2.0, 1 => Just(f64::NAN)], 60..200),
        horizon in 1usize..14,
        from in 0.3f64..0.9,
    ) {
        let values = noise.iter().map(|v| v * level).collect();
        let options = BacktestOptions { horizon, origins: 2, from, step: None };
        if let Ok(scores) = scores(&series(HOUR, values), &options, &Contender::ALL) {
            for ContenderScore { accuracy, .. } in scores.values() {
                prop_assert!(accuracy.mase >= 0.0 && accuracy.mase.is_finite());
                prop_assert!(accuracy.pinball >= 0.0 && accuracy.pinball.is_finite());
                prop_assert!((0.0..=1.0).contains(&accuracy.coverage_80));
            }
        }
    }
}
