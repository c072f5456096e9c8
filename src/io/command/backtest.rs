//! I/O: `foresail backtest`: scores the forecasters on recorded load, several files at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::recorded::blocking;
use super::{CommandError, Format, output};
use crate::forecast::accuracy::MethodScore;
use crate::forecast::backtest::{BacktestOptions, BacktestReport, backtest};
use crate::io::recording::Recording;
use crate::series::Series;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV (`timestamp,value`) or Parquet files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Step of the series, a multiple of the recorded one, for instance `5m`; the recorded one
    /// unless given.
    #[arg(long, value_parser = humantime::parse_duration)]
    step: Option<Duration>,
    /// Steps ahead that are scored.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    horizon: u16,
    /// Forecasts for each series, evenly spaced over its end.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    origins: u16,
    /// Share of the series before the first of them, between 0 and 1.
    #[arg(long, default_value_t = 0.7)]
    from: f64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let format = args.format;
    let scored = blocking(move || score(&args)).await?;
    output::print(&match format {
        Format::Json => output::json(&scored)?,
        Format::Table => table(&scored),
    })
}

#[derive(Debug, Serialize)]
struct Scored {
    series: Vec<ScoredSeries>,
    /// Over all series: geometric mean of `mase` and `pinball`, mean of the shares.
    mean: BTreeMap<&'static str, Scores>,
}

#[derive(Debug, Serialize)]
struct ScoredSeries {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    points: usize,
    season_lengths: Vec<usize>,
    /// By method, and `kept`: the method that the trainer chose at each origin.
    models: BTreeMap<&'static str, Scores>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Scores {
    mase: f64,
    pinball: f64,
    coverage_80: f64,
    exceed_99: f64,
}

fn score(args: &Args) -> Result<Scored, CommandError> {
    if !(0.0 < args.from && args.from < 1.0) {
        return Err(CommandError::BadInput(format!(
            "--from: {} is not between 0 and 1",
            args.from
        )));
    }
    let mut named = Vec::new();
    let mut refused = Vec::new();
    for path in &args.files {
        let read = Recording::read(path).map_err(|e| e.to_string());
        match read.and_then(|recording| Ok((series_of(&recording, args.step)?, recording.name))) {
            Ok(series) => named.push(series),
            Err(reason) => refused.push(reason),
        }
    }
    if !refused.is_empty() {
        return Err(CommandError::BadInput(refused.join("\n")));
    }
    let options = BacktestOptions {
        horizon: usize::from(args.horizon),
        origins: usize::from(args.origins),
        from: args.from,
    };
    let series: Vec<ScoredSeries> = in_parallel(&named, |(series, name)| {
        scored_series(
            name.clone(),
            series.len(),
            backtest(series, &options).map_err(|e| e.to_string()),
        )
    });
    if series.iter().all(|s| s.error.is_some()) {
        let reasons =
            series.iter().filter_map(|s| Some(format!("{}: {}", s.name, s.error.as_ref()?)));
        return Err(CommandError::BadInput(reasons.collect::<Vec<_>>().join("\n")));
    }
    let mean = mean_of(&series);
    Ok(Scored { series, mean })
}

/// The recording without gaps on the step that was asked for.
fn series_of(recording: &Recording, step: Option<Duration>) -> Result<Series, String> {
    let filled = recording.series().fill_linear();
    let Some(step) = step.filter(|step| *step != recording.step) else {
        return Ok(filled);
    };
    let blocks = filled.blocks(step);
    if blocks.step() != step {
        let [asked, recorded] = [step, recording.step].map(humantime::format_duration);
        let name = &recording.name;
        return Err(format!("{name}: --step {asked} is no multiple of the recorded {recorded}"));
    }
    Ok(blocks)
}

fn scored_series(
    name: String,
    points: usize,
    report: Result<BacktestReport, String>,
) -> ScoredSeries {
    let scores = |s: &MethodScore| Scores {
        mase: s.mase,
        pinball: s.pinball,
        coverage_80: s.coverage_80,
        exceed_99: s.exceed_99,
    };
    match report {
        Ok(report) => {
            let by_method = report.scores.iter().map(|s| (output::method(s.method), scores(s)));
            let kept = report.kept.as_ref().map(|s| ("kept", scores(s)));
            ScoredSeries {
                name,
                error: None,
                points: report.points,
                season_lengths: report.season_lengths,
                models: by_method.chain(kept).collect(),
            }
        }
        Err(error) => ScoredSeries {
            name,
            error: Some(error),
            points,
            season_lengths: Vec::new(),
            models: BTreeMap::new(),
        },
    }
}

