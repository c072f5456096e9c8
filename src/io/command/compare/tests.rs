//! I/O: tests of the command on files.

use std::fs;

use clap::Parser;
use polars::prelude::*;

use super::super::files::Files;
use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(words: &[&str]) -> Result<Args, clap::Error> {
    Cli::try_parse_from(["compare"].iter().chain(words)).map(|cli| cli.args)
}

impl Files {
    /// Two days of a wave of two hours that grows, with a gap of an hour.
    fn wave(&self, name: &str) -> String {
        let value = |i: usize| 4.0 + (i % 24) as f64 * 0.5 + i as f64 * 0.01;
        let steps = (0..576).filter(|i| !(300..312).contains(i));
        let lines: String = steps.map(|i| format!("{},{}\n", 300 * i, value(i))).collect();
        self.text(name, &format!("timestamp,value\n{lines}"))
    }
}

const QUICK: &str = "--policy=threshold,target_tracking,oracle:budget=0.02";

#[test]
fn every_trace_is_replayed_and_a_failed_one_named() {
    let files = Files::new();
    let (a, b) = (files.wave("a.csv"), files.wave("b.csv"));
    let empty = files.text("empty.csv", "timestamp,value\n");
    let sweep = "--policy=target_tracking:target=0.5..0.9/3";
    let args = parse(&[&a, "absent.csv", &b, &empty, QUICK, sweep]).unwrap();
    let compared = compare(&args).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&printed(&compared, Format::Json).unwrap()).unwrap();
    let traces = json["traces"].as_array().unwrap();
    assert_eq!((&traces[0]["name"], &traces[1]["name"]), (&"a".into(), &"b".into()));
    assert_eq!((traces.len(), &traces[0]["step_seconds"]), (2, &300.0.into()));
    // Half of 576 steps, less the gap.
    assert_eq!(traces[0]["scored_steps"], 276);
    // The two recordings are the same, so are their reports, whichever core was faster.
    assert_eq!(traces[0]["policies"], traces[1]["policies"]);
    let policies = traces[0]["policies"].as_array().unwrap();
    let labels: Vec<_> = policies.iter().map(|p| p["label"].as_str().unwrap()).collect();
    let swept = ["0.5", "0.7", "0.9"].map(|target| format!("target_tracking:target={target}"));
    assert_eq!(labels[..3], ["threshold", "target_tracking", "oracle:budget=0.02"]);
    assert_eq!(labels[3..], swept);
    for key in ["overload_share", "unserved_share", "replica_hours", "oracle_ratio", "theta_u"] {
        assert!(policies[0][key].is_number(), "{key} in {json}");
    }
    assert_eq!(policies[0]["days"].as_array().map(Vec::len), Some(1));
    let [absent, empty] = &compared.failures[..] else { panic!("two: {:?}", compared.failures) };
    assert!(absent.starts_with("absent.csv: ") && empty.contains("empty.csv: "), "{absent}");
    let table = printed(&compared, Format::Table).unwrap();
    assert!(table.contains("a: 276 steps of 5m scored, capacity") && table.contains(&swept[1]));
}

