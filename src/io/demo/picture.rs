//! I/O: the demo as a picture: load, what was forecast for it, and the capacity that was ready.

use std::path::Path;

use plotters::prelude::*;

use super::scenario::Scenario;
use super::view::Point;

/// Writes an SVG; an error says what is wrong with the file.
pub fn write(path: &Path, points: &[Point], scenario: &Scenario) -> Result<(), String> {
    let mut svg = String::new();
    draw(&mut svg, points, scenario).map_err(|e| e.to_string())?;
    std::fs::write(path, svg).map_err(|e| e.to_string())
}

type DrawError = Box<dyn std::error::Error>;

fn draw(svg: &mut String, points: &[Point], scenario: &Scenario) -> Result<(), DrawError> {
    let area = SVGBackend::with_string(svg, (1_000, 380)).into_drawing_area();
    area.fill(&WHITE)?;
    let end = scenario.duration.as_secs_f64();
    let top = points.iter().map(|p| p.supply.max(p.demand.unwrap_or(0.0))).fold(0.5, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..end, 0.0..top * 1.15)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(format!("seconds; a day has {:.0}", scenario.day.as_secs_f64()))
        .y_desc("cores")
        .draw()?;
    let legend =
        |style: ShapeStyle| move |(x, y)| Rectangle::new([(x, y - 3), (x + 16, y + 3)], style);
    let band = RGBColor(240, 178, 50).mix(0.45);
    chart
        .draw_series(band_shape(points).map(|p| Polygon::new(p, band)))?
        .label("forecast one startup delay before, 10 % to 90 %")
        .legend(legend(band.filled()));
    let supply = RGBColor(40, 140, 80).stroke_width(2);
    chart
        .draw_series(LineSeries::new(steps(points), supply))?
        .label("ready capacity")
        .legend(legend(supply.filled()));
    let load = RGBColor(30, 80, 180).stroke_width(1);
    let demand = points.iter().filter_map(|p| Some((p.at.as_secs_f64(), p.demand?)));
    chart
        .draw_series(LineSeries::new(demand, load))?
        .label("load (CPU of all workers)")
        .legend(legend(load.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}

/// The band's outline, up the low edge and back along the high one; none where nothing was
/// forecast.
fn band_shape(points: &[Point]) -> Option<Vec<(f64, f64)>> {
    let band: Vec<(f64, [f64; 2])> = points
        .iter()
        .filter_map(|p| p.expected)
        .map(|(at, band)| (at.as_secs_f64(), band))
        .collect();
    let low = band.iter().map(|&(at, [low, _])| (at, low));
    let high = band.iter().rev().map(|&(at, [_, high])| (at, high));
    (band.len() > 1).then(|| low.chain(high).collect())
}

/// Capacity holds from one look to the next: a staircase.
fn steps(points: &[Point]) -> Vec<(f64, f64)> {
    let corner = |pair: &[Point]| {
        let at = pair[1].at.as_secs_f64();
        [(at, pair[0].supply), (at, pair[1].supply)]
    };
    points.windows(2).flat_map(corner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_picture_is_drawn_with_and_without_a_forecast() {
        let scenario = Scenario::new(Duration::from_secs(20), 1);
        let at = Duration::from_secs;
        let point = |s, expected| Point { at: at(s), demand: Some(0.3), supply: 0.4, expected };
        for (points, has_band) in [
            (vec![], false),
            (vec![point(1, None), point(2, None)], false),
            ((1..9).map(|s| point(s, Some((at(s + 1), [0.2, 0.5])))).collect(), true),
        ] {
            let mut svg = String::new();
            draw(&mut svg, &points, &scenario).unwrap();
            assert!(svg.contains("</svg>") && svg.contains("ready capacity"), "{svg}");
            assert_eq!(svg.contains("<polygon"), has_band, "{svg}");
        }
    }
}
