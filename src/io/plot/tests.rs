//! Pure: tests of the pictures.

use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

const QUANTILES: [f64; 4] = [0.1, 0.25, 0.5, 0.9];

fn series(values: &[f64]) -> Series {
    Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(60), values.to_vec())
}

fn chart<'a>(series: &'a Series, seen: usize, paths: &'a [Vec<f64>]) -> Chart<'a> {
    Chart {
        title: "a <b> & c",
        quantity: "cores",
        size: (600.0, 300.0),
        series,
        seen,
        quantiles: &QUANTILES,
        point: paths.get(2).map_or(&[], Vec::as_slice),
        paths,
    }
}

#[test]
fn a_picture_has_a_band_for_each_pair_and_a_line_for_each_run() {
    let load = series(&[1.0, 2.0, f64::NAN, 3.0, 4.0, 5.0]);
    let paths = [1.0, 1.5, 2.0, 3.0].map(|v| vec![v; 3]);
    let svg = chart(&load, 4, &paths).file();
    let count = |what: &str| svg.matches(what).count();
    assert_eq!(count("<polygon"), 1, "0.1 has its 0.9, 0.25 has no 0.75: {svg}");
    // In the legend and in the plot, where the 3 stands alone behind the gap.
    assert_eq!((count(r#"path class="history""#), count(r#"circle class="dot history""#)), (2, 1));
    assert_eq!((count(r#"path class="actual""#), count("what came")), (2, 1));
    assert!(svg.contains("a &lt;b&gt; &amp; c") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("prefers-color-scheme: dark"));

    let unseen = series(&[1.0, 2.0]);
    let svg = Chart { title: "", ..chart(&unseen, 2, &paths) }.inline();
    assert!(
        !svg.contains("<style>") && !svg.contains("class=\"title\"") && !svg.contains("actual")
    );
}

#[test]
fn text_is_escaped() {
    assert_eq!(escape("a<b>&\"c\"\u{1b}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
}

fn any_load() -> impl Strategy<Value = f64> {
    let extremes = [0.0, 1e-320, f64::MAX, f64::NAN, f64::INFINITY];
    prop_oneof![0.0f64..9.0, prop::sample::select(extremes.to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_drawn_lies_in_the_picture(
        values in prop::collection::vec(any_load(), 0..30),
        ahead in prop::collection::vec(any_load(), 0..9),
        seen in 0usize..40,
    ) {
        let load = series(&values);
        let paths = vec![ahead; QUANTILES.len()];
        let svg = chart(&load, seen, &paths).inline();
        prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for number in svg.split(|c: char| !c.is_ascii_digit() && c != '-' && c != '.') {
            if let Ok(number) = number.parse::<f64>() {
                // Dates apart, nothing is beyond the picture's width.
                prop_assert!(number <= 2_000.0, "{number} in {svg}");
            }
        }
    }
}
