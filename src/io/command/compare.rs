//! I/O: `foresail compare`: policies side by side on recorded load, on all cores.

mod frame;
mod page;
mod verdict;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::batch::{self, in_parallel, name_of};
use super::recorded::blocking;
use super::{CommandError, Format, output};
use crate::forecast::censoring;
use crate::forecast::events::Events;
use crate::io::atomic_file;
use crate::io::calendar;
use crate::io::recording::Recording;
use crate::series::Series;
use crate::simulator::contender::{self, Contender};
use crate::simulator::report::{PolicyReport, TraceReport, Trail};
use crate::simulator::startup::StartupDelay;
use crate::simulator::{CompareOptions, Stage};

/// Replays policies over recorded load and shows overload, cost and churn of each.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub struct Args {
    /// Recorded load: CSV with the columns `timestamp,value`, or Parquet.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A policy with parameters, `name:key=value,key=value`, where `a..b` is a sweep of 9 values
    /// and `a..b/n` one of n; or names separated by commas. May be given several times.
    #[arg(long = "policy", value_name = "SPEC", default_value = contender::USUAL)]
    policies: Vec<String>,
    /// Demand one replica carries, in the unit of the file; `auto` is the 99th percentile / 10.
    #[arg(long, default_value = "auto", value_parser = capacity)]
    capacity: Capacity,
    /// From a start order until the replica is ready: `5m`; `30s..5m`, each as likely; or measured
    /// ones to draw from, `30s,45s,5m` or a file of them.
    #[arg(long, value_name = "DELAY|FILE", default_value = "5m", value_parser = startup_delay)]
    startup_delay: StartupDelay,
    /// Seed of the startup delays that are drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Time before the first scored step [default: 7 days, at most half the recording].
    #[arg(long, value_parser = humantime::parse_duration)]
    warmup: Option<Duration>,
    /// Share of steps in which demand may exceed ready capacity: what `predictive` is steered to,
    /// and what the report judges by.
    #[arg(long, default_value_t = 0.01, value_parser = budget)]
    budget: f64,
    /// Utilization that `target_tracking` aims at, where its parameters do not say.
    #[arg(long, default_value_t = 0.7)]
    target: f64,
    /// What `target_tracking` sees: `cpu` is clipped where replicas are saturated, `demand` is not.
    #[arg(long, default_value = "cpu")]
    signal: String,
    /// Means of blocks of this length instead of the recording's own step.
    #[arg(long, value_parser = humantime::parse_duration)]
    step: Option<Duration>,
    /// Fewest replicas.
    #[arg(long, default_value_t = 1)]
    min_replicas: u32,
    /// Most replicas.
    #[arg(long, default_value_t = 10_000)]
    max_replicas: u32,
    /// Also writes every step: trace, policy, time, demand, ready, desired, scored.
    #[arg(long, value_name = "FILE.parquet")]
    out: Option<PathBuf>,
    /// Also writes a report with pictures, one page that needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Also writes the pictures of each trace into this folder.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Promotions, holidays and other known events; forecasts learn from their past ones.
    #[arg(long, value_name = "FILE.ics")]
    calendar: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Begins a policy that is an autoscaler's file.
const HPA: &str = "hpa:";

fn help() -> String {
    let policies = contender::help();
    format!(
        "{policies}  hpa:FILE.yaml    a HorizontalPodAutoscaler of Kubernetes, as it is written

Examples:
  foresail compare load.csv
  foresail compare *.csv --html report.html --out steps.parquet --startup-delay 30s..5m
  foresail compare load.csv --policy predictive,oracle --policy 'target_tracking:target=0.3..0.9/7'"
    )
}

#[derive(Debug, Clone, Copy)]
enum Capacity {
    Auto,
    Fixed(f64),
}

