//! Pure: load, ready capacity and the forecast's fan over time, in characters.
//!
//! Load and median are lines of braille dots, two by four in a cell; the interval is shaded cells,
//! the capacity a bar at the top, middle or bottom of its cell. So the three can be told apart
//! without colours, too.

use chrono::TimeDelta;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::super::moment::Focus;
use super::super::text::{self, put, put_right};
use super::{BOLD, GREY, unit};
use crate::forecast::Forecast;
use crate::io::api::query::HistoryRow;
use crate::series::Time;

/// Columns for the numbers at the left.
const GUTTER: u16 = 7;
/// Share of the width that the forecast takes at most.
const AHEAD: f64 = 0.4;
const CAPACITY: [&str; 3] = ["▔", "─", "▁"];
const COLORS: [Color; 3] = [Color::Cyan, Color::Yellow, Color::Green];

/// Where a time and a load are on the screen.
struct Scale {
    area: Rect,
    from: Time,
    now: Time,
    /// Milliseconds from left to right.
    span: f64,
    top: f64,
}

impl Scale {
    /// In cells from the left; may lie outside.
    fn x(&self, time: Time) -> f64 {
        let passed = (time - self.from).num_milliseconds() as f64;
        passed / self.span * f64::from(self.area.width)
    }

    /// In cells from the top; outside for what is no load.
    fn y(&self, load: f64) -> f64 {
        (1.0 - load / self.top) * f64::from(self.area.height)
    }

    /// The time in the middle of a column.
    fn time(&self, column: u16) -> Time {
        let share = (f64::from(column) + 0.5) / f64::from(self.area.width);
        self.from + TimeDelta::milliseconds((share * self.span) as i64)
    }
}

/// Draws the chart with a line of legend above and one of times below.
pub fn draw(focus: &Focus, area: Rect, buffer: &mut Buffer) {
    if area.height < 4 || area.width < GUTTER + 12 {
        return;
    }
    draw_legend(focus, area, buffer);
    let plot = Rect::new(area.x + GUTTER, area.y + 1, area.width - GUTTER, area.height - 2);
    let Some(scale) = scale(focus, plot) else {
        let none = "no load was recorded in this time";
        return put(buffer, (plot.x, plot.y + plot.height / 2), plot.width, none, GREY);
    };
    draw_axes(&scale, buffer);
    if let Ok(forecast) = &focus.forecast {
        shade(&scale, forecast, buffer);
    }
    draw_capacity(&scale, focus, buffer);
    if let Ok(forecast) = &focus.forecast {
        let median = (0..forecast.horizon()).map(|h| {
            let time = end_of(forecast, h);
            forecast.at(h, 0.5).map(|load| (scale.x(time), scale.y(load)))
        });
        draw_line(&scale, median, COLORS[1], buffer);
    }
    let load = focus.history.rows.iter();
    let load = load.map(|row| row.demand.map(|load| (scale.x(row.time), scale.y(load))));
    draw_line(&scale, load, COLORS[0], buffer);
}

/// What fits on the chart; `None` if there is nothing to draw.
fn scale(focus: &Focus, area: Rect) -> Option<Scale> {
    let rows = &focus.history.rows;
    let step = TimeDelta::milliseconds(focus.history.step_ms.min(1 << 40) as i64);
    let (from, now) = (rows.first()?.time - step, focus.detail.summary.time);
    let past = ((now - from).num_milliseconds() as f64).max(1.0);
    let ahead = focus.forecast.as_ref().ok().and_then(|forecast| {
        let end = end_of(forecast, forecast.horizon().checked_sub(1)?);
        Some(((end - now).num_milliseconds() as f64).max(0.0))
    });
    // Where the horizon is long beside the past, only its beginning is shown.
    let span = past + ahead.unwrap_or(0.0).min(past * AHEAD / (1.0 - AHEAD));
    let until = from + TimeDelta::milliseconds(span as i64);
    let highs = focus.forecast.iter().flat_map(|forecast| {
        let shown = (0..forecast.horizon()).filter(|&h| end_of(forecast, h) <= until);
        shown.filter_map(|h| forecast.at(h, 0.9))
    });
    let capacity = rows.iter().filter_map(|row| capacity(focus, row));
    let loads = rows.iter().filter_map(|row| row.demand);
    let recorded = rows.iter().any(|row| row.demand.is_some());
    let highest = loads.chain(capacity).chain(highs).filter(|load| load.is_finite());
    let top = round_up(highest.fold(0.0, f64::max));
    (recorded || focus.forecast.is_ok()).then_some(Scale { area, from, now, span, top })
}

