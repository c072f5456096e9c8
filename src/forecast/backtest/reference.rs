//! Pure: the two bars that every method must clear: the last value, and the last season repeated.
//!
//! They stand apart from the trainer's candidates of the same names, whose points its calibration
//! moves: here they are what anybody would compute by hand, so that a better trainer shows as a
//! better score and never as a moved bar. The intervals are the quantiles of what the same rule
//! would have missed so far, step by step ahead.

use crate::forecast::QUANTILES;

/// Point forecast and `paths[q][h]` for [`QUANTILES`], both of `horizon` steps.
pub type Paths = (Vec<f64>, Vec<Vec<f64>>);

/// Repeats the last `season` of `values`, which have no gaps; a season of one step is the last
/// value. `None` if there is no whole season.
pub fn repeat(values: &[f64], season: usize, horizon: usize) -> Option<Paths> {
    let n = values.len();
    if season == 0 || n < season {
        return None;
    }
    let mut point = Vec::with_capacity(horizon);
    let mut paths = vec![Vec::with_capacity(horizon); QUANTILES.len()];
    let (mut lag, mut missed) = (0, [0.0; QUANTILES.len()]);
    for ahead in 1..=horizon {
        let whole_seasons = season * ahead.div_ceil(season);
        if whole_seasons != lag {
            (lag, missed) = (whole_seasons, error_quantiles(values, whole_seasons));
        }
        let value = values[n - 1 + ahead - lag];
        point.push(value);
        for (path, miss) in paths.iter_mut().zip(missed) {
            path.push((value + miss).max(0.0));
        }
    }
    Some((point, paths))
}

/// [`QUANTILES`] of x(t) - x(t - lag), linear between neighbours; zeros where there is none.
fn error_quantiles(values: &[f64], lag: usize) -> [f64; QUANTILES.len()] {
    let later = values.iter().skip(lag);
    let mut errors: Vec<f64> = later.zip(values).map(|(now, then)| now - then).collect();
    errors.sort_by(f64::total_cmp);
    let Some(last) = errors.len().checked_sub(1) else { return [0.0; QUANTILES.len()] };
    QUANTILES.map(|q| {
        let rank = q * last as f64;
        let (low, high) = (errors[rank as usize], errors[(rank as usize + 1).min(last)]);
        low + rank.fract() * (high - low)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_season_comes_again_and_so_do_its_errors() {
        let check = |values: &[f64], season, want: Option<&[f64]>| {
            assert_eq!(repeat(values, season, 5).map(|(point, _)| point).as_deref(), want);
        };
        check(&[1.0, 2.0, 3.0], 1, Some(&[3.0; 5]));
        check(&[9.0, 1.0, 2.0, 3.0], 3, Some(&[1.0, 2.0, 3.0, 1.0, 2.0]));
        check(&[1.0, 2.0], 3, None);
        check(&[1.0, 2.0], 0, None);
        check(&[], 1, None);

        // A ramp of one a step is missed by one after a step, by two after two.
        let ramp: Vec<f64> = (0..50).map(f64::from).collect();
        let (_, paths) = repeat(&ramp, 1, 2).unwrap();
        assert!(paths.iter().all(|path| path == &[50.0, 51.0]), "{paths:?}");
        // Errors of the last step: -2, 1, 1, 4 (sorted). Their median is 1, and the quantile 0.9
        // has rank 2.7: 1 + 0.7 * 3 = 3.1.
        let errors = error_quantiles(&[5.0, 6.0, 4.0, 8.0, 9.0], 1);
        assert!((errors[4] - 1.0).abs() < 1e-12 && (errors[6] - 3.1).abs() < 1e-12, "{errors:?}");
    }

    proptest! {
        #[test]
        fn quantiles_are_ordered_and_not_negative(
            values in prop::collection::vec(0.0f64..1e300, 1..60),
            season in 1usize..40,
            horizon in 1usize..30,
        ) {
            if let Some((point, paths)) = repeat(&values, season, horizon) {
                prop_assert_eq!(point.len(), horizon);
                for pair in paths.windows(2) {
                    prop_assert!(pair[0].iter().zip(&pair[1]).all(|(a, b)| 0.0 <= *a && a <= b));
                }
            } else {
                prop_assert!(values.len() < season);
            }
        }
    }
}
