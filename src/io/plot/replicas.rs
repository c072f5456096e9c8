//! Pure: replicas against demand over time, an area and a line for each policy, ready for zoom.
//!
//! More steps than [`COLUMNS`] share a column, of which lowest and highest are drawn, so that no
//! peak is lost. Where few steps are far above all others the value axis has a square-root scale,
//! or nothing else could be seen. The lines lie in an inner picture whose view a script may narrow
//! ([`ZOOM`]); without it everything is shown.

use super::{LEFT, axis, begin, write_heading_of};

const TOP: f64 = 86.0;
const RIGHT: f64 = 16.0;
const BELOW: f64 = 46.0;
const SIZE: (f64, f64) = (1_120.0, 400.0);
/// Most columns: a page of twenty traces stays below ten megabytes.
const COLUMNS: usize = 2_000;
/// A label of the time axis has at least this room.
const LABEL_WIDTH: f64 = 110.0;
/// And of the value axis.
const LABEL_HEIGHT: f64 = 26.0;
/// The highest value over that of all but one in [`RARE`] steps, above which the scale is bent.
const SKEWED: f64 = 4.0;
const RARE: usize = 100;

/// Policies over one trace.
#[derive(Debug, Clone)]
pub struct Replicas<'a> {
    pub title: &'a str,
    pub start_ms: i64,
    pub step_ms: i64,
    /// Steps before this are not scored.
    pub scored_from: usize,
    /// Demand in replicas at full utilization; NaN is a gap.
    pub demand: &'a [f64],
    pub lines: Vec<Line<'a>>,
}

/// Ready replicas, of the colour with this number.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    pub name: &'a str,
    pub color: usize,
    pub ready: &'a [u32],
}

/// For a page with such pictures: the wheel narrows the view, dragging moves it, a double click
/// shows all.
pub const ZOOM: &str = r#"<script>
for (const chart of document.querySelectorAll("svg.zoomable")) {
  const plot = chart.querySelector(".zoom"), times = chart.querySelector(".times");
  const [, , width, height] = plot.getAttribute("viewBox").split(" ").map(Number);
  const { start, span } = chart.dataset;
  let from = 0, shown = width, dragged = null;
  const show = () => {
    shown = Math.min(width, Math.max(width / 1000, shown));
    from = Math.min(width - shown, Math.max(0, from));
    plot.setAttribute("viewBox", `${from} 0 ${shown} ${height}`);
    times.replaceChildren(...[0, 1, 2, 3, 4, 5, 6, 7].flatMap(i => {
      const at = new Date(+start + span * (from + shown * (i + .5) / 8) / width).toISOString();
      return [at.slice(11, 16), at.slice(0, 10)].map((label, row) => {
        const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        text.setAttribute("x", plot.x.baseVal.value + width * (i + .5) / 8);
        text.setAttribute("y", +times.dataset.y + 15 * row);
        text.setAttribute("text-anchor", "middle");
        text.textContent = label;
        return text;
      });
    }));
  };
  const place = event => {
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    return Math.min(1, Math.max(0, (x - plot.x.baseVal.value) / width));
  };
  chart.addEventListener("wheel", event => {
    if (event.deltaY > 0 && shown === width) return;
    event.preventDefault();
    const at = from + place(event) * shown, narrower = event.deltaY < 0 ? .8 : 1.25;
    from = at - (at - from) * narrower;
    shown *= narrower;
    show();
  }, { passive: false });
  chart.addEventListener("pointerdown", event => {
    dragged = from + place(event) * shown;
    chart.setPointerCapture(event.pointerId);
  });
  chart.addEventListener("pointermove", event => {
    if (dragged === null) return;
    from = dragged - place(event) * shown;
    show();
  });
  chart.addEventListener("pointerup", () => { dragged = null; });
  chart.addEventListener("dblclick", () => { from = 0; shown = width; show(); });
}
</script>
"#;

