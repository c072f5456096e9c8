//! Pure: a whole series at a glance: a strip without axes, as wide as its page.

use crate::series::Series;

/// Columns of the strip: more values than these share a column, from the lowest to the highest.
const COLUMNS: usize = 800;
const HEIGHT: f64 = 100.0;

/// The series, with a line at each step of `marks`.
pub fn strip(series: &Series, marks: &[usize]) -> String {
    let values = series.values();
    let width = values.len().div_ceil(COLUMNS).max(1);
    let known = |column: &[f64]| column.iter().copied().filter(|v| v.is_finite()).collect();
    let columns: Vec<Vec<f64>> = values.chunks(width).map(known).collect();
    let top = columns.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let y = |value: f64| HEIGHT * (1.0 - (value / top).clamp(0.0, 1.0));
    let mut path = String::new();
    let mut open = false;
    for (x, column) in columns.iter().enumerate() {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(0.0, f64::max);
        if low.is_finite() {
            let to = if open { 'L' } else { 'M' };
            path += &format!("{to}{x},{:.1}L{x},{:.1}", y(low), y(high));
        }
        open = low.is_finite();
    }
    let lines: String = marks.iter().map(|m| format!("M{} 0V{HEIGHT}", m / width)).collect();
    let right = columns.len().max(2) - 1;
    format!(
        "<svg class=\"chart strip\" viewBox=\"0 0 {right} {HEIGHT}\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\"><path class=\"mark\" d=\"{lines}\"/><path class=\"history\" \
         d=\"{path}\"/></svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_column_reaches_from_its_lowest_to_its_highest_value() {
        let check = |values: Vec<f64>, marks: &[usize], want: [&str; 2]| {
            let series = Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(1), values);
            let svg = strip(&series, marks);
            for part in want {
                assert!(svg.contains(part), "{part} in {svg}");
            }
        };
        let gap = f64::NAN;
        check(
            vec![4.0, gap, 1.0, 2.0],
            &[2],
            ["d=\"M0,0.0L0,0.0M2,75.0L2,75.0L3,50.0L3,50.0\"", "d=\"M2 0V100\""],
        );
        // 1600 values are two a column; the last column is 1598 and 1599 of 1599.
        let ramp = (0..1_600).map(f64::from).collect();
        check(ramp, &[1_599], ["L799,0.1L799,0.0\"", "d=\"M799 0V100\""]);
        check(vec![], &[], ["viewBox=\"0 0 1 100\"", "d=\"\""]);
        check(vec![0.0, 0.0], &[], ["M0,100.0L0,100.0L1,100.0", "d=\"\""]);
    }
}
