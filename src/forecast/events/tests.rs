//! Pure: what a calendar is worth, on generated load: forecasts of events, and of the days after.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::forecast::trainer::{TrainOptions, train};
use crate::forecast::{Model, QUANTILES};
use crate::series::Series;

const HOUR: Duration = Duration::from_secs(3_600);
const HORIZON: usize = 24;
/// Days on which something happens, and the last one, which is forecast.
const DAYS: [i64; 8] = [4, 9, 11, 20, 26, 33, 38, 45];

/// A Monday, midnight.
fn start() -> Time {
    DateTime::from_timestamp(1_767_571_200, 0).expect("in range")
}

fn day(day: i64) -> Time {
    start() + TimeDelta::days(day)
}

/// From 8 to 20 o'clock.
fn promotions() -> Events {
    let at = |d: i64, hour| day(d) + TimeDelta::hours(hour);
    Events::new(DAYS.map(|d| Event { kind: "sale".into(), from: at(d, 8), to: at(d, 20) }))
}

fn whole_days(kind: &str) -> Events {
    Events::new(DAYS.map(|d| Event { kind: kind.into(), from: day(d), to: day(d + 1) }))
}

/// Hours of a daily wave with noise of 5 %, multiplied by `factor` within `events`, up to `end`.
fn load(seed: u64, events: &Events, factor: f64, end: Time) -> Series {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let value = |i: i64| {
        let hour = (start() + TimeDelta::hours(i)).timestamp_millis();
        let wave = 10.0 - 6.0 * (std::f64::consts::TAU * (i % 24) as f64 / 24.0).cos();
        let noise = 1.0 + 0.1 * (rng.random::<f64>() - 0.5) * 3f64.sqrt();
        let within = events.occurrences.iter().any(|o| (o.from_ms..o.to_ms).contains(&hour));
        wave * noise * if within { factor } else { 1.0 }
    };
    Series::new(start(), HOUR, (0..(end - start()).num_hours()).map(value).collect())
}

fn trained(history: &Series, events: &Events) -> Model {
    let options =
        TrainOptions { horizon: HORIZON, origins: 1, events: events.clone(), ..Default::default() };
    train(history.end(), history, &options).expect("enough history")
}

/// Mean absolute error of the day after `history`, of which `actual` is the truth.
fn error(model: &Model, history: &Series, actual: &Series) -> f64 {
    let forecast = model.forecast(history, HORIZON, &QUANTILES).expect("a forecast");
    let from = history.len();
    let errors =
        forecast.point.iter().enumerate().map(|(h, y)| (actual.values()[from + h] - y).abs());
    errors.sum::<f64>() / HORIZON as f64
}

fn until(series: &Series, end: Time) -> Series {
    series.slice(0..(end - start()).num_hours() as usize)
}

/// Errors with and without a calendar on the last of the [`DAYS`], over seeds.
fn on_the_day(events: &Events, factor: f64) -> (f64, f64) {
    let last = DAYS[DAYS.len() - 1];
    (0..2).fold((0.0, 0.0), |sum, seed| {
        let actual = load(seed, events, factor, day(last + 1));
        let history = until(&actual, day(last));
        let with = error(&trained(&history, events), &history, &actual);
        let without = error(&trained(&history, &Events::default()), &history, &actual);
        (sum.0 + with, sum.1 + without)
    })
}

#[test]
fn a_coming_promotion_is_forecast_from_those_before() {
    let (with, without) = on_the_day(&promotions(), 2.5);
    assert!(with < 0.5 * without, "{with} with the calendar, {without} without");
}

#[test]
fn a_coming_holiday_too() {
    let (with, without) = on_the_day(&whole_days("holiday"), 0.4);
    assert!(with < 0.5 * without, "{with} with the calendar, {without} without");
}