/// The next of 1, 1.5, 2, 3, 4, 6, 8 times a power of ten.
fn round_up(highest: f64) -> f64 {
    if highest <= 0.0 || highest > 1e300 {
        return highest.max(1.0);
    }
    let power = 10f64.powf(highest.log10().floor());
    let nice = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0].map(|nice| nice * power);
    // Rounding may leave the last a hair below.
    nice.into_iter().find(|&nice| nice >= highest).unwrap_or(highest)
}

fn capacity(focus: &Focus, row: &HistoryRow) -> Option<f64> {
    row.ready_replicas.map(|ready| ready * focus.detail.summary.capacity)
}

/// Forecasts are drawn where their step ends, as recorded load is.
fn end_of(forecast: &Forecast, h: usize) -> Time {
    let ms = forecast.step_ms.saturating_mul(h as u64 + 1).min(1 << 45);
    forecast.origin + TimeDelta::milliseconds(ms as i64)
}

fn draw_legend(focus: &Focus, area: Rect, buffer: &mut Buffer) {
    let summary = &focus.detail.summary;
    let [load, median, ready] = COLORS.map(|color| Style::new().fg(color));
    let mut parts = vec![
        (text::clean(&summary.name), BOLD),
        (format!("  {}  ", unit(summary.demand_unit)), GREY),
        ("⠤⠒ load  ".to_string(), load),
        ("── ready capacity  ".to_string(), ready),
    ];
    match &focus.forecast {
        Ok(_) => {
            parts.push(("⠤⠒ forecast, ".to_string(), median));
            parts.push(("░ 80 % of cases".to_string(), GREY));
        }
        Err(reason) => parts.push((format!("no forecast: {reason}"), GREY)),
    }
    let mut x = area.x;
    for (text, style) in parts {
        let room = area.right().saturating_sub(x);
        put(buffer, (x, area.y), room, &text, style);
        x += (ratatui::text::Span::raw(&text).width() as u16).min(room);
    }
}

fn draw_axes(scale: &Scale, buffer: &mut Buffer) {
    let Rect { x, y, width, height } = scale.area;
    let gutter = |buffer: &mut Buffer, y, text: &str| {
        put_right(buffer, (x - GUTTER, y), GUTTER - 1, text, GREY);
    };
    gutter(buffer, y, &text::number(scale.top));
    if height >= 6 {
        gutter(buffer, y + height / 2, &text::number(scale.top / 2.0));
    }
    gutter(buffer, y + height - 1, "0");
    let below = y + height;
    let now = (scale.x(scale.now).clamp(0.0, f64::from(width - 1))) as u16;
    for y in y..below {
        put(buffer, (x + now, y), 1, "┊", GREY);
    }
    let back = text::age_of(scale.now - scale.from);
    let ahead = scale.span - (scale.now - scale.from).num_milliseconds() as f64;
    let ahead = format!("+{}", text::age_of(TimeDelta::milliseconds(ahead as i64)));
    put(buffer, (x, below), width, &format!("-{back}"), GREY);
    let room_right = width - now;
    if room_right > ahead.len() as u16 + 4 {
        put_right(buffer, (x + now, below), room_right, &ahead, GREY);
    }
    put(buffer, (x + now.saturating_sub(1).min(width - 3), below), 3, "now", GREY);
}

/// Every cell that the interval of its time touches.
fn shade(scale: &Scale, forecast: &Forecast, buffer: &mut Buffer) {
    let area = scale.area;
    for column in 0..area.width {
        let time = scale.time(column);
        let ahead = (time - forecast.origin).num_milliseconds();
        let step = i64::try_from(forecast.step_ms).unwrap_or(i64::MAX).max(1);
        let Ok(h) = usize::try_from(ahead.div_euclid(step)) else { continue };
        if time < scale.now {
            continue;
        }
        let Some((low, high)) = forecast.at(h, 0.1).zip(forecast.at(h, 0.9)) else { continue };
        let last = f64::from(area.height - 1);
        let [top, bottom] = [high, low].map(|load| scale.y(load).clamp(0.0, last) as u16);
        for row in top..=bottom {
            put(buffer, (area.x + column, area.y + row), 1, "░", GREY);
        }
    }
}

