//! I/O: tests of the command on files.

use std::fs;

use polars::prelude::*;

use super::super::files::Files;
use super::super::recorded::parse;
use super::*;

impl Files {
    /// `points` values, `step` seconds apart.
    fn recording(&self, name: &str, step: usize, points: usize, value: fn(usize) -> f64) -> String {
        let line = |i: usize| format!("{},{}\n", step * i, value(i));
        let lines: String = (0..points).map(line).collect();
        self.text(name, &format!("timestamp,value\n{lines}"))
    }
}

fn saw(i: usize) -> f64 {
    5.0 + (i % 10) as f64
}

const FEW: [&str; 8] = ["--horizon", "4", "--origins", "3", "--from", "0.6", "--step", "1m"];

#[test]
fn every_series_and_model_is_scored_and_a_failed_one_named() {
    let files = Files::new();
    let long = files.recording("long.csv", 60, 200, saw);
    let short = files.recording("short.csv", 60, 20, saw);
    let words = [&[long.as_str(), &short, "absent.csv"], &FEW[..]].concat();
    let scored = score(&parse(&words)).unwrap();
    let json: serde_json::Value = serde_json::to_value(&scored).unwrap();
    let series = json["series"].as_array().unwrap();
    assert_eq!((&series[0]["name"], &series[0]["points"]), (&"long".into(), &200.into()));
    assert_eq!(series[0]["step_seconds"], 60.0);
    for contender in Contender::ALL {
        let name = contender.name();
        for key in ["mase", "pinball", "coverage_80", "exceed_99", "fit_seconds"] {
            assert!(series[0]["models"][name][key].is_number(), "{name} {key} in {json}");
        }
        assert_eq!(series[0]["models"][name]["origins"], 3);
    }
    assert_eq!(series[1]["models"], serde_json::json!({}));
    assert!(series[1]["error"].as_str().unwrap().ends_with("at least 30 are needed"), "{json}");
    let failures = scored.failures().unwrap();
    assert!(failures.starts_with(&short) && failures.contains("\nabsent.csv: "), "{failures}");
    assert!(scored.table().contains("(mean)"));
}

#[test]
fn a_coarse_recording_is_scored_at_its_own_step_unless_another_is_asked_for() {
    let files = Files::new();
    let coarse = files.recording("coarse.csv", 600, 200, saw);
    let scored = score(&parse(&[&coarse, "--models", "naive", "--horizon", "2"])).unwrap();
    let notes: Vec<_> = scored.notes().collect();
    assert_eq!(notes, [("coarse", "recorded every 10m, scored in steps of 10m")]);
    let asked = ["--models", "naive", "--step", "5m"];
    let fine = files.recording("fine.csv", 60, 2_000, saw);
    let scored = score(&parse(&[&[coarse.as_str(), &fine], &asked[..]].concat())).unwrap();
    let want = "a step of 5m is no multiple of the recording's step of 10m";
    assert_eq!(scored.series[0].error, Some(format!("{coarse}: {want}")));
    assert_eq!(scored.series[1].facts.as_ref().map(|f| f.points), Some(400));
}

#[test]
fn the_parquet_file_holds_every_forecast_beside_what_came() {
    let files = Files::new();
    let long = files.recording("long.csv", 60, 200, saw);
    let out = files.path("all.parquet");
    let words = [&[long.as_str(), "--models", "naive,foresail", "--out", &out], &FEW[..]].concat();
    let args = parse(&words);
    write_files(&args, &score(&args).unwrap()).unwrap();
    let content = std::io::Cursor::new(fs::read(&out).unwrap());
    let frame = ParquetReader::new(content).finish().unwrap();
    let names: Vec<_> = frame.get_column_names().iter().map(|n| n.to_string()).collect();
    let want = ["series", "model", "origin", "time", "horizon", "quantile", "forecast", "actual"];
    assert_eq!(names, want);
    // Two models, three origins, four steps, the point and nine quantiles.
    assert_eq!(frame.height(), 2 * 3 * 4 * 10);
    let utc = DataType::Datetime(TimeUnit::Milliseconds, Some(TimeZone::UTC));
    assert_eq!(
        [frame.column("origin").unwrap().dtype(), frame.column("time").unwrap().dtype()],
        [&utc; 2]
    );
    let first = |name: &str| frame.column(name).unwrap().get(0).unwrap().to_string();
    let ms = |name: &str| {
        frame.column(name).unwrap().cast(&DataType::Int64).unwrap().i64().unwrap().get(0)
    };
    assert_eq!((first("series"), first("horizon")), ("\"long\"".into(), "1".into()));
    // The first origin is 0.6 * 200 = 120; minute 121 has the value 5 + 1.
    assert_eq!((ms("origin"), ms("time")), (Some(120 * 60_000), Some(121 * 60_000)));
    assert_eq!((first("quantile"), first("actual")), ("null".into(), "6.0".into()));
}

