//! Pure: pictures as SVG: load, the fan of a forecast, and what came.
//!
//! Written by hand instead of by a plotting crate, whose fixed colours cannot follow the reader's
//! light or dark scheme: everything visible has a class, and [`STYLE`] gives the colours.

mod axis;
mod frame;
mod frontier;
mod replicas;
mod strip;

use crate::series::Series;
use frame::Frame;
pub use frontier::{Family, Frontier, Mark};
pub use replicas::{Line, Replicas, ZOOM};
pub use strip::strip;

/// Colours and type of every picture: once for each file that holds pictures.
pub const STYLE: &str = "\
.chart { font: 12px system-ui, sans-serif } .chart text { fill: #555 }
.chart .title { font-size: 16px; font-weight: 600; fill: #1b1b1b }
.chart .paper { fill: #fff } .chart .grid { stroke: #e6e6e6 } .chart .axis { stroke: #999 }
.chart .origin { stroke: #777; stroke-dasharray: 4 3 } .chart path { fill: none }
.chart .band { fill: #1c6dd0; fill-opacity: .17 } .chart .dot { fill: #3a3a3a }
.chart .history { stroke: #3a3a3a; stroke-width: 1.5 }
.chart .median { stroke: #1c6dd0; stroke-width: 2 }
.chart .mark { stroke: #1c6dd0; stroke-opacity: .4 }
.chart .actual { stroke: #d4480b; stroke-width: 1.8 } .chart .dot.actual { fill: #d4480b }
.chart .rule { stroke: currentColor; stroke-width: 1.4; vector-effect: non-scaling-stroke }
.chart .point { fill: currentColor } .chart .ring { fill: none; stroke: currentColor }
.chart .load { fill: #777; fill-opacity: .32 } .chart .unscored { fill: #777; fill-opacity: .1 }
.chart .small { font-size: 11px } .zoomable { touch-action: pan-y; cursor: grab }
.k0 { color: #1c6dd0 } .k1 { color: #d4480b } .k2 { color: #16733c } .k3 { color: #8a3fb0 }
.k4 { color: #0b8793 } .k5 { color: #a06a00 } .k6 { color: #c2347a } .k7 { color: #6b6b6b }
@media (prefers-color-scheme: dark) {
.chart text { fill: #a9b0ba } .chart .title { fill: #eceff4 } .chart .paper { fill: #14171c }
.chart .grid { stroke: #2a2f37 } .chart .axis { stroke: #6b7380 } .chart .origin { stroke: #8a929e }
.chart .band { fill: #5aa2ff; fill-opacity: .2 } .chart .history { stroke: #cdd2da }
.chart .median { stroke: #6fb0ff } .chart .actual { stroke: #ff9550 }
.chart .dot { fill: #cdd2da } .chart .dot.actual { fill: #ff9550 }
.chart .load, .chart .unscored { fill: #aab }
.k0 { color: #6fb0ff } .k1 { color: #ff9550 } .k2 { color: #63c98a } .k3 { color: #c690e8 }
.k4 { color: #56c8d4 } .k5 { color: #e0b050 } .k6 { color: #f07fb4 } .k7 { color: #a9a9a9 }
}
";

/// Colours `k0` and on, for what a picture has several of.
pub const COLORS: usize = 8;

/// Room at the left for the labels of the value axis.
const LEFT: f64 = 62.0;

/// The central intervals of a fan, widest first, by their lower quantile.
const BANDS: [(f64, &str); 3] = [(0.01, "98 %"), (0.1, "80 %"), (0.25, "50 %")];
/// Load up to an origin, the forecast after it, and what came. Everything is cut to `series`.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// Above the picture, with a legend; nothing of both if empty.
    pub title: &'a str,
    /// What the value axis shows.
    pub quantity: &'a str,
    /// Width and height in pixels.
    pub size: (f64, f64),
    /// History, and from `seen` on what came, at least as a gap up to the end of the picture.
    pub series: &'a Series,
    /// Steps of `series` that the forecast has seen.
    pub seen: usize,
    /// Ascending.
    pub quantiles: &'a [f64],
    /// From step `seen` on.
    pub point: &'a [f64],
    /// `paths[q][h]`, as in a forecast.
    pub paths: &'a [Vec<f64>],
}

impl Chart<'_> {
    /// A file of its own.
    pub fn file(&self) -> String {
        self.svg(true)
    }

    /// An element of a page that has [`STYLE`].
    pub fn inline(&self) -> String {
        self.svg(false)
    }

    fn svg(&self, is_file: bool) -> String {
        let name = if self.title.is_empty() { self.quantity } else { self.title };
        let mut svg = begin("chart", name, self.size, "", is_file);
        let bands: Vec<_> = BANDS.iter().filter_map(|b| Some((self.band(b.0)?, b.1))).collect();
        let frame = Frame::around(self);
        frame.write_axes(&mut svg, self.quantity);
        let values = self.series.values();
        let (history, came) = values.split_at(self.seen.min(values.len()));
        // Whatever begins at the origin is joined to the last value before it.
        let origin = self.seen.saturating_sub(1);
        let joined = |path: &[f64]| -> Vec<f64> {
            history.last().into_iter().chain(path).copied().collect()
        };
        for ((low, high), _) in &bands {
            frame.write_band(&mut svg, origin, &joined(low), &joined(high));
        }
        frame.write_origin(&mut svg, origin);
        frame.write_line(&mut svg, "history", 0, history);
        frame.write_line(&mut svg, "median", origin, &joined(self.point));
        let has_come = came.iter().any(|v| v.is_finite());
        if has_come {
            frame.write_line(&mut svg, "actual", origin, &joined(came));
        }
        if !self.title.is_empty() {
            let intervals = bands.iter().map(|b| b.1).collect::<Vec<_>>();
            write_heading(&mut svg, self.title, has_come, &intervals);
        }
        svg + "</svg>\n"
    }

    /// Paths of quantile `low` and of its mirror, where both are carried.
    fn band(&self, low: f64) -> Option<(&[f64], &[f64])> {
        let path = |q: f64| {
            let carried = self.quantiles.iter().position(|c| (c - q).abs() < 1e-9)?;
            self.paths.get(carried).map(Vec::as_slice)
        };
        Some((path(low)?, path(1.0 - low)?))
    }
}

/// The opening tag; a file also gets colours and a background.
fn begin(class: &str, name: &str, size: (f64, f64), data: &str, is_file: bool) -> String {
    let ((width, height), name) = (size, escape(name));
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="{class}" role="img" aria-label="{name}""#
    );
    svg += &format!(r#"{data} viewBox="0 0 {width} {height}" width="{width}" height="{height}">"#);
    if is_file {
        let paper = format!(r#"<rect class="paper" width="{width}" height="{height}"/>"#);
        svg += &format!("\n<style>\n{STYLE}</style>\n{paper}\n");
    }
    svg
}

/// Text as XML and HTML show it.
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // XML has no other control characters, not even escaped.
    text.replace('"', "&quot;").replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// The title, and below it what the lines and bands are.
fn write_heading(svg: &mut String, title: &str, has_come: bool, intervals: &[&str]) {
    let title = escape(title);
    *svg += &format!(r#"<text class="title" x="16" y="28">{title}</text>"#);
    let lines = [("history", "load"), ("median", "forecast (median)")];
    let came = has_come.then_some(("actual", "what came"));
    let mut x = 16.0;
    for (class, name) in lines.into_iter().chain(came) {
        *svg += &format!(r#"<path class="{class}" d="M{x:.0} 48h22"/>"#);
        x = write_legend_text(svg, x, name);
    }
    for (i, name) in intervals.iter().enumerate() {
        // As dark as in the plot, where the narrower bands lie on the wider.
        for _ in 0..=i {
            *svg += &format!(r#"<rect class="band" x="{x:.0}" y="41" width="22" height="14"/>"#);
        }
        x = write_legend_text(svg, x, &format!("{name} interval"));
    }
    svg.push('\n');
}

/// The title, and below it what the colours are, in as many rows as fit above the plot.
fn write_heading_of(svg: &mut String, title: &str, width: f64, entries: &[(usize, &str)]) {
    *svg += &format!(r#"<text class="title" x="16" y="28">{}</text>"#, escape(title));
    let (mut x, mut y) = (16.0, 48.0);
    for (color, name) in entries {
        let end = x + 46.0 + 7.0 * name.len() as f64;
        if end > width && x > 16.0 {
            (x, y) = (16.0, y + 18.0);
        }
        *svg += &format!(r#"<path class="rule k{color}" d="M{x:.0} {y}h22"/>"#);
        let (text_x, text_y) = (x + 28.0, y + 4.0);
        *svg += &format!(r#"<text x="{text_x:.0}" y="{text_y}">{}</text>"#, escape(name));
        x = text_x + 7.0 * name.len() as f64 + 18.0;
    }
    svg.push('\n');
}

/// Gives where the next entry begins: a letter is at most about 7 pixels wide.
fn write_legend_text(svg: &mut String, x: f64, name: &str) -> f64 {
    *svg += &format!(r#"<text x="{:.0}" y="52">{name}</text>"#, x + 28.0);
    x + 28.0 + 7.0 * name.len() as f64 + 18.0
}

#[cfg(test)]
mod tests;
