//! Pure: tests of the series: resampling, gaps and lower bounds.

use super::*;

fn at(ms: i64) -> Time {
    DateTime::from_timestamp_millis(ms).expect("in range")
}

/// Compares with NaN equal to NaN.
fn check(got: &[f64], want: &[f64]) {
    let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
    assert!(got.len() == want.len() && got.iter().zip(want).all(same), "{got:?} is not {want:?}");
}

const GAP: f64 = f64::NAN;

#[test]
fn points_are_averaged_by_step_and_missing_steps_are_gaps() {
    let s = Series::from_points(
        &[(2_500, 3.0), (1_000, 1.0), (1_900, 2.0), (4_000, 5.0)],
        Duration::from_secs(1),
    );
    let s = s.unwrap();
    assert_eq!(s.start(), at(1_000));
    check(s.values(), &[1.5, 3.0, GAP, 5.0]);
    assert_eq!(s.end(), at(5_000));
    assert_eq!((s.index_at(at(3_999)), s.index_at(at(999))), (Some(2), None));
}

#[test]
fn impossible_spans_and_empty_input_are_refused() {
    let sec = Duration::from_secs(1);
    assert_eq!(Series::from_points::<Point>(&[], sec), Err(SeriesError::Empty));
    assert_eq!(Series::from_points(&[(0, GAP)], sec), Err(SeriesError::Empty));
    assert!(matches!(
        Series::from_points(&[(i64::MIN, 1.0), (i64::MAX, 1.0)], sec),
        Err(SeriesError::TooLong { .. })
    ));
    assert!(matches!(Series::from_points(&[(0, 1.0)], Duration::ZERO), Err(SeriesError::Step(_))));
}

#[test]
fn gaps_are_filled_on_lines_and_edges_with_the_nearest() {
    let s = Series::new(at(0), Duration::from_secs(1), vec![GAP, 1.0, GAP, GAP, 4.0, GAP]);
    check(s.fill_linear().values(), &[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
}

#[test]
fn blocks_are_whole_and_counted_from_the_first_value() {
    let s = Series::new(at(0), Duration::from_secs(1), vec![1.0, GAP, 3.0, GAP, GAP, GAP, 7.0]);
    check(s.blocks(Duration::from_secs(3)).values(), &[2.0, GAP]);
    check(s.blocks(Duration::from_millis(2_500)).values(), s.values());
}

#[test]
fn a_series_survives_json_with_its_gaps_and_lower_bounds() {
    let s = Series::new(at(5), Duration::from_millis(250), vec![0.1, GAP, 0.3]);
    for s in [s.clone(), s.with_lower_bounds(vec![true])] {
        let json = serde_json::to_string(&s).unwrap();
        assert_eq!(json.contains("lower_bounds"), s.lower_bounds().is_some(), "{json}");
        let back: Series = serde_json::from_str(&json).unwrap();
        assert_eq!((back.start(), back.step()), (s.start(), s.step()));
        assert_eq!(back.lower_bounds(), s.lower_bounds());
        check(back.values(), s.values());
    }
}

/// Steps of a second that are lower bounds.
fn bounded(s: &Series) -> Vec<usize> {
    assert!(s.lower_bounds().is_none_or(|flags| flags.len() == s.len()));
    assert!(s.lower_bounds().is_none_or(|flags| flags.contains(&true)), "costs for nothing");
    (0..s.len()).filter(|&i| s.is_lower_bound(i)).collect()
}

#[test]
fn lower_bounds_go_wherever_their_values_go() {
    let point = |ms, value, lower_bound| Point { ms, value, lower_bound };
    let points = [
        point(0, 1.0, false),
        point(1_000, 5.0, true),
        point(1_500, 3.0, false),
        point(2_000, GAP, true),
        point(4_000, 2.0, true),
    ];
    let mut s = Series::from_points(&points, Duration::from_secs(1)).unwrap();
    check(s.values(), &[1.0, 4.0, GAP, GAP, 2.0]);
    // One saturated point makes the step a lower bound; a gap is none.
    assert_eq!(bounded(&s), [1, 4]);
    assert_eq!(bounded(&s.fill_linear()), [1, 4]);
    // (1 + 4) / 2, a gap; the last block is not whole.
    assert_eq!(bounded(&s.blocks(Duration::from_secs(2))), [0]);
    assert_eq!(bounded(&s.slice(1..4)), [0]);
    assert!(bounded(&s.slice(2..4)).is_empty());
    s.push(7.0);
    s.set_last(8.0, true);
    assert_eq!(bounded(&s), [1, 4, 5]);
    s.truncate_front(2);
    assert_eq!((bounded(&s), s.values()), (vec![0, 1], &[2.0, 8.0][..]));
    s.set_last(8.0, false);
    s.push(1.0);
    assert_eq!(bounded(&s), [0]);
    s.truncate_front(2);
    assert_eq!(s, Series::new(at(5_000), Duration::from_secs(1), vec![8.0, 1.0]));
    s.set_last(GAP, true);
    assert!(bounded(&s).is_empty());
}
