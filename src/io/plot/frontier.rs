//! Pure: what policies cost against how often they are overloaded: one mark each, a sweep as a
//! line.
//!
//! Lower and further left is better. The overload axis has a square-root scale, which shows 0, and
//! keeps 0.5 % and 1 % apart where another policy is at 20 %.

use super::{LEFT, axis, begin, escape, write_heading_of};

/// Where the plot lies.
const TOP: f64 = 86.0;
const RIGHT: f64 = 24.0;
const BELOW: f64 = 46.0;
const SIZE: (f64, f64) = (560.0, 420.0);
/// A label of the overload axis has at least this room.
const LABEL_WIDTH: f64 = 46.0;

/// Policies over one trace.
#[derive(Debug, Clone)]
pub struct Frontier<'a> {
    pub title: &'a str,
    pub families: Vec<Family<'a>>,
    /// Overload that is allowed.
    pub budget: f64,
}

/// Marks that differ in their parameters, of the colour with this number.
#[derive(Debug, Clone)]
pub struct Family<'a> {
    pub name: &'a str,
    pub color: usize,
    pub marks: Vec<Mark<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    pub label: &'a str,
    pub overload_share: f64,
    pub replica_hours: f64,
    pub is_best: bool,
}

impl Frontier<'_> {
    /// A file of its own.
    pub fn file(&self) -> String {
        self.svg(true)
    }

    /// An element of a page that has [`super::STYLE`].
    pub fn inline(&self) -> String {
        self.svg(false)
    }

    fn svg(&self, is_file: bool) -> String {
        let mut svg = begin("chart", self.title, SIZE, "", is_file);
        let entries: Vec<_> = self.families.iter().map(|f| (f.color, f.name)).collect();
        write_heading_of(&mut svg, self.title, SIZE.0, &entries);
        let scale = Scale::around(self);
        scale.write_axes(&mut svg, self.budget);
        for family in &self.families {
            write_family(&mut svg, &scale, family);
        }
        svg + "</svg>\n"
    }
}