#[test]
fn the_page_is_whole_and_harmless() {
    let files = Files::new();
    let evil = files.recording("a<script>&.csv", 60, 200, saw);
    let flat = files.recording("flat.csv", 60, 200, |_| 3.0);
    let words = [&[evil.as_str(), &flat, "absent<b>.csv"], &FEW[..]].concat();
    let page = page::html(&score(&parse(&words)).unwrap());
    let count = |what: &str| page.matches(what).count();
    assert_eq!(
        (count("<h2>"), count("class=\"panels\""), count("class=\"chart strip\"")),
        (4, 2, 2)
    );
    assert_eq!(count("role=\"img\""), 6, "three panels a series");
    assert!(page.contains("a&lt;script&gt;&amp;") && page.contains("absent&lt;b&gt;.csv"));
    // The namespace of SVG is a name, not a link.
    let linked = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["<script", "http", "src=", "@import", "url(", "NaN"] {
        assert!(!linked.contains(outside), "{outside}");
    }
}

#[test]
fn hostile_files_are_refused_or_scored_but_never_a_panic() {
    let files = Files::new();
    let check = |path: String, want: Option<&str>| {
        let words = [&[path.as_str()], &FEW[..]].concat();
        let scored = score(&parse(&words)).unwrap();
        let failures = scored.failures();
        match want {
            Some(want) => {
                assert!(failures.as_ref().is_some_and(|f| f.contains(want)), "{failures:?}")
            }
            None => assert_eq!(failures, None),
        }
        page::html(&scored);
        frame::parquet(&scored.series).unwrap();
        output::json(&scored).unwrap();
    };
    check(files.path("absent.csv"), Some("No such file"));
    check(files.text("empty.csv", ""), Some("the header `timestamp,value` and data are needed"));
    check(files.text("one.csv", "timestamp,value\n0,1\n"), Some("at least two are needed"));
    check(files.recording("two.csv", 60, 2, saw), Some("at least 13 are needed"));
    check(files.recording("constant.csv", 60, 150, |_| 5.0), None);
    check(files.recording("zero.csv", 60, 150, |_| 0.0), None);
    let huge = files.recording("huge.csv", 60, 150, |i| 1e300 * saw(i));
    check(huge, Some("0 steps of history, at least 10 are needed"));
    check(files.recording("tiny.csv", 60, 150, |i| 1e-310 * saw(i)), None);
    let jumps = |i: usize| if i.is_multiple_of(37) { 1e200 } else { 1e-200 };
    check(files.recording("jumps.csv", 60, 150, jumps), None);
}

#[test]
fn arguments_are_checked_and_named() {
    let check = |words: &[&str], want: &str| {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("backtest"));
        let error = command.try_get_matches_from([&["backtest"], words].concat()).unwrap_err();
        assert!(error.to_string().contains(want) && error.exit_code() == 2, "{error}");
    };
    check(&[], "FILE");
    for from in ["0", "1", "NaN", "-1", "x"] {
        check(&["a.csv", &format!("--from={from}")], "not between 0 and 1");
    }
    check(&["a.csv", "--horizon", "0"], "0 is not in 1..=10000");
    check(&["a.csv", "--origins", "0"], "0 is not in 1..=10000");
    check(&["a.csv", "--step", "five"], "--step");
    let names = "no model `arima`; there are: all, foresail, ";
    check(&["a.csv", "--models", "naive,arima"], names);
    let args: Args = parse(&["a.csv", "--models", "naive, foresail,naive"]);
    assert_eq!(args.models.0, [Contender::Foresail, Contender::Naive]);

    let files = Files::new();
    for target in [files.path("no/folder.html"), files.path("")] {
        let error = score(&parse(&["a.csv", "--html", &target])).unwrap_err();
        assert!(error.to_string().contains("not a file") && error.exit_code() == 2, "{error}");
    }
}

#[test]
fn a_name_is_the_stem_and_where_two_are_the_same_the_path() {
    let all = ["a/x.csv", "b/x.csv", "y.csv"].map(PathBuf::from);
    assert_eq!(all.each_ref().map(|p| name_of(p, &all)), ["a/x.csv", "b/x.csv", "y"]);
}