/// What anybody would do with the file: overload and cost from its rows and the JSON's capacity.
#[test]
fn the_parquet_file_scores_again_to_the_same_numbers() {
    let files = Files::new();
    let (a, b) = (files.wave("a.csv"), files.wave("b.csv"));
    let out = files.path("steps.parquet");
    let args = parse(&[&a, &b, QUICK, "--out", &out, "--startup-delay=5m..40m"]).unwrap();
    let compared = compare(&args).unwrap();
    write_files(&args, &compared).unwrap();
    let content = std::io::Cursor::new(fs::read(&out).unwrap());
    let frame = ParquetReader::new(content).finish().unwrap();
    let names: Vec<_> = frame.get_column_names().iter().map(|n| n.to_string()).collect();
    assert_eq!(names, ["trace", "policy", "time", "demand", "ready", "desired", "scored"]);
    assert_eq!(frame.height(), 2 * 3 * 576);
    let text = |name: &str| frame.column(name).unwrap().str().unwrap().clone();
    let (trace, policy) = (text("trace"), text("policy"));
    let demand = frame.column("demand").unwrap().f64().unwrap().clone();
    let ready = frame.column("ready").unwrap().u32().unwrap().clone();
    let scored = frame.column("scored").unwrap().bool().unwrap().clone();
    for report in compared.traces.iter().map(|trace| &trace.report) {
        for row in &report.policies {
            let own = (0..frame.height()).filter(|&i| {
                trace.get(i) == Some(report.name.as_str())
                    && policy.get(i) == Some(row.label.as_str())
                    && scored.get(i) == Some(true)
            });
            let (mut steps, mut overloaded, mut replicas) = (0.0, 0.0, 0.0);
            for i in own {
                let ready = f64::from(ready.get(i).unwrap());
                let demand = demand.get(i).expect("a scored step has demand");
                steps += 1.0;
                overloaded += f64::from(u8::from(demand > ready * report.capacity));
                replicas += ready;
            }
            assert_eq!(steps as usize, report.scored_steps);
            assert_eq!(overloaded / steps, row.overload_share, "{}", row.label);
            let hours = replicas * report.step_seconds / 3600.0;
            assert!((hours - row.replica_hours).abs() < 1e-9, "{}", row.label);
        }
    }
    // The gap has null demand and is not scored.
    assert_eq!(
        (demand.get(300), scored.get(300), scored.get(312)),
        (None, Some(false), Some(true))
    );
    let times = frame.column("time").unwrap().cast(&DataType::Int64).unwrap();
    assert_eq!(times.i64().unwrap().get(577), Some(300_000));
}