/// A line through the marks from left to right, the marks, and the parameters of its ends.
fn write_family(svg: &mut String, scale: &Scale, family: &Family) {
    let mut marks = family.marks.clone();
    marks.sort_by(|a, b| {
        let by_overload = a.overload_share.total_cmp(&b.overload_share);
        by_overload.then(b.replica_hours.total_cmp(&a.replica_hours))
    });
    let points: Vec<(f64, f64)> =
        marks.iter().map(|m| (scale.x(m.overload_share), scale.y(m.replica_hours))).collect();
    *svg += &format!("<g class=\"k{}\">", family.color);
    if points.len() > 1 {
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        *svg += &format!("<path class=\"rule\" d=\"M{}\"/>", line.join("L"));
    }
    for (mark, (x, y)) in marks.iter().zip(&points) {
        let title = format!(
            "{}: {:.1} replica-hours, overloaded {:.2} % of the time",
            escape(mark.label),
            mark.replica_hours,
            100.0 * mark.overload_share
        );
        if mark.is_best {
            *svg += &format!(r#"<circle class="ring" cx="{x:.1}" cy="{y:.1}" r="9"/>"#);
        }
        let circle = format!(r#"<circle class="point" cx="{x:.1}" cy="{y:.1}" r="4">"#);
        *svg += &format!("{circle}<title>{title}</title></circle>");
    }
    if let ([first, .., last], [start, .., end]) = (marks.as_slice(), points.as_slice()) {
        // A line falls from left to right: what is above its begin and below its end is free.
        let mut write = |label: &str, x: f64, y: f64, anchor: &str| {
            let label = escape(label);
            *svg += &format!(
                r#"<text class="small" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{label}</text>"#
            );
        };
        write(&own_parameters(first, &marks), start.0 + 8.0, start.1 - 6.0, "start");
        write(&own_parameters(last, &marks), end.0 - 2.0, end.1 + 17.0, "end");
    }
    *svg += "</g>\n";
}

/// The parameters of a mark without those that all of `marks` share.
fn own_parameters(mark: &Mark, marks: &[Mark]) -> String {
    let parameters = |label: &str| -> Vec<String> {
        let (_, parameters) = label.split_once(':').unwrap_or(("", label));
        parameters.split(',').map(str::to_owned).collect()
    };
    let mut own = parameters(mark.label);
    own.retain(|parameter| marks.iter().any(|other| !parameters(other.label).contains(parameter)));
    own.join(",")
}

/// What the edges of the plot stand for.
struct Scale {
    highest_share: f64,
    /// Of replica-hours, at least two, ascending.
    ticks: Vec<f64>,
}

impl Scale {
    fn around(frontier: &Frontier) -> Scale {
        let marks = || frontier.families.iter().flat_map(|family| &family.marks);
        let shares = marks().map(|mark| mark.overload_share);
        let hours = || marks().map(|mark| mark.replica_hours).filter(|hours| hours.is_finite());
        let (low, high) = (hours().fold(f64::INFINITY, f64::min), hours().fold(0.0, f64::max));
        let low = if low > 0.5 * high && low < high { low } else { 0.0 };
        Scale {
            highest_share: shares.fold(frontier.budget, f64::max).max(1e-6) * 1.15,
            ticks: axis::round_values(low, high, 6),
        }
    }

    fn x(&self, share: f64) -> f64 {
        let place = (share / self.highest_share).clamp(0.0, 1.0).sqrt();
        LEFT + (SIZE.0 - LEFT - RIGHT) * place
    }

    fn y(&self, hours: f64) -> f64 {
        let [low, high] = [self.ticks[0], self.ticks[self.ticks.len() - 1]];
        let place = ((hours - low) / (high - low)).clamp(0.0, 1.0);
        SIZE.1 - BELOW - (SIZE.1 - BELOW - TOP) * place
    }

    fn write_axes(&self, svg: &mut String, budget: f64) {
        let (right, bottom) = (SIZE.0 - RIGHT, SIZE.1 - BELOW);
        let [distance, highest] = [self.ticks[1] - self.ticks[0], self.ticks[self.ticks.len() - 1]];
        for &tick in &self.ticks {
            let (y, class) = (self.y(tick), if tick == self.ticks[0] { "axis" } else { "grid" });
            let label = axis::value_label(tick, distance, highest);
            *svg += &format!(
                r#"<line class="{class}" x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#
            );
            let (x, y) = (LEFT - 8.0, y + 4.0);
            *svg += &format!(r#"<text x="{x}" y="{y:.1}" text-anchor="end">{label}</text>"#);
        }
        for share in axis::root_values(self.highest_share, right - LEFT, LABEL_WIDTH) {
            let x = self.x(share);
            // Ten digits hide that 0.07 x 100 is no whole number.
            let percent = (share * 1e10).round() / 1e8;
            let (tick, label) = (bottom + 5.0, bottom + 18.0);
            *svg += &format!(
                r#"<line class="axis" x1="{x:.1}" y1="{bottom}" x2="{x:.1}" y2="{tick}"/>"#
            );
            *svg +=
                &format!(r#"<text x="{x:.1}" y="{label}" text-anchor="middle">{percent} %</text>"#);
        }
        let x = self.x(budget);
        *svg += &format!(r#"<path class="origin" d="M{x:.1} {TOP}V{bottom}"/>"#);
        *svg += &format!(
            r#"<text class="small" x="{x:.1}" y="{:.1}" text-anchor="middle">budget</text>"#,
            TOP - 5.0
        );
        let (middle, below) = ((TOP + bottom) / 2.0, SIZE.1 - 8.0);
        *svg += &format!(
            r#"<text transform="translate(14 {middle:.1}) rotate(-90)" text-anchor="middle">replica-hours</text>"#
        );
        *svg += &format!(
            r#"<text x="{right}" y="{below}" text-anchor="end">time overloaded (square-root scale)</text>"#
        );
        svg.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_a_line_with_its_ends_named_and_the_best_has_a_ring() {
        let mark = |label, overload_share, replica_hours, is_best| Mark {
            label,
            overload_share,
            replica_hours,
            is_best,
        };
        let swept = vec![
            mark("t:target=0.9,signal=<cpu>", 0.09, 100.0, false),
            mark("t:target=0.2,signal=<cpu>", 0.001, 300.0, true),
        ];
        let families = vec![
            Family { name: "t", color: 0, marks: swept },
            Family { name: "one", color: 1, marks: vec![mark("one", 0.0, f64::NAN, false)] },
        ];
        let svg = Frontier { title: "a <b>", families, budget: 0.01 }.inline();
        let count = |what: &str| svg.matches(what).count();
        assert_eq!((count("class=\"point\""), count("class=\"ring\"")), (3, 1));
        // Two in the legend, one through the sweep.
        assert_eq!(count("class=\"rule"), 3);
        assert!(svg.contains(">target=0.2</text>") && svg.contains(">target=0.9</text>"), "{svg}");
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("signal=&lt;cpu&gt;"));
        let nothing = Frontier { title: "", families: vec![], budget: 0.01 }.file();
        assert!(nothing.contains("<style>") && !nothing.contains("NaN"), "{nothing}");
    }
}
