//! I/O: pictures as SVG: history and forecast with its fan of quantiles.

use std::path::Path;

use chrono::DateTime;
use plotters::prelude::*;

use crate::forecast::Forecast;
use crate::series::{Series, Time};

const SIZE: (u32, u32) = (960, 420);
const HISTORY: RGBColor = RGBColor(68, 68, 68);
const FORECAST: RGBColor = RGBColor(21, 101, 192);
/// Most instants on the time axis.
const MAX_TICKS: usize = 9;
/// Opacity of one band of the fan; the bands lie on each other, so the middle is darkest.
const BAND: f64 = 0.18;

/// Draws `history` and after it `forecast`: the median as a line, each pair of quantiles that lie
/// as far from the median as a band. Gaps of the history are left open.
///
/// # Errors
/// Why the file cannot be written, or that there is nothing to draw.
pub fn forecast_svg(
    path: &Path,
    title: &str,
    history: &Series,
    forecast: &Forecast,
) -> Result<(), String> {
    let mut svg = String::new();
    draw(&mut svg, title, history, forecast).map_err(|e| e.to_string())?;
    std::fs::write(path, svg).map_err(|e| e.to_string())
}

fn draw(
    svg: &mut String,
    title: &str,
    history: &Series,
    forecast: &Forecast,
) -> Result<(), Box<dyn std::error::Error>> {
    let step_ms = forecast.step_ms as i64;
    let seen: Vec<(i64, f64)> =
        (0..history.len()).map(|i| (millis(history.time_at(i)), history.values()[i])).collect();
    let path = |values: &[f64]| -> Vec<(i64, f64)> {
        let times = (0..).map(|h| millis(forecast.origin) + step_ms * h);
        let newest = seen.last().copied().filter(|(_, v)| v.is_finite());
        newest.into_iter().chain(times.zip(values.iter().copied())).collect()
    };
    let all = || seen.iter().copied().chain(forecast.paths.iter().flat_map(|p| path(p)));
    let times = || all().map(|(ms, _)| ms);
    let (Some(from), Some(to)) = (times().min(), times().max()) else {
        return Err("nothing to draw".into());
    };
    let top = all().map(|(_, v)| v).chain(forecast.point.iter().copied()).fold(0.0, f64::max);
    let top = if top > 0.0 { 1.05 * top } else { 1.0 };

    let (ticks, format) = ticks(from, to + step_ms);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d((from..to + step_ms).with_key_points(ticks), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(MAX_TICKS)
        .x_label_formatter(&|ms| label(*ms, format))
        .draw()?;
    for (low, high) in bands(forecast) {
        let back = path(high).into_iter().rev();
        let outline: Vec<_> = path(low).into_iter().chain(back).collect();
        chart.draw_series([Polygon::new(outline, FORECAST.mix(BAND))])?;
    }
    for run in seen.split(|(_, v)| v.is_nan()).filter(|run| !run.is_empty()) {
        chart.draw_series(LineSeries::new(run.iter().copied(), HISTORY))?;
    }
    chart.draw_series(LineSeries::new(path(&forecast.point), FORECAST.stroke_width(2)))?;
    root.present()?;
    Ok(())
}

/// Pairs of paths whose quantiles add up to 1, the widest first.
fn bands(forecast: &Forecast) -> impl Iterator<Item = (&[f64], &[f64])> {
    let paths = || forecast.quantiles.iter().zip(&forecast.paths);
    paths().filter(|(q, _)| **q < 0.5).filter_map(move |(low, below)| {
        let (_, above) = paths().find(|(high, _)| (**high - (1.0 - low)).abs() < 1e-9)?;
        Some((below.as_slice(), above.as_slice()))
    })
}

/// Instants between `from` and `to` that are round in UTC, and how to write them.
fn ticks(from: i64, to: i64) -> (Vec<i64>, &'static str) {
    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600 * SECOND;
    const ROUND: [i64; 6] =
        [SECOND, 5 * SECOND, 15 * SECOND, 60 * SECOND, 300 * SECOND, 900 * SECOND];
    const ROUND_HOURS: [i64; 6] = [1, 3, 6, 12, 24, 7 * 24];
    let few = |distance: &i64| (to - from) / distance < MAX_TICKS as i64;
    let hours = ROUND_HOURS.map(|h| h * HOUR);
    let distance = ROUND.into_iter().chain(hours).find(few).unwrap_or((to - from).max(1));
    let first = from.div_euclid(distance) * distance + distance;
    let format = match distance {
        d if d < 60 * SECOND => "%H:%M:%S",
        d if d < 24 * HOUR => "%m-%d %H:%M",
        _ => "%Y-%m-%d",
    };
    ((first..=to).step_by(distance.unsigned_abs() as usize).collect(), format)
}

fn millis(time: Time) -> i64 {
    time.timestamp_millis()
}

fn label(ms: i64, format: &str) -> String {
    DateTime::from_timestamp_millis(ms).map_or_else(String::new, |t| t.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::forecast::Method;

    fn forecast(steps: usize) -> Forecast {
        let path = |v: f64| vec![v; steps];
        Forecast {
            method: Method::Naive,
            origin: DateTime::from_timestamp_millis(4_000).unwrap(),
            step_ms: 1_000,
            quantiles: vec![0.1, 0.25, 0.5, 0.9],
            point: path(2.0),
            paths: vec![path(1.0), path(1.5), path(2.0), path(3.0)],
            peaks: vec![path(1.0), path(1.5), path(2.0), path(3.0)],
        }
    }

    #[test]
    fn a_picture_has_a_band_for_each_pair_and_a_line_for_each_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        let values = vec![1.0, 2.0, f64::NAN, 3.0];
        let history = Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(1), values);
        forecast_svg(&path, "a <b> & c", &history, &forecast(3)).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert_eq!(svg.matches("<polygon").count(), 1, "0.1 has its 0.9, 0.25 has no 0.75");
        assert!(svg.ends_with("</svg>\n") && svg.contains("a &lt;b&gt; &amp; c"));
        assert!(forecast_svg(&folder.path().join("no/a.svg"), "", &history, &forecast(3)).is_err());
    }

    #[test]
    fn ticks_are_round_and_few() {
        let check = |from, to, want: &[&str]| {
            let (ticks, format) = ticks(from, to);
            let labels: Vec<String> = ticks.into_iter().map(|ms| label(ms, format)).collect();
            assert_eq!(labels, want);
        };
        check(500, 3_500, &["00:00:01", "00:00:02", "00:00:03"]);
        check(
            0,
            7 * 900_000 - 1,
            &[
                "01-01 00:15",
                "01-01 00:30",
                "01-01 00:45",
                "01-01 01:00",
                "01-01 01:15",
                "01-01 01:30",
            ],
        );
        check(
            1,
            2 * 86_400_000,
            &[
                "01-01 06:00",
                "01-01 12:00",
                "01-01 18:00",
                "01-02 00:00",
                "01-02 06:00",
                "01-02 12:00",
                "01-02 18:00",
                "01-03 00:00",
            ],
        );
        check(0, 3 * 86_400_000 * 365, &["1972-12-31"]);
    }

    #[test]
    fn nothing_to_draw_is_an_error_and_zeros_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        let empty = Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(1), vec![]);
        assert!(forecast_svg(&path, "", &empty, &forecast(0)).is_err());
        let zeros = Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(1), vec![0.0, f64::NAN]);
        forecast_svg(&path, "", &zeros, &forecast(0)).unwrap();
    }
}