/// What ready replicas carried; from now on, dashed, what those of now will.
fn draw_capacity(scale: &Scale, focus: &Focus, buffer: &mut Buffer) {
    let rows = &focus.history.rows;
    let mut last = None;
    let mut next = rows.iter().peekable();
    for column in 0..scale.area.width {
        let time = scale.time(column);
        while let Some(row) = next.next_if(|row| row.time <= time) {
            last = capacity(focus, row).or(last.filter(|_| time >= scale.now));
        }
        let ahead = time >= scale.now;
        if ahead && column % 2 == 1 {
            continue;
        }
        let Some(y) = last.map(|capacity| scale.y(capacity)).filter(|y| y.is_finite()) else {
            continue;
        };
        let y = y.clamp(0.0, f64::from(scale.area.height) - 0.01);
        let symbol = CAPACITY[((y.fract() * 3.0) as usize).min(2)];
        let at = (scale.area.x + column, scale.area.y + y as u16);
        put(buffer, at, 1, symbol, Style::new().fg(COLORS[2]));
    }
}

/// Joins neighbouring points by lines of dots; `None` is a gap. A point without neighbours is a
/// dot.
fn draw_line(
    scale: &Scale,
    points: impl Iterator<Item = Option<(f64, f64)>>,
    color: Color,
    buffer: &mut Buffer,
) {
    let (width, height) = (usize::from(scale.area.width) * 2, usize::from(scale.area.height) * 4);
    let mut dots = vec![false; width * height];
    let mut before: Option<(f64, f64)> = None;
    for point in points {
        let point = point.map(|(x, y)| (x * 2.0, y * 4.0));
        let point = point.filter(|(x, y)| x.is_finite() && y.is_finite());
        if let Some((x, y)) = point {
            let (x0, y0) = before.unwrap_or((x, y));
            // As many dots as the longer side has, and no more than the plot could show.
            let longer = (x - x0).abs().max((y - y0).abs()).ceil();
            let steps = longer.clamp(1.0, (width + height) as f64) as usize;
            for i in 0..=steps {
                let share = i as f64 / steps as f64;
                let (x, y) = (x0 + (x - x0) * share, y0 + (y - y0) * share);
                let y = y.clamp(0.0, height as f64 - 0.5) as usize;
                if (0.0..width as f64).contains(&x) {
                    dots[y * width + x as usize] = true;
                }
            }
        }
        before = point;
    }
    for row in 0..scale.area.height {
        for column in 0..scale.area.width {
            let dot = |(x, y)| {
                let at = (usize::from(row) * 4 + y) * width + usize::from(column) * 2 + x;
                dots[at]
            };
            if let Some(symbol) = braille(dot) {
                let at = (scale.area.x + column, scale.area.y + row);
                put(buffer, at, 1, &symbol.to_string(), Style::new().fg(color));
            }
        }
    }
}

/// The character with the dots that are set, two by four; `None` if none is.
fn braille(dot: impl Fn((usize, usize)) -> bool) -> Option<char> {
    // Unicode counts the upper six by columns, then the lowest two.
    const DOTS: [(usize, usize); 8] =
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
    let bits =
        DOTS.iter().enumerate().filter(|(_, at)| dot(**at)).map(|(i, _)| 1 << i).sum::<u32>();
    char::from_u32(0x2800 + bits).filter(|_| bits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_the_chart_is_a_round_number() {
        let rounded = [0.0, 0.011, 0.9, 1.0, 1.2, 2.5, 7.0, 9.0, 123.0].map(round_up);
        assert_eq!(rounded, [1.0, 0.015, 1.0, 1.0, 1.5, 3.0, 8.0, 10.0, 150.0]);
        assert_eq!(round_up(1e308), 1e308);
        assert!(round_up(5e-324) >= 5e-324);
    }

    #[test]
    fn braille_counts_its_dots_as_unicode_does() {
        assert_eq!(braille(|_| false), None);
        assert_eq!(braille(|_| true), Some('⣿'));
        assert_eq!(braille(|at| at == (0, 0)), Some('⠁'));
        assert_eq!(braille(|at| at == (1, 3)), Some('⢀'));
        assert_eq!(braille(|(_, y)| y == 2), Some('⠤'));
    }
}