#[test]
fn the_days_after_a_promotion_are_forecast_as_if_there_had_been_none() {
    let (mut with, mut without, mut never) = (0.0, 0.0, 0.0);
    for seed in 0..2 {
        // Trained on the evening of the sixth promotion, then two weeks of days after it.
        let events = promotions();
        let now = day(DAYS[5]) + TimeDelta::hours(20);
        let actual = load(seed, &events, 2.5, day(DAYS[6]));
        let quiet = load(seed, &events, 1.0, day(DAYS[6]));
        let models = [
            trained(&until(&actual, now), &events),
            trained(&until(&actual, now), &Events::default()),
            trained(&until(&quiet, now), &Events::default()),
        ];
        for hours in (0..72).step_by(6) {
            let origin = now + TimeDelta::hours(hours);
            with += error(&models[0], &until(&actual, origin), &quiet);
            without += error(&models[1], &until(&actual, origin), &quiet);
            never += error(&models[2], &until(&quiet, origin), &quiet);
        }
    }
    let all = format!("{with} with a calendar, {without} without, {never} without promotions");
    assert!(with < 1.1 * never && with < without, "{all}");
}

/// A kind that multiplies by `factor`, learned from two occurrences.
fn kind(name: &str, factor: f64) -> Kind {
    let (level, shape) = (factor.ln(), Vec::new());
    Kind { name: name.into(), learned_from: 2, level, shape, deviation: 0.0 }
}

/// Two hours from 1 and from 10 o'clock, in minutes of the first day.
fn effects(factor: f64) -> Effects {
    let at = |minute| start() + TimeDelta::minutes(minute);
    let sale = |m| Event { kind: "sale".into(), from: at(m), to: at(m + 120) };
    let mut effects = Effects { kinds: vec![kind("sale", factor)], ..Effects::default() };
    effects.schedule(&Events::new([sale(60), sale(630)]));
    effects
}

fn removed(effects: &Effects, first_hour: i64, values: &[f64]) -> Option<Vec<f64>> {
    let start_ms = (start() + TimeDelta::hours(first_hour)).timestamp_millis();
    let removed = effects.removed(values, start_ms, HOUR.as_millis() as i64)?;
    Some(removed.iter().map(|v| (v * 1e9).round() / 1e9).collect())
}

#[test]
fn a_step_is_divided_by_the_share_of_the_effect_that_it_has() {
    let doubled = effects(2.0);
    assert_eq!(removed(&doubled, 0, &[6.0; 4]), Some(vec![6.0, 3.0, 3.0, 6.0]));
    // Half of 10 and of 12 o'clock: 1 + 0.5 x (2 - 1).
    assert_eq!(removed(&doubled, 9, &[6.0; 5]), Some(vec![6.0, 4.0, 3.0, 4.0, 6.0]));
    assert_eq!(removed(&doubled, 3, &[6.0; 4]), None, "nothing happens from 3 to 7");
    // With a floor of 1 a closed service is taken back to (0 + 1) x 4 - 1.
    let closed = Effects { floor: 1.0, ..effects(0.25) };
    assert_eq!(removed(&closed, 1, &[0.0, 0.0]), Some(vec![3.0, 3.0]));
    let gap = removed(&doubled, 0, &[6.0, f64::NAN, 6.0]).unwrap();
    assert!(gap[1].is_nan() && gap[2] == 3.0);
}