fn capacity(text: &str) -> Result<Capacity, String> {
    match text.parse::<f64>() {
        _ if text == "auto" => Ok(Capacity::Auto),
        Ok(value) if value > 0.0 && value.is_finite() => Ok(Capacity::Fixed(value)),
        _ => Err("expected `auto` or a number above 0".into()),
    }
}

fn budget(text: &str) -> Result<f64, String> {
    let budget = text.parse().ok().filter(|budget| 0.0 < *budget && *budget <= 0.5);
    budget.ok_or_else(|| "expected a share above 0, at most 0.5".into())
}

/// What is no delay may be a file of them.
fn startup_delay(text: &str) -> Result<StartupDelay, String> {
    StartupDelay::parse(text).or_else(|reason| match std::fs::read_to_string(text) {
        Ok(content) => StartupDelay::parse_lines(&content),
        Err(_) => Err(format!("{reason}, or a file that can be read")),
    })
}

/// Every trace that could be replayed, in the order of the command line.
struct Compared {
    traces: Vec<Trace>,
    /// Why the others could not, with their paths.
    failures: Vec<String>,
    budget: f64,
}

struct Trace {
    report: TraceReport,
    series: Series,
    /// First step that is scored.
    scored_from: usize,
    /// Of each policy; empty unless somebody looks at single steps.
    trails: Vec<Trail>,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    blocking(move || {
        let compared = compare(&args)?;
        write_files(&args, &compared)?;
        if !compared.traces.is_empty() {
            output::print(&printed(&compared, args.format)?)?;
        }
        match compared.failures.as_slice() {
            [] => Ok(()),
            failures => Err(CommandError::BadInput(failures.join("\n"))),
        }
    })
    .await
}

/// # Errors
/// [`CommandError::BadInput`] for an option that is wrong for all files.
fn compare(args: &Args) -> Result<Compared, CommandError> {
    let contenders = args.contenders()?;
    batch::check_targets([&args.out, &args.html].into_iter().flatten())?;
    let read = in_parallel(&args.files, "files", |path| load(path, args.step));
    let options = CompareOptions { events: args.events(read.iter().flatten())?, ..args.options() };
    let mut failures = Vec::new();
    let mut staged = Vec::new();
    for (path, read) in args.files.iter().zip(&read) {
        let stage = read.as_ref().map_err(String::clone).and_then(|series| {
            Stage::new(series, &options).map_err(|e| format!("{}: {e}", path.display()))
        });
        match stage {
            Ok(stage) => staged.push((name_of(path, &args.files), stage)),
            Err(reason) => failures.push(reason),
        }
    }
    let keep = args.out.is_some() || args.html.is_some() || args.svg.is_some();
    let jobs: Vec<(&Stage, &Contender)> = staged
        .iter()
        .flat_map(|(_, stage)| contenders.iter().map(move |contender| (stage, contender)))
        .collect();
    let mut replayed = in_parallel(&jobs, "replays", |(stage, contender)| {
        let trail = stage.replay(contender);
        (stage.measure(contender, &trail), if keep { trail } else { Trail::default() })
    })
    .into_iter();
    let mut trace = |(name, stage): &(String, Stage)| {
        let replays = replayed.by_ref().take(contenders.len());
        let (policies, trails): (Vec<PolicyReport>, Vec<Trail>) = replays.unzip();
        let report = stage.report(name, policies);
        let scored_from = stage.scored().first().copied().unwrap_or_default();
        Trace { report, series: stage.series().clone(), scored_from, trails }
    };
    let traces = staged.iter().map(&mut trace).collect();
    Ok(Compared { traces, failures, budget: args.budget })
}

