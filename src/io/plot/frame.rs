//! Pure: the plot of a picture: where steps and values lie, its axes, lines and bands.

use super::{Chart, LEFT, axis, escape};

/// Room for the labels of the time axis, and at the right of the plot.
const BELOW: f64 = 52.0;
const RIGHT: f64 = 16.0;
/// A label of the time axis has at least this room.
const LABEL_WIDTH: f64 = 110.0;
/// Where all values lie above this share of the highest one the value axis does not start at 0.
const ZOOMED: f64 = 0.6;

/// Where the plot lies and what its edges stand for.
pub struct Frame {
    top: f64,
    width: f64,
    height: f64,
    start_ms: i64,
    step_ms: i64,
    /// Steps from the left edge to the right one, above 0.
    steps: f64,
    /// Of the value axis, at least two, ascending.
    ticks: Vec<f64>,
}

impl Frame {
    pub fn around(chart: &Chart) -> Frame {
        let top = if chart.title.is_empty() { 12.0 } else { 70.0 };
        let (width, height) = (chart.size.0 - LEFT - RIGHT, chart.size.1 - top - BELOW);
        let paths = chart.paths.iter().flatten().chain(chart.point);
        let values = || chart.series.values().iter().chain(paths.clone()).filter(|v| v.is_finite());
        let high = values().copied().fold(0.0, f64::max);
        let low = values().copied().fold(high, f64::min);
        let zoomed = low > ZOOMED * high && high - low > 1e-6 * high;
        let count = (height / 52.0) as usize;
        Frame {
            top,
            width: width.max(1.0),
            height: height.max(1.0),
            start_ms: chart.series.start().timestamp_millis(),
            step_ms: chart.series.step().as_millis() as i64,
            steps: chart.series.len().max(chart.seen + chart.point.len()).max(2) as f64 - 1.0,
            ticks: axis::round_values(if zoomed { low } else { 0.0 }, high, count),
        }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + self.width * (step / self.steps).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let [low, high] = [self.ticks[0], self.ticks[self.ticks.len() - 1]];
        self.top + self.height * (1.0 - ((value - low) / (high - low)).clamp(0.0, 1.0))
    }

    pub fn write_axes(&self, svg: &mut String, quantity: &str) {
        let (right, bottom) = (LEFT + self.width, self.top + self.height);
        let [distance, highest] = [self.ticks[1] - self.ticks[0], self.ticks[self.ticks.len() - 1]];
        for &tick in &self.ticks {
            let (y, class) = (self.y(tick), if tick == self.ticks[0] { "axis" } else { "grid" });
            let label = axis::value_label(tick, distance, highest);
            *svg += &format!(
                r#"<line class="{class}" x1="{LEFT}" y1="{y:.1}" x2="{right:.1}" y2="{y:.1}"/>"#
            );
            let (x, y) = (LEFT - 8.0, y + 4.0);
            *svg += &format!(r#"<text x="{x}" y="{y:.1}" text-anchor="end">{label}</text>"#);
        }
        let end_ms = self.start_ms + (self.steps * self.step_ms as f64) as i64;
        let count = (self.width / LABEL_WIDTH) as usize;
        for instant in axis::round_instants(self.start_ms, end_ms, count) {
            let x = self.x((instant.ms - self.start_ms) as f64 / self.step_ms as f64);
            let (tick, time, day) = (bottom + 5.0, bottom + 18.0, bottom + 33.0);
            *svg += &format!(
                r#"<line class="axis" x1="{x:.1}" y1="{bottom:.1}" x2="{x:.1}" y2="{tick:.1}"/>"#
            );
            let labels = [(time, Some(&instant.time)), (day, instant.day.as_ref())];
            for (y, label) in labels.into_iter().filter_map(|(y, label)| Some((y, label?))) {
                // Near the right edge a label moves inwards, half its width away.
                let x = x.min(right + RIGHT - 3.5 * label.len() as f64);
                *svg +=
                    &format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{label}</text>"#);
            }
        }
        let (middle, baseline) = (self.top + self.height / 2.0, bottom + 48.0);
        let quantity = escape(quantity);
        *svg += &format!(
            r#"<text transform="translate(14 {middle:.1}) rotate(-90)" text-anchor="middle">{quantity}</text>"#
        );
        *svg += &format!(
            r#"<text x="{right:.1}" y="{baseline:.1}" text-anchor="end">time (UTC)</text>"#
        );
    }

    /// Where history ends and the forecast begins.
    pub fn write_origin(&self, svg: &mut String, step: usize) {
        let (x, bottom) = (self.x(step as f64), self.top + self.height);
        *svg += &format!(r#"<path class="origin" d="M{x:.1} {:.1}V{bottom:.1}"/>"#, self.top);
        svg.push('\n');
    }

    /// The area between two paths of which the first values belong to step `from`.
    pub fn write_band(&self, svg: &mut String, from: usize, low: &[f64], high: &[f64]) {
        let edge = |path: &[f64]| -> Vec<String> {
            let points = path.iter().enumerate().filter(|(_, v)| v.is_finite());
            points.map(|(i, v)| self.point(from + i, *v)).collect()
        };
        let (there, mut back) = (edge(high), edge(low));
        back.reverse();
        let outline = [there, back].concat().join(" ");
        *svg += &format!("<polygon class=\"band\" points=\"{outline}\"/>\n");
    }

    /// A line through `values`, the first of which belongs to step `from`: open at gaps, a dot
    /// where a value stands alone.
    pub fn write_line(&self, svg: &mut String, class: &str, from: usize, values: &[f64]) {
        let mut step = from;
        for run in values.split(|v| !v.is_finite()) {
            let point = |(i, v): (usize, &f64)| self.point(step + i, *v);
            let points: Vec<String> = run.iter().enumerate().map(point).collect();
            match points.as_slice() {
                [] => {}
                [_] => {
                    let (x, y) = (self.x(step as f64), self.y(run[0]));
                    *svg +=
                        &format!(r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="2"/>"#);
                }
                _ => *svg += &format!("<path class=\"{class}\" d=\"M{}\"/>\n", points.join("L")),
            }
            step += run.len() + 1;
        }
    }

    fn point(&self, step: usize, value: f64) -> String {
        format!("{:.1},{:.1}", self.x(step as f64), self.y(value))
    }
}
