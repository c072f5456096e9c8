//! Pure: tests of the ridge regression.

use linfa::traits::Predict;

use super::*;

/// Columns: a ramp, a zigzag, the ramp again, a constant.
fn records(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, 4), |(i, j)| match j {
        1 => (i % 5) as f64,
        3 => 2.5,
        _ => i as f64 / n as f64,
    })
}

#[test]
fn ridge_finds_the_weights_that_made_the_targets() {
    let x = records(200);
    let y = Array2::from_shape_fn((200, 2), |(i, t)| match t {
        0 => 3.0 + 2.0 * x[[i, 0]] - x[[i, 1]],
        _ => 0.5 * x[[i, 1]],
    });
    let data = DatasetBase::new(x.clone(), y.clone());
    let fitted = Ridge { penalty: 1e-9 }.fit(&data).unwrap();
    // The ramp is there twice and shares its weight of 2; the constant gets none.
    let want = [[1.0, 0.0], [-1.0, 0.5], [1.0, 0.0], [0.0, 0.0]];
    for (got, want) in fitted.weights.iter().zip(want.as_flattened()) {
        assert!((got - want).abs() < 1e-4, "{:?}", fitted.weights);
    }
    let worst = (fitted.predict(&x) - y).mapv(f64::abs).into_iter().fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn a_heavy_penalty_leads_to_the_mean() {
    let x = records(100);
    let y = x.columns().into_iter().next().unwrap().to_owned().insert_axis(Axis(1));
    let mean = y.mean().unwrap();
    let fitted = Ridge { penalty: 1e9 }.fit(&DatasetBase::new(x.clone(), y)).unwrap();
    assert!(fitted.predict(&x).iter().all(|v| (v - mean).abs() < 1e-6));
}

#[test]
fn what_is_not_finite_is_an_error() {
    let mut x = records(50);
    x[[7, 1]] = f64::NAN;
    let data = DatasetBase::new(x, Array2::zeros((50, 1)));
    assert!(matches!(
        Ridge { penalty: 0.1 }.fit(&data),
        Err(RidgeError::Forecast(ForecastError::Singular(_)))
    ));
}