#[test]
fn a_forecast_is_multiplied_and_widened_within_events_alone() {
    let forecast = || crate::forecast::Forecast {
        method: crate::forecast::Method::Naive,
        origin: start(),
        step_ms: HOUR.as_millis() as u64,
        quantiles: vec![0.1, 0.5, 0.9],
        point: vec![4.0; 3],
        paths: vec![vec![3.0; 3], vec![4.0; 3], vec![6.0; 3]],
        peaks: vec![vec![3.0; 3], vec![4.0, 5.0, 5.0], vec![6.0, 6.0, 7.0]],
    };
    let near = |got: &[f64], want: [f64; 3]| {
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9), "{got:?}, not {want:?}");
    };
    let mut doubled = forecast();
    effects(2.0).apply(&mut doubled);
    near(&doubled.point, [4.0, 8.0, 8.0]);
    near(&doubled.paths[2], [6.0, 12.0, 12.0]);
    // The peak was 1 over its highest step, and grows with it.
    near(&doubled.peaks[1], [4.0, 10.0, 10.0]);
    near(&doubled.peaks[2], [6.0, 12.0, 14.0]);

    // The logistic deviate of 0.9 is ln(9) x 0.5513 = 1.2114: 4 x (e^0.12114 - 1) = 0.5151 beside
    // the 2 that the load spreads by itself, twice hypot(2, 0.5151) = 2 x 2.0653 above 8.
    let mut unsure = effects(2.0);
    unsure.kinds[0].deviation = 0.1;
    let mut wider = forecast();
    unsure.apply(&mut wider);
    assert!((wider.paths[2][1] - 12.1305).abs() < 1e-3, "{:?}", wider.paths[2]);
    assert_eq!((wider.paths[2][0], wider.paths[1][1]), (6.0, 8.0));
}

#[test]
fn the_card_says_what_was_learned_and_what_was_not() {
    let history = load(1, &promotions(), 2.5, day(40));
    let unseen = Event { kind: "unseen".into(), from: day(41), to: day(42) };
    let again = promotions();
    let sales = again.spans().map(|(kind, from, to)| Event { kind: kind.into(), from, to });
    let events = Events::new(sales.chain([unseen]));
    let start_ms = start().timestamp_millis();
    let effects = Effects::fit(history.values(), start_ms, 3_600_000, &events).unwrap();
    let [sale, unseen] = <[EventEffect; 2]>::try_from(effects.card()).unwrap();
    // Seven of the eight promotions lie in the history.
    assert_eq!((sale.kind.as_str(), sale.occurrences), ("sale", 7));
    assert!((sale.factor - 2.5).abs() < 0.1, "{sale:?}");
    assert!(sale.low < 2.5 && sale.high > 2.5 && sale.high < 3.5, "{sale:?}");
    let unknown =
        EventEffect { kind: "unseen".into(), occurrences: 0, factor: 1.0, low: 1.0, high: 1.0 };
    assert_eq!(unseen, unknown);
}

#[test]
fn kinds_that_overlap_are_told_apart() {
    // Sales on all days of the list, of which two are holidays, and two holidays without a sale.
    let holiday = |d| Event { kind: "holiday".into(), from: day(d), to: day(d + 1) };
    let holidays = Events::new([9, 15, 26, 30].map(holiday));
    let sales = load(3, &promotions(), 2.0, day(42));
    let both = load(3, &holidays, 0.5, day(42));
    let plain = load(3, &Events::default(), 1.0, day(42));
    let values: Vec<f64> = (0..sales.len())
        .map(|i| sales.values()[i] * both.values()[i] / plain.values()[i])
        .collect();
    let sale = |d| Event {
        kind: "sale".into(),
        from: day(d) + TimeDelta::hours(8),
        to: day(d) + TimeDelta::hours(20),
    };
    let events = Events::new(DAYS.map(sale).into_iter().chain([9, 15, 26, 30].map(holiday)));
    let effects = Effects::fit(&values, start().timestamp_millis(), 3_600_000, &events).unwrap();
    let factors: Vec<f64> = effects.card().iter().map(|e| e.factor).collect();
    assert!((factors[0] - 0.5).abs() < 0.06 && (factors[1] - 2.0).abs() < 0.15, "{factors:?}");
    let removed = effects.removed(&values, start().timestamp_millis(), 3_600_000).unwrap();
    let off =
        removed.iter().zip(plain.values()).map(|(r, p)| (r / p).ln().abs()).fold(0.0, f64::max);
    assert!(off < 0.4, "{off}");
}