/// # Errors
/// A sentence with the path.
fn load(path: &Path, step: Option<Duration>) -> Result<Series, String> {
    let recording = Recording::read(path).map_err(|e| e.to_string())?;
    let own = demanded(&recording);
    let Some(step) = step else { return Ok(own) };
    if step.as_millis() > 0 && step.as_millis().is_multiple_of(own.step().as_millis()) {
        return Ok(own.blocks(step));
    }
    let [step, own] = [step, own.step()].map(humantime::format_duration);
    let path = path.display();
    Err(format!("{path}: a step of {step} is no multiple of the recording's step of {own}"))
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
    fn contenders(&self) -> Result<Vec<Contender>, CommandError> {
        let presets = [
            ("predictive", "budget", self.budget.to_string()),
            ("target_tracking", "target", self.target.to_string()),
            ("target_tracking", "signal", self.signal.clone()),
        ];
        let bad = |reason| CommandError::BadInput(format!("--policy {reason}"));
        let (files, specs): (Vec<&String>, Vec<&String>) =
            self.policies.iter().partition(|spec| spec.starts_with(HPA));
        let mut contenders = match specs.as_slice() {
            [] if !files.is_empty() => Vec::new(),
            specs => contender::parse(specs, &presets).map_err(bad)?,
        };
        for spec in files {
            let path = &spec[HPA.len()..];
            let named = |reason: &dyn Display| bad(format!("`{spec}`: {reason}"));
            let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
            let (contender, notes) = Contender::hpa(&text).map_err(|e| named(&e))?;
            notes.iter().for_each(|note| eprintln!("{path}: {note}"));
            contenders.push(contender);
        }
        Ok(contenders)
    }

    /// What the calendar says of the time of these recordings and after.
    fn events<'a>(
        &self,
        recordings: impl Iterator<Item = &'a Series> + Clone,
    ) -> Result<Events, CommandError> {
        let first = recordings.clone().map(Series::start).min();
        match (&self.calendar, first, recordings.map(Series::end).max()) {
            (Some(path), Some(from), Some(to)) => {
                calendar::read(path, from, to).map_err(|e| CommandError::BadInput(e.to_string()))
            }
            _ => Ok(Events::default()),
        }
    }

    fn options(&self) -> CompareOptions {
        CompareOptions {
            capacity: match self.capacity {
                Capacity::Auto => None,
                Capacity::Fixed(value) => Some(value),
            },
            startup_delay: self.startup_delay.clone(),
            seed: self.seed,
            warmup: self.warmup,
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            events: Events::default(),
        }
    }
}

fn printed(compared: &Compared, format: Format) -> Result<String, CommandError> {
    #[derive(Serialize)]
    struct Output<'a> {
        traces: Vec<&'a TraceReport>,
    }
    let traces = compared.traces.iter().map(|trace| &trace.report);
    if format == Format::Json {
        return output::json(&Output { traces: traces.collect() });
    }
    let text = traces.map(|report| {
        let step = humantime::format_duration(Duration::from_secs_f64(report.step_seconds));
        let TraceReport { name, scored_steps, capacity, .. } = report;
        let table = report.table();
        format!(
            "{name}: {scored_steps} steps of {step} scored, capacity {capacity:.4}\n{table}\n\n"
        )
    });
    Ok(text.collect())
}

fn write_files(args: &Args, compared: &Compared) -> Result<(), CommandError> {
    if let Some(path) = &args.out {
        let failed = |e| CommandError::Failed(format!("{}: {e}", path.display()));
        batch::write(path, &frame::parquet(&compared.traces).map_err(failed)?)?;
    }
    if let Some(path) = &args.html {
        batch::write(path, page::html(compared).as_bytes())?;
    }
    if let Some(folder) = &args.svg {
        let failed = |e| CommandError::Failed(format!("{}: {e}", folder.display()));
        atomic_file::create_folder(folder).map_err(failed)?;
        for trace in &compared.traces {
            for (what, svg) in page::pictures(trace, compared.budget) {
                let name = format!("{}-{what}.svg", file_name(&trace.report.name));
                batch::write(&folder.join(name), svg.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// A trace's name may be a path.
fn file_name(trace: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    trace.trim_start_matches(['.', '/']).chars().map(plain).collect()
}

#[cfg(test)]
mod tests;
