//! I/O: `foresail compare`: policies side by side on recorded load.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{CommandError, Format, output};
use crate::forecast::censoring;
use crate::io::recording::Recording;
use crate::series::Series;
use crate::simulator::{CompareOptions, CompareReport, Contender, compare};

/// Replays policies over recorded load and shows overload, cost and churn of each.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Recorded load: CSV with the columns `timestamp,value`, or Parquet.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Policies to replay.
    #[arg(
        long = "policy",
        value_enum,
        value_delimiter = ',',
        default_value = "threshold,target_tracking,predictive,oracle"
    )]
    policies: Vec<Contender>,
    /// Demand one replica carries, in the unit of the file; `auto` is the 99th percentile / 10.
    #[arg(long, default_value = "auto", value_parser = capacity)]
    capacity: Capacity,
    /// From a start order until the replica is ready.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    startup_delay: Duration,
    /// Time before the first scored step [default: 7 days, at most half the recording].
    #[arg(long, value_parser = humantime::parse_duration)]
    warmup: Option<Duration>,
    /// Share of steps in which demand may exceed ready capacity, for `predictive`.
    #[arg(long, default_value_t = 0.01)]
    budget: f64,
    /// Utilization that `target_tracking` aims at.
    #[arg(long, default_value_t = 0.7)]
    target: f64,
    /// What `target_tracking` sees: CPU is clipped where replicas are saturated, demand is not.
    #[arg(long, value_enum, default_value_t = Signal::Cpu)]
    signal: Signal,
    /// Means of blocks of this length instead of the recording's own step.
    #[arg(long, value_parser = humantime::parse_duration)]
    step: Option<Duration>,
    /// Fewest replicas.
    #[arg(long, default_value_t = 1)]
    min_replicas: u32,
    /// Most replicas.
    #[arg(long, default_value_t = 10_000)]
    max_replicas: u32,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  foresail compare load.csv
  foresail compare load.csv --policy target_tracking,predictive --target 0.6 --budget 0.005
  foresail compare a.csv b.parquet --capacity 250 --startup-delay 90s --format json";

#[derive(Debug, Clone, Copy)]
enum Capacity {
    Auto,
    Fixed(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Signal {
    Cpu,
    Demand,
}

fn capacity(text: &str) -> Result<Capacity, String> {
    match text.parse::<f64>() {
        _ if text == "auto" => Ok(Capacity::Auto),
        Ok(value) if value > 0.0 && value.is_finite() => Ok(Capacity::Fixed(value)),
        _ => Err("expected `auto` or a number above 0".into()),
    }
}

/// One recording's report, as JSON shows it.
#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    report: CompareReport,
}

#[derive(Serialize)]
struct Output {
    series: Vec<Named>,
}

/// # Errors
/// [`CommandError::BadInput`] for a file that cannot be read or replayed, or an option out of
/// range.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let worker = tokio::task::spawn_blocking(move || {
        let series = args.files.iter().map(|file| replay(file, &args)).collect::<Result<_, _>>()?;
        print(&Output { series }, args.format)
    });
    worker.await.map_err(|e| CommandError::Failed(format!("the replay broke off: {e}")))?
}

fn replay(file: &std::path::Path, args: &Args) -> Result<Named, CommandError> {
    let recording = Recording::read(file).map_err(|e| CommandError::BadInput(e.to_string()))?;
    let bad = |reason: String| CommandError::BadInput(format!("{}: {reason}", file.display()));
    let own = demanded(&recording);
    let series = match args.step {
        None => own,
        Some(step) if step.as_millis() > 0 && step.as_millis() % own.step().as_millis() == 0 => {
            own.blocks(step)
        }
        Some(step) => {
            let (step, own) =
                (humantime::format_duration(step), humantime::format_duration(own.step()));
            return Err(bad(format!(
                "a step of {step} is no multiple of the recording's step of {own}"
            )));
        }
    };
    let report = compare(&series, &args.options()).map_err(bad)?;
    Ok(Named { name: recording.name, report })
}

/// The recording with the demand behind its lower bounds, for policies must meet demand, and not
/// what the recorded workers could carry of it.
fn demanded(recording: &Recording) -> Series {
    let recorded = recording.series();
    let bounds = recorded.lower_bounds().unwrap_or_default().iter().filter(|b| **b).count();
    if bounds > 0 {
        let steps = recorded.len();
        let name = &recording.name;
        eprintln!("{name}: {bounds} of {steps} steps are lower bounds; demand is estimated there");
    }
    let demand = censoring::for_training(&recorded, 0).into_owned();
    Series::new(recorded.start(), recorded.step(), demand)
}

impl Args {
    fn options(&self) -> CompareOptions {
        CompareOptions {
            contenders: self.policies.clone(),
            capacity: match self.capacity {
                Capacity::Auto => None,
                Capacity::Fixed(value) => Some(value),
            },
            startup_delay: self.startup_delay,
            warmup: self.warmup,
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            overload_budget: self.budget,
            target_utilization: self.target,
            clipped: self.signal == Signal::Cpu,
        }
    }
}

fn print(compared: &Output, format: Format) -> Result<(), CommandError> {
    if format == Format::Json {
        return output::print(&output::json(compared)?);
    }
    let mut text = String::new();
    for Named { name, report } in &compared.series {
        text += &format!(
            "{name}: {} steps of {}, {} scored, capacity {:.4}\n{}\n\n",
            report.steps,
            humantime::format_duration(Duration::from_millis(report.step_ms)),
            report.scored_steps,
            report.capacity,
            report.table(),
        );
    }
    output::print(&text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn arguments_become_options_or_a_sentence() {
        let parse = |words: &str| {
            let words = std::iter::once("compare").chain(words.split(' '));
            Cli::try_parse_from(words).map(|cli| cli.args.options())
        };
        let plain = parse("load.csv").expect("defaults suffice");
        assert_eq!(plain.contenders.len(), 4);
        assert_eq!((plain.capacity, plain.warmup), (None, None));
        assert_eq!(plain.startup_delay, Duration::from_secs(300));
        assert!(plain.clipped);
        let own =
            "a.csv b.csv --policy predictive,oracle --capacity 2.5 --warmup 1d --signal demand";
        let own = parse(own).expect("all valid");
        assert_eq!(own.contenders, [Contender::Predictive, Contender::Oracle]);
        assert_eq!((own.capacity, own.warmup), (Some(2.5), Some(Duration::from_secs(86_400))));
        assert!(!own.clipped);
        for bad in ["--budget 0.1", "a --capacity 0", "a --capacity NaN", "a --policy hpa"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
