//! Pure: round numbers and round instants for the axes of a picture, and how to write them.

use chrono::DateTime;

use crate::series::Time;

/// About `count` round values, at least two, ascending, that enclose `low..=high`, both 0 or more;
/// from 0 to 1 if there is nothing to enclose.
pub fn round_values(low: f64, high: f64, count: usize) -> Vec<f64> {
    // The top value may lie a step above `high`, and must not leave the range of numbers.
    let [low, high] = [low, high].map(|v| v.clamp(0.0, f64::MAX / 4.0));
    if !(high > low && high - low > f64::MIN_POSITIVE) {
        return vec![0.0, 0.5, 1.0];
    }
    let raw = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let distance = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|d| *d >= raw);
    let distance = distance.unwrap_or(raw);
    let [first, last] = [(low / distance).floor(), (high / distance).ceil()];
    (0..=(last - first) as usize).map(|i| (first + i as f64) * distance).collect()
}

/// 0 and round values up to `highest`, at least `room` pixels apart, for an axis of `length` pixels
/// with a square-root scale, which keeps small values apart beside large ones.
pub fn root_values(highest: f64, length: f64, room: f64) -> Vec<f64> {
    let mut values = vec![0.0];
    if !(highest > 0.0 && highest.is_finite()) {
        return values;
    }
    let top = highest.log10().floor() as i32;
    let round = (top - 8..=top).flat_map(|power| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(power)));
    let mut last = 0.0;
    for value in round.filter(|value| *value <= highest) {
        let place = length * (value / highest).sqrt();
        if place - last >= room {
            values.push(value);
            last = place;
        }
    }
    values
}

/// How to write values of which neighbours are `distance` apart and the greatest is `highest`: all
/// of an axis in the same unit.
pub fn value_label(value: f64, distance: f64, highest: f64) -> String {
    const UNITS: [(f64, f64, &str); 4] =
        [(1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-6..1e15).contains(&highest) {
        return format!("{value:.1e}");
    }
    let unit = UNITS.into_iter().find(|(from, ..)| highest >= *from);
    let (_, size, name) = unit.unwrap_or((0.0, 1.0, ""));
    let decimals = (-(distance / size).log10()).ceil().clamp(0.0, 9.0) as usize;
    format!("{:.decimals$}{name}", value / size)
}

/// An instant on the time axis: below it the time, and below that, where a new day begins to be
/// told, the day.
#[derive(Debug, Clone, PartialEq)]
pub struct Instant {
    pub ms: i64,
    pub time: String,
    pub day: Option<String>,
}

/// At most `count` instants within `from..=to` (milliseconds since 1970) that are round in UTC.
pub fn round_instants(from: i64, to: i64, count: usize) -> Vec<Instant> {
    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    const SECONDS: [i64; 9] = [1, 5, 15, 30, 60, 300, 600, 900, 1_800];
    const HOURS: [i64; 5] = [1, 2, 3, 6, 12];
    const DAYS: [i64; 8] = [1, 2, 7, 14, 28, 91, 182, 364];
    let round = SECONDS.map(|s| s * SECOND).into_iter();
    let round = round.chain(HOURS.map(|h| h * HOUR)).chain(DAYS.map(|d| d * DAY));
    let inside = |distance: i64| to.div_euclid(distance) - (from - 1).div_euclid(distance);
    let distance = round.into_iter().find(|d| inside(*d) <= count as i64);
    let Some(distance) = distance.filter(|_| from <= to) else { return Vec::new() };
    let (time_format, day_format) = match distance {
        d if d < 60 * SECOND => ("%H:%M:%S", "%-d %b %Y"),
        d if d < DAY => ("%H:%M", "%a %-d %b %Y"),
        _ => ("%-d %b", "%Y"),
    };
    let first = (from - 1).div_euclid(distance) + 1;
    let mut told = None;
    (first..first + inside(distance))
        .filter_map(|i| DateTime::from_timestamp_millis(i * distance))
        .map(|at: Time| {
            let day = at.format(day_format).to_string();
            let new = told.as_ref() != Some(&day);
            told = Some(day.clone());
            let time = at.format(time_format).to_string();
            Instant { ms: at.timestamp_millis(), time, day: new.then_some(day) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_round_and_enclose() {
        let check = |low, high, want: &[&str]| {
            let values = round_values(low, high, 4);
            let distance = values[1] - values[0];
            let highest = *values.last().unwrap();
            let labels: Vec<String> =
                values.iter().map(|v| value_label(*v, distance, highest)).collect();
            assert_eq!(labels, want, "{low}..{high}");
        };
        check(0.0, 7.3, &["0", "2", "4", "6", "8"]);
        check(0.0, 0.9, &["0", "0.5", "1.0"]);
        check(41.0, 44.5, &["41", "42", "43", "44", "45"]);
        check(0.0, 1_900.0, &["0", "500", "1000", "1500", "2000"]);
        check(0.0, 8e4, &["0", "20k", "40k", "60k", "80k"]);
        check(0.0, 5.1e6, &["0", "2M", "4M", "6M"]);
        check(0.0, 3e300, &["0", "1.0e300", "2.0e300", "3.0e300"]);
        check(0.0, 0.0, &["0", "0.5", "1.0"]);
        check(0.0, f64::NAN, &["0", "0.5", "1.0"]);
    }

    #[test]
    fn root_values_are_round_and_apart() {
        // Of 100 pixels for 0.09, 0.01 is at a third, 0.02 at 47, 0.05 at 75.
        assert_eq!(root_values(0.09, 100.0, 25.0), [0.0, 0.01, 0.05]);
        assert_eq!(root_values(600.0, 270.0, 30.0), [0.0, 10.0, 50.0, 100.0, 200.0, 500.0]);
        for nothing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(root_values(nothing, 100.0, 25.0), [0.0]);
        }
    }

    #[test]
    fn instants_are_round_and_a_day_is_told_once() {
        let check = |from, to, count, want: &[(&str, Option<&str>)]| {
            let instants = round_instants(from, to, count);
            let got: Vec<_> =
                instants.iter().map(|i| (i.time.as_str(), i.day.as_deref())).collect();
            assert_eq!(got, want);
        };
        let (hour, day) = (3_600_000, 86_400_000);
        let first = Some("1 Jan 1970");
        check(500, 3_500, 3, &[("00:00:01", first), ("00:00:02", None), ("00:00:03", None)]);
        let [thursday, friday] = [Some("Thu 1 Jan 1970"), Some("Fri 2 Jan 1970")];
        check(15 * hour, 30 * hour, 3, &[("18:00", thursday), ("00:00", friday), ("06:00", None)]);
        let [old, new] = [Some("1970"), Some("1971")];
        check(330 * day, 400 * day, 4, &[("3 Dec", old), ("31 Dec", None), ("28 Jan", new)]);
        check(5, 4, 9, &[]);
        check(0, i64::MAX, 9, &[]);
    }

    proptest! {
        #[test]
        fn whatever_the_range_there_are_few(
            from in 0i64..7_258_118_400_000,
            length in 0i64..900_000_000_000,
            low in 0.0f64..1e300,
            high in 0.0f64..1e300,
        ) {
            prop_assert!(round_instants(from, from + length, 8).len() <= 8);
            let values = round_values(low, high, 5);
            prop_assert!(values.len() <= 9 && values.is_sorted(), "{values:?}");
            prop_assert!(low >= high || values[0] <= low && *values.last().unwrap() >= high * 0.25);
        }
    }
}