#[test]
fn without_events_nothing_changes_and_a_new_calendar_needs_no_training() {
    let history = until(&load(0, &promotions(), 2.5, day(45)), day(30));
    let plain = trained(&history, &Events::default());
    let json = serde_json::to_string(&plain).unwrap();
    assert!(plain.effects.is_none() && !json.contains("effects"), "the file is as it ever was");
    let tomorrow = Events::new([Event { kind: "sale".into(), from: day(30), to: day(31) }]);
    let mut scheduled = plain.clone();
    scheduled.schedule(&tomorrow);
    let forecast = |model: &Model| model.forecast(&history, HORIZON, &QUANTILES).unwrap();
    assert_eq!(forecast(&scheduled), forecast(&plain), "what a sale does is not known");

    let learned = trained(&history, &promotions());
    let mut scheduled = learned.clone();
    scheduled.schedule(&tomorrow);
    let ratio = forecast(&scheduled).point[12] / forecast(&learned).point[12];
    assert!((2.0..3.0).contains(&ratio), "{ratio}");
    let back: Model = serde_json::from_str(&serde_json::to_string(&scheduled).unwrap()).unwrap();
    assert_eq!(back, scheduled);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_values_stay_finite_and_forecasts_ordered(
        pieces in prop::collection::vec((0usize..5, 1usize..60, -1e3f64..1e6), 1..6),
        spans in prop::collection::vec((0usize..3, -500i64..20_000, 1i64..6_000), 0..12),
    ) {
        let values: Vec<f64> = pieces.iter().flat_map(|&(shape, length, size)| {
            (0..length).map(move |i| match shape {
                0 => f64::NAN,
                1 => size,
                2 => size * 1e294,
                3 => if i % 17 == 0 { size } else { 0.0 },
                _ => size * (i as f64 / 3.0).sin(),
            })
        }).collect();
        let at = |minute| start() + TimeDelta::minutes(minute);
        let event = |&(kind, from, long): &(usize, i64, i64)| {
            Event { kind: format!("k{kind}"), from: at(from), to: at(from + long) }
        };
        let events = Events::new(spans.iter().map(event));
        let start_ms = start().timestamp_millis();
        if let Some(effects) = Effects::fit(&values, start_ms, 3_600_000, &events) {
            for effect in effects.card() {
                prop_assert!(effect.low <= effect.factor && effect.factor <= effect.high);
                prop_assert!(effect.low > 0.0 && effect.high.is_finite(), "{effect:?}");
            }
            if let Some(removed) = effects.removed(&values, start_ms, 3_600_000) {
                let same = |(r, v): (&f64, &f64)| r.is_finite() == v.is_finite();
                prop_assert!(removed.iter().zip(&values).all(same), "{removed:?}");
            }
            let path = |q: f64| (0..40).map(|h| q * f64::from(h)).collect::<Vec<f64>>();
            let mut forecast = crate::forecast::Forecast {
                method: crate::forecast::Method::Naive,
                origin: at(6_000),
                step_ms: 3_600_000,
                quantiles: QUANTILES.to_vec(),
                point: path(0.5),
                paths: QUANTILES.map(path).to_vec(),
                peaks: QUANTILES.map(|q| path(q + 0.1)).to_vec(),
            };
            effects.apply(&mut forecast);
            for paths in [&forecast.paths, &forecast.peaks] {
                for h in 0..40 {
                    let column: Vec<f64> = paths.iter().map(|path| path[h]).collect();
                    prop_assert!(column.iter().all(|v| v.is_finite() && *v >= 0.0), "{column:?}");
                    prop_assert!(column.is_sorted(), "{column:?}");
                }
            }
            for (path, peak) in forecast.paths.iter().zip(&forecast.peaks) {
                prop_assert!(peak.is_sorted() && path.iter().zip(peak).all(|(s, p)| s <= p));
            }
            prop_assert_eq!(&forecast.point, &forecast.paths[4]);
        }
    }
}