/// `work` on every item, in their order, on all cores; progress on a terminal.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let bar =
        if items.len() > 1 { ProgressBar::new(items.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} series, {elapsed}") {
        bar.set_style(style);
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let cores = thread::available_parallelism().map_or(1, |n| n.get()).min(items.len());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((i, item)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    items.get(i).map(|item| (i, item))
                } {
                    let result = work(item);
                    done.lock().unwrap_or_else(|e| e.into_inner()).insert(i, result);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    done.into_inner().unwrap_or_else(|e| e.into_inner()).into_values().collect()
}

fn mean_of(series: &[ScoredSeries]) -> BTreeMap<&'static str, Scores> {
    let mut by_model: BTreeMap<&'static str, Vec<Scores>> = BTreeMap::new();
    for (name, scores) in series.iter().flat_map(|s| &s.models) {
        by_model.entry(name).or_default().push(*scores);
    }
    let mean = |scores: &[Scores], of: fn(&Scores) -> f64| {
        scores.iter().map(of).sum::<f64>() / scores.len() as f64
    };
    let means = by_model.iter().map(|(name, scores)| {
        let mean = Scores {
            mase: mean(scores, |s| s.mase.ln()).exp(),
            pinball: mean(scores, |s| s.pinball.ln()).exp(),
            coverage_80: mean(scores, |s| s.coverage_80),
            exceed_99: mean(scores, |s| s.exceed_99),
        };
        (*name, mean)
    });
    means.collect()
}

fn table(scored: &Scored) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for series in &scored.series {
        if let Some(error) = &series.error {
            rows.push(vec![series.name.clone(), error.clone()]);
        }
        push_rows(&mut rows, &series.name, &series.models);
    }
    push_rows(&mut rows, "(mean)", &scored.mean);
    output::table(2, ["series", "method"].into_iter().chain(output::SCORE_HEADER), rows)
}

/// One row a method; the name stands in the first.
fn push_rows(rows: &mut Vec<Vec<String>>, name: &str, models: &BTreeMap<&'static str, Scores>) {
    for (i, (method, s)) in models.iter().enumerate() {
        let mut row =
            vec![if i == 0 { name.to_owned() } else { String::new() }, (*method).to_owned()];
        row.extend([s.mase, s.pinball, s.coverage_80, s.exceed_99].map(|v| format!("{v:.3}")));
        rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::recorded::parse;
    use super::*;

    fn check(words: &[&str], want: &str) {
        let error = score(&parse(words)).unwrap_err();
        assert!(error.to_string().contains(want) && error.exit_code() == 2, "{error}");
    }

    #[test]
    fn every_series_and_method_is_scored_and_a_short_one_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, points: i64| {
            let line = |i: i64| format!("{},{}\n", 60 * i, 5 + i % 10);
            let lines: String = (0..points).map(line).collect();
            let path = folder.path().join(name);
            fs::write(&path, format!("timestamp,value\n{lines}")).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (long, short) = (file("long.csv", 400), file("short.csv", 20));
        let options = ["--horizon", "4", "--origins", "3", "--from", "0.6"];
        let words = [&[long.as_str(), short.as_str()], &options[..]].concat();
        let scored = score(&parse(&words)).unwrap();
        let json: serde_json::Value = serde_json::to_value(&scored).unwrap();
        let [long_json, short_json] = [&json["series"][0], &json["series"][1]];
        assert_eq!((&long_json["name"], &long_json["points"]), (&"long".into(), &400.into()));
        for name in ["seasonal_naive", "naive", "kept"] {
            for key in ["mase", "pinball", "coverage_80", "exceed_99"] {
                assert!(long_json["models"][name][key].is_number(), "{name} {key} in {long_json}");
            }
        }
        assert!(short_json["error"].as_str().unwrap().contains("at least"), "{short_json}");
        assert!(table(&scored).contains("(mean)"));
        check(&[&short], "short: 20 steps of history");
        check(&[&long, "--step", "90s"], "long: --step 1m 30s is no multiple of the recorded 1m");
        check(&[&long, "--from", "1"], "--from: 1 is not between 0 and 1");
        check(&[&long, "no.csv", "none.csv"], "no.csv: ");
    }

    #[test]
    fn the_mean_of_errors_is_geometric() {
        let series = |mase: f64, coverage_80: f64| ScoredSeries {
            name: String::new(),
            error: None,
            points: 0,
            season_lengths: Vec::new(),
            models: [("naive", Scores { mase, pinball: mase, coverage_80, exceed_99: 0.0 })].into(),
        };
        // sqrt(0.5 * 2) = 1; (0.7 + 0.9) / 2 = 0.8.
        let mean = mean_of(&[series(0.5, 0.7), series(2.0, 0.9)])["naive"];
        assert!((mean.mase - 1.0).abs() < 1e-12 && (mean.coverage_80 - 0.8).abs() < 1e-12);
    }
}