#[test]
fn the_page_and_the_pictures_are_whole_and_harmless() {
    let files = Files::new();
    let (evil, b) = (files.wave("a<script>&.csv"), files.wave("b.csv"));
    let sweep = "--policy=target_tracking:target=0.5..0.9/3";
    let pictures = files.path("pictures");
    let html = files.path("report.html");
    let words = [&evil, &b, "absent<b>.csv", QUICK, sweep, "--html", &html, "--svg", &pictures];
    let args = parse(&words).unwrap();
    write_files(&args, &compare(&args).unwrap()).unwrap();
    let page = fs::read_to_string(&html).unwrap();
    let count = |what: &str| page.matches(what).count();
    // All traces, two of them, and those that could not be compared.
    assert_eq!((count("<h2>"), count("role=\"img\""), count("class=\"zoom\"")), (4, 4, 2));
    assert_eq!((count("<tr class=\"best\">"), count("class=\"ring\"")), (2, 2));
    assert!(page.contains("did best on 2 of 2 traces"), "{page}");
    assert!(page.contains("a&lt;script&gt;&amp;") && page.contains("absent&lt;b&gt;.csv"));
    assert_eq!(count("<script"), 1, "its own");
    // The namespace of SVG is a name, not a link.
    let linked = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http", "src=", "@import", "url(", "NaN"] {
        assert!(!linked.contains(outside), "{outside}");
    }
    let mut names: Vec<_> = fs::read_dir(&pictures)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let want =
        ["a_script__", "b"].map(|n| ["frontier", "replicas"].map(|w| format!("{n}-{w}.svg")));
    assert_eq!(names, want.concat());
    let svg = fs::read_to_string(files.path("pictures/b-frontier.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("<style>") && svg.ends_with("</svg>\n"));
}

/// Whatever a file holds, it is refused with a sentence or compared, pictures and all.
#[test]
fn hostile_files_are_refused_or_compared_but_never_a_panic() {
    let files = Files::new();
    let check = |name: &str, lines: &str, want: Option<&str>| {
        let path = files.text(name, &format!("timestamp,value\n{lines}"));
        let args = parse(&[&path, QUICK, "--html=x.html"]).unwrap();
        let compared = compare(&args).unwrap();
        let failure = compared.failures.first();
        match want {
            Some(want) => assert!(failure.is_some_and(|f| f.contains(want)), "{failure:?}"),
            None => assert_eq!(failure, None),
        }
        page::html(&compared);
        printed(&compared, Format::Json).unwrap();
    };
    let minutes = |value: fn(usize) -> f64| -> String {
        (0..40).map(|i| format!("{},{}\n", 60 * i, value(i))).collect()
    };
    check("two.csv", "0,1\n60,2\n", None);
    check("zero.csv", &minutes(|_| 0.0), Some("state the capacity"));
    check("negative.csv", "0,1\n60,-2\n", Some("-2"));
    check("huge.csv", &minutes(|i| 1e90 * i as f64), None);
    check("tiny.csv", &minutes(|i| 1e-300 * i as f64), None);
    check("jumps.csv", &minutes(|i| if i % 37 == 0 { 1e80 } else { 1e-80 }), None);
}

#[test]
fn arguments_become_options_or_a_sentence() {
    let plain = parse(&["load.csv"]).expect("defaults suffice");
    let labels = |args: &Args| -> Vec<String> {
        args.contenders().unwrap().into_iter().map(|c| c.label).collect()
    };
    assert_eq!(labels(&plain), ["threshold", "target_tracking", "predictive", "oracle"]);
    assert_eq!(plain.options(), CompareOptions::default());
    let own = ["a.csv", "b.csv", "--policy=predictive,oracle", "--capacity=2.5", "--warmup=1d"];
    let own = parse(&own).expect("all valid");
    assert_eq!(labels(&own), ["predictive", "oracle"]);
    let options = own.options();
    let day = Duration::from_secs(86_400);
    assert_eq!((options.capacity, options.warmup), (Some(2.5), Some(day)));
    let preset = parse(&["a", "--budget=0.02", "--target=0.6", "--signal=demand"]).unwrap();
    let contenders = preset.contenders().unwrap();
    assert_eq!(contenders[1].parameters["target"], 0.6);
    assert_eq!(contenders[1].parameters["signal"], "demand");
    assert_eq!(contenders[2].parameters["budget"], 0.02);

    for bad in [
        "--capacity=0",
        "--capacity=NaN",
        "--startup-delay=soon",
        "--step=x",
        "--seed=-1",
        "--budget=0",
        "--budget=NaN",
    ] {
        assert_eq!(parse(&["a", bad]).unwrap_err().exit_code(), 2, "{bad}");
    }
    assert!(parse(&["--budget", "0.1"]).is_err(), "a file is needed");
    let refused = |words: &[&str]| {
        let error = compare(&parse(words).unwrap()).err().expect("refused");
        (error.to_string(), error.exit_code())
    };
    let (error, code) = refused(&["a", "--policy=target_tracking:target=2"]);
    let want = "--policy `target_tracking:target=2`: target=2 is not 0.01 to 1";
    assert_eq!((error.as_str(), code), (want, 2));
    assert!(refused(&["a", "--target=7"]).0.contains("target=7 is not 0.01 to 1"));
    assert!(refused(&["a", "--budget=1e-9"]).0.contains("is not 0.000001 to 0.5"));
    assert!(refused(&["a", "--html=no/folder.html"]).0.contains("not a file"));
}

#[test]
fn startup_delays_come_from_a_file_too() {
    let files = Files::new();
    let delays = files.text("delays.csv", "startup_delay\n30s\n45s\n5m\n");
    let of = |delay: &str| parse(&["a", "--startup-delay", delay]).map(|args| args.startup_delay);
    let want = [30, 45, 300].map(Duration::from_secs).to_vec();
    assert_eq!(of(&delays).unwrap(), StartupDelay::OneOf(want));
    let broken = files.text("broken.csv", "30s\nlate\n");
    assert!(of(&broken).unwrap_err().to_string().contains("line 2: `late` is no duration"));
    let absent = of("absent.csv").unwrap_err().to_string();
    assert!(absent.contains("write for instance 5m, 30s..5m") && absent.contains("or a file"));
}

#[test]
fn a_calendar_is_read_for_the_time_of_the_recordings() {
    let files = Files::new();
    let path = files.wave("a.csv");
    let series = super::load(Path::new(&path), None).unwrap();
    let event = |day: &str| format!("BEGIN:VEVENT\nDTSTART:{day}\nSUMMARY:Fair\nEND:VEVENT\n");
    let calendar = |days: &[&str]| {
        let events = days.iter().map(|day| event(day)).collect::<String>();
        files.text("events.ics", &format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR\n"))
    };
    let compared = |calendar: String| {
        let args = parse(&[&path, QUICK, "--calendar", &calendar]).unwrap();
        args.events([&series].into_iter()).map(|events| events.len())
    };
    // The recording is of 1970-01-01 and 02; the third event is over before.
    assert_eq!(compared(calendar(&["19700101", "19700103", "19691230"])).ok(), Some(2));
    let refused = compared(calendar(&["today"])).unwrap_err().to_string();
    assert!(refused.contains("events.ics: line 3: DTSTART: \"today\" is no date"), "{refused}");
}
