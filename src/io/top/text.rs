//! Pure: numbers, ages and lines of text as a terminal of any width takes them.

use std::time::Duration;

use chrono::TimeDelta;
use ratatui::buffer::Buffer;
use ratatui::style::Style;
use ratatui::text::Span;

/// Eighths of a line.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Three digits that matter: `0.123`, `4.56`, `78.9`, `1234`, `5.6e7`.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() || v >= 1e6 => format!("{value:.1e}"),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p.abs() >= 1e4 => format!("{p:.0e} %"),
        p if p != 0.0 && p.abs() < 1.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// In the largest unit of which there are two or more.
pub fn age(age: Duration) -> String {
    match age.as_secs() {
        0 => format!("{} ms", age.as_millis()),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

/// An age that another clock told; what lies ahead is now.
pub fn age_of(delta: TimeDelta) -> String {
    age(delta.to_std().unwrap_or_default())
}

/// Text from elsewhere on one line: whatever would move the cursor, or break the line, is a space.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Means of `values` as bars from zero to the highest, at most `width` of them; a blank where
/// nothing is known.
pub fn sparkline(values: &[Option<f64>], width: usize) -> String {
    let known = values.iter().position(Option::is_some).unwrap_or(values.len());
    let values = &values[known..];
    let top = values.iter().flatten().fold(0.0, |top: f64, &value| top.max(value));
    let cells = width.min(values.len());
    let cell = |i: usize| {
        let part = &values[i * values.len() / cells..(i + 1) * values.len() / cells];
        let (sum, count) = part.iter().flatten().fold((0.0, 0), |(s, n), v| (s + v, n + 1));
        if count == 0 {
            return ' ';
        }
        let share = if top > 0.0 { sum / f64::from(count) / top } else { 0.0 };
        // A cast saturates, so whatever was sent is within the bars.
        BARS[((share * 8.0) as usize).min(7)]
    };
    (0..cells).map(cell).collect()
}

/// Writes into `width` columns of a line; what does not fit ends in `…`. Columns outside of the
/// buffer are left out.
pub fn put(
    buffer: &mut Buffer,
    (x, y): (u16, u16),
    width: u16,
    text: &str,
    style: impl Into<Style>,
) {
    let area = buffer.area;
    if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() || width == 0 {
        return;
    }
    let (style, text) = (style.into(), clean(text));
    let width = usize::from(width.min(area.right() - x));
    if Span::raw(text.as_str()).width() <= width {
        buffer.set_stringn(x, y, text, width, style);
        return;
    }
    let (end, _) = buffer.set_stringn(x, y, text, width - 1, style);
    buffer.set_stringn(end, y, "…", 1, style);
}

/// The same, ending at the last of the columns.
pub fn put_right(
    buffer: &mut Buffer,
    at: (u16, u16),
    width: u16,
    text: &str,
    style: impl Into<Style>,
) {
    let blanks = width.saturating_sub(Span::raw(text).width().min(usize::from(width)) as u16);
    put(buffer, (at.0 + blanks, at.1), width - blanks, text, style);
}

/// The lines of a buffer without blanks at their ends.
pub fn of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let (mut line, mut covered) = (String::new(), 0);
        for x in buffer.area.left()..buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            // A wide character covers the cell after it.
            if covered == 0 {
                line.push_str(symbol);
                covered = Span::raw(symbol).width().max(1);
            }
            covered -= 1;
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ratatui::layout::Rect;

    #[test]
    fn numbers_and_ages_are_short() {
        let numbers = [0.0, 0.0123, 1.234, 12.34, 1234.4, 5.6e7, -2.0, f64::NAN].map(number);
        assert_eq!(numbers, ["0.00", "0.012", "1.23", "12.3", "1234", "5.6e7", "-2.00", "NaN"]);
        let shares = [0.0, 0.004, 0.806, 1.5, 1e6].map(percent);
        assert_eq!(shares, ["0 %", "0.4 %", "81 %", "150 %", "1e8 %"]);
        let ages = [0, 1, 119, 120, 7_199, 7_200, 172_799, 172_800];
        let ages = ages.map(|s| age(Duration::from_secs(s)));
        assert_eq!(ages, ["0 ms", "1 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
        assert_eq!(age_of(TimeDelta::seconds(-5)), "0 ms");
    }

    #[test]
    fn a_sparkline_is_the_mean_of_what_shares_a_cell() {
        let check = |values: &[f64], width, expected: &str| {
            let values: Vec<Option<f64>> =
                values.iter().map(|&v| (v >= 0.0).then_some(v)).collect();
            assert_eq!(sparkline(&values, width), expected);
        };
        check(&[], 5, "");
        check(&[1.0], 0, "");
        // 0/8, 2/8, 4/8, 8/8 of the highest; nothing is known at first, then a gap.
        check(&[-1.0, -1.0, 0.0, 1.0, -1.0, 2.0, 4.0], 9, "▁▃ ▅█");
        // Means 0.5 and 3.5 of 4.
        check(&[0.0, 1.0, 3.0, 4.0], 2, "▂█");
        check(&[0.0, 0.0], 2, "▁▁");
        assert_eq!(sparkline(&[Some(f64::INFINITY), Some(1.0)], 2).chars().count(), 2);
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_columns(
            text in "\\PC{0,12}|[a\\x00-\\x1f\\u{4e00}\\u{202e}\\u{200d}\\u{1f468}]{0,12}",
            x in 0u16..12, width in 0u16..12,
        ) {
            let mut buffer = Buffer::filled(Rect::new(0, 0, 10, 2), ratatui::buffer::Cell::new("#"));
            put(&mut buffer, (x, 1), width, &text, Style::new());
            for at in (0..10).filter(|at| *at < x || *at >= x + width) {
                prop_assert_eq!(buffer[(at, 1)].symbol(), "#");
            }
            prop_assert!(!of(&buffer).replace('\n', "").contains(char::is_control));
        }
    }
}