impl Replicas<'_> {
    /// A file of its own.
    pub fn file(&self) -> String {
        self.svg(true)
    }

    /// An element of a page that has [`super::STYLE`].
    pub fn inline(&self) -> String {
        self.svg(false)
    }

    fn svg(&self, is_file: bool) -> String {
        let span = self.step_ms.saturating_mul(self.demand.len() as i64);
        let data = format!(r#" data-start="{}" data-span="{span}""#, self.start_ms);
        let mut svg = begin("chart zoomable", self.title, SIZE, &data, is_file);
        let entries: Vec<_> = self.lines.iter().map(|line| (line.color, line.name)).collect();
        write_heading_of(&mut svg, self.title, SIZE.0, &entries);
        let [width, height] = [SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BELOW];
        let columns = Columns::of(self, width, height);
        self.write_axes(&mut svg, &columns, span);
        svg += &format!(
            r#"<svg class="zoom" x="{LEFT}" y="{TOP}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" preserveAspectRatio="none">"#
        );
        let warmup = width * self.scored_from as f64 / self.demand.len().max(1) as f64;
        svg += &format!(r#"<rect class="unscored" width="{warmup:.1}" height="{height}"/>"#);
        svg += &format!("<path class=\"load\" d=\"{}\"/>\n", columns.area(self.demand));
        for line in &self.lines {
            let path = columns.stairs(line.ready);
            svg +=
                &format!("<g class=\"k{}\"><path class=\"rule\" d=\"{path}\"/></g>\n", line.color);
        }
        svg + "</svg></svg>\n"
    }

    fn write_axes(&self, svg: &mut String, columns: &Columns, span: i64) {
        let (right, bottom) = (SIZE.0 - RIGHT, SIZE.1 - BELOW);
        let ticks = columns.ticks();
        for &tick in &ticks {
            let y = TOP + columns.y(tick);
            let class = if tick == 0.0 { "axis" } else { "grid" };
            let distance = if columns.is_bent { tick } else { ticks[1] };
            let label = axis::value_label(tick, distance, tick);
            *svg += &format!(
                r#"<line class="{class}" x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#
            );
            let (x, y) = (LEFT - 8.0, y + 4.0);
            *svg += &format!(r#"<text x="{x}" y="{y:.1}" text-anchor="end">{label}</text>"#);
        }
        let (time, day) = (bottom + 18.0, bottom + 33.0);
        *svg += &format!("<g class=\"times\" data-y=\"{time}\">");
        let count = ((right - LEFT) / LABEL_WIDTH) as usize;
        let end = self.start_ms.saturating_add(span);
        for instant in axis::round_instants(self.start_ms, end, count) {
            let share = (instant.ms - self.start_ms) as f64 / span.max(1) as f64;
            let x = LEFT + (right - LEFT) * share;
            let labels = [(time, Some(&instant.time)), (day, instant.day.as_ref())];
            for (y, label) in labels.into_iter().filter_map(|(y, label)| Some((y, label?))) {
                let x = x.min(SIZE.0 - 4.5 * label.len() as f64);
                *svg += &format!(r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>"#);
            }
        }
        let middle = (TOP + bottom) / 2.0;
        let quantity = if columns.is_bent { "replicas (square-root scale)" } else { "replicas" };
        *svg += &format!(
            r#"</g><text transform="translate(14 {middle:.1}) rotate(-90)" text-anchor="middle">{quantity}</text>"#
        );
        svg.push('\n');
    }
}

/// How steps and values become places.
struct Columns {
    /// Steps in a column.
    steps: usize,
    /// Width of a step.
    step_width: f64,
    height: f64,
    /// The value at the top, above 0.
    top: f64,
    /// A square-root scale.
    is_bent: bool,
}

impl Columns {
    fn of(picture: &Replicas, width: f64, height: f64) -> Columns {
        let ready = picture.lines.iter().flat_map(|line| line.ready).map(|&n| f64::from(n));
        let demand = picture.demand.iter().copied().filter(|v| v.is_finite());
        let mut values: Vec<f64> = ready.chain(demand).collect();
        let highest = values.iter().copied().fold(0.0, f64::max);
        let rank = values.len().saturating_sub(values.len() / RARE + 1);
        let is_bent = !values.is_empty() && {
            let (_, usual, _) = values.select_nth_unstable_by(rank, f64::total_cmp);
            highest > SKEWED * *usual
        };
        let steps = picture.demand.len();
        Columns {
            steps: steps.div_ceil(COLUMNS).max(1),
            step_width: width / steps.max(1) as f64,
            height,
            top: match axis::round_values(0.0, highest, 6).last() {
                Some(top) if !is_bent => *top,
                _ => highest,
            },
            is_bent,
        }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.is_bent {
            true => axis::root_values(self.top, self.height, LABEL_HEIGHT),
            false => axis::round_values(0.0, self.top, 6),
        }
    }

    /// Where a column begins.
    fn x(&self, column: usize) -> f64 {
        self.step_width * (self.steps * column) as f64
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value / self.top).clamp(0.0, 1.0);
        self.height * (1.0 - if self.is_bent { share.sqrt() } else { share })
    }

    /// The area below the highest value of each column; nothing at a gap.
    fn area(&self, values: &[f64]) -> String {
        let mut path = format!("M0 {:.1}", self.height);
        for (i, column) in values.chunks(self.steps).enumerate() {
            let highest = column.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
            path += &format!("V{:.1}H{:.2}", self.y(highest), self.x(i + 1));
        }
        path + &format!("V{:.1}Z", self.height)
    }

    /// A line that changes at the beginning of steps; a column of several shows their extremes.
    fn stairs(&self, values: &[u32]) -> String {
        let Some(first) = values.first() else { return String::new() };
        let (mut path, mut last) = (format!("M0 {:.1}", self.y(f64::from(*first))), *first);
        for (i, column) in values.chunks(self.steps).enumerate() {
            if column.iter().all(|value| *value == last) {
                continue;
            }
            let extremes = [column.iter().min(), column.iter().max(), column.last()];
            path += &format!("H{:.2}", self.x(i));
            for value in extremes.into_iter().flatten() {
                if *value != last {
                    path += &format!("V{:.1}", self.y(f64::from(*value)));
                    last = *value;
                }
            }
        }
        path + &format!("H{:.2}", self.step_width * values.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture<'a>(demand: &'a [f64], ready: &'a [u32]) -> Replicas<'a> {
        let lines = vec![Line { name: "a<b", color: 0, ready }];
        Replicas { title: "t", start_ms: 0, step_ms: 60_000, scored_from: 1, demand, lines }
    }

    #[test]
    fn lines_are_stairs_and_columns_keep_their_extremes() {
        let check = |values: &[u32], want: &str| {
            let demand = vec![10.0; values.len()];
            let columns = Columns::of(&picture(&demand, values), 100.0, 50.0);
            assert_eq!(columns.stairs(values), want);
        };
        // Four steps of 25 pixels; 5 of 10 is half the height of 50, 10 is the top.
        check(&[5, 5, 10, 5], "M0 25.0H50.00V0.0H75.00V25.0H100.00");
        check(&[], "");
        // 4 000 steps are two a column: the one-step peak at step 2 001 is in column 1 000.
        let mut values = vec![0; 4_000];
        values[2_001] = 10;
        check(&values, "M0 50.0H50.00V0.0H50.05V50.0H100.00");
        let demand = [5.0, f64::NAN, 10.0];
        let columns = Columns::of(&picture(&demand, &[]), 30.0, 50.0);
        let want = "M0 50.0V25.0H10.00V50.0H20.00V0.0H30.00V50.0Z";
        assert_eq!(columns.area(&demand), want);
    }

    #[test]
    fn a_rare_peak_bends_the_scale() {
        let mut demand = vec![4.0; 400];
        assert!(!Columns::of(&picture(&demand, &[]), 100.0, 50.0).is_bent);
        demand[7] = 100.0;
        let bent = Columns::of(&picture(&demand, &[]), 100.0, 50.0);
        // 4 of 100 is a fifth of the height.
        assert_eq!((bent.is_bent, bent.y(4.0), bent.y(100.0)), (true, 40.0, 0.0));
        let svg = picture(&demand, &[1; 400]).file();
        assert!(svg.contains("square-root") && svg.contains("a&lt;b"), "{svg}");
        assert!(svg.contains("data-span=\"24000000\""), "{svg}");
    }

    #[test]
    fn whatever_is_drawn_is_a_picture() {
        for demand in [&[][..], &[f64::NAN], &[0.0; 3], &[f64::MAX, 1.0], &[1e-300; 2]] {
            let svg = picture(demand, &[0, u32::MAX]).inline();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
