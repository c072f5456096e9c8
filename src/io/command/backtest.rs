//! I/O: `foresail backtest`: scores the forecasters on recorded load, on all cores.

mod frame;
mod page;
mod scored;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::batch::{self, in_parallel, name_of};
use super::recorded::blocking;
use super::{CommandError, Format, output};
use crate::forecast::ForecastError;
use crate::forecast::backtest::{
    Backtest, BacktestOptions, Contender, DEFAULT_STEP, OriginForecast,
};
use crate::io::recording::Recording;
use scored::{Evidence, Scored, ScoredSeries};

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Recorded load: CSV with the columns `timestamp,value`, or Parquet.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Length of the blocks whose means are forecast, a multiple of the recording's step
    /// [default: 5m, or the recording's own where that is longer].
    #[arg(long, value_parser = humantime::parse_duration)]
    step: Option<Duration>,
    /// Steps ahead that are scored.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    horizon: u16,
    /// Forecasts for each series, evenly spaced over its end.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    origins: u16,
    /// Share of the series before the first of them, between 0 and 1.
    #[arg(long, default_value_t = 0.7, value_parser = share)]
    from: f64,
    /// What is scored: `all`, or some of `foresail` (what the service would use) and the methods
    /// alone, separated by commas.
    #[arg(long, default_value = "all", value_parser = contenders, value_name = "NAMES")]
    models: Contenders,
    /// Also writes every forecast, beside what came.
    #[arg(long, value_name = "FILE.parquet")]
    out: Option<PathBuf>,
    /// Also writes a report with pictures, one page that needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const HELP: &str = "\
Measures: `mase` is the mean absolute error, `pinball` the mean loss of the quantiles 0.1, 0.5, 0.9
and 0.99, both in units of the mean |x(t) - x(t - 1 day)| before the first origin; `coverage_80`
the share of values within the 80 % interval; `exceed_99` the share above the 0.99 quantile;
`fit_seconds` the mean time of a training, shared by the methods that are trained at once.
`seasonal_naive` is the value of a day before, `naive` the last value.

Examples:
  foresail backtest load.csv
  foresail backtest *.csv --html report.html --out forecasts.parquet
  foresail backtest load.csv --step 1m --horizon 60 --models foresail,naive --format json";

/// A type of its own, or clap would take one value for each of several occurrences.
#[derive(Debug, Clone)]
struct Contenders(Vec<Contender>);

fn contenders(text: &str) -> Result<Contenders, String> {
    let names = || Contender::ALL.map(Contender::name).join(", ");
    let mut asked = Vec::new();
    for name in text.split(',').map(str::trim) {
        match Contender::ALL.into_iter().find(|c| c.name() == name) {
            Some(contender) => asked.push(contender),
            None if name == "all" => asked.extend(Contender::ALL),
            None => return Err(format!("no model `{name}`; there are: all, {}", names())),
        }
    }
    asked.sort();
    asked.dedup();
    Ok(Contenders(asked))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| 0.0 < *share && *share < 1.0);
    share.ok_or_else(|| "not between 0 and 1".to_owned())
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    blocking(move || {
        let scored = score(&args)?;
        write_files(&args, &scored)?;
        match args.format {
            Format::Json => output::print(&output::json(&scored)?)?,
            Format::Table if scored.mean.is_empty() => {}
            Format::Table => output::print(&scored.table())?,
        }
        scored.failures().map_or(Ok(()), |failures| Err(CommandError::BadInput(failures)))
    })
    .await
}

/// Every file, failed ones too, in the order of the command line.
fn score(args: &Args) -> Result<Scored, CommandError> {
    batch::check_targets([&args.out, &args.html].into_iter().flatten())?;
    let options = BacktestOptions {
        step: args.step,
        horizon: usize::from(args.horizon),
        origins: usize::from(args.origins),
        from: args.from,
    };
    let read = in_parallel(&args.files, "files", |path| {
        let recording = Recording::read(path).map_err(|e| e.to_string())?;
        let series = recording.series();
        let backtest = Backtest::new(&series, &options).map_err(|e| reason(path, e))?;
        Ok::<_, String>((recording, backtest))
    });
    let laid_out = || read.iter().enumerate().filter_map(|(i, r)| Some((i, &r.as_ref().ok()?.1)));
    let jobs: Vec<(usize, &Backtest, usize)> = laid_out()
        .flat_map(|(i, backtest)| backtest.origins.iter().map(move |&o| (i, backtest, o)))
        .collect();
    let contenders = &args.models.0;
    let said = in_parallel(&jobs, "forecasts", |(_, backtest, origin)| {
        let start = Instant::now();
        backtest.forecast(*origin, contenders, &mut || start.elapsed())
    });
    let mut said_of: BTreeMap<usize, Vec<Result<Vec<OriginForecast>, ForecastError>>> =
        BTreeMap::new();
    for ((i, ..), said) in jobs.iter().zip(said) {
        said_of.entry(*i).or_default().push(said);
    }
    drop(jobs);
    let series = read.into_iter().zip(&args.files).enumerate().map(|(i, (read, path))| {
        let name = name_of(path, &args.files);
        let said = said_of.remove(&i).unwrap_or_default();
        let evaluated = read.and_then(|(recording, backtest)| {
            evaluated(&recording, args.step, backtest, said).map_err(|e| reason(path, e))
        });
        ScoredSeries::new(name, evaluated)
    });
    let scored = Scored::new(series.collect());
    for (series, note) in scored.notes() {
        eprintln!("foresail: {series}: {note}");
    }
    Ok(scored)
}

/// # Errors
/// The first one, where no origin could be forecast.
fn evaluated(
    recording: &Recording,
    asked: Option<Duration>,
    backtest: Backtest,
    said: Vec<Result<Vec<OriginForecast>, ForecastError>>,
) -> Result<Evidence, String> {
    let mut notes = Vec::new();
    let step = backtest.actuals.step();
    if asked.is_none() && step != DEFAULT_STEP {
        let [step, recorded] = [step, recording.step].map(humantime::format_duration);
        notes.push(format!("recorded every {recorded}, scored in steps of {step}"));
    }
    let all = said.len();
    let (mut forecasts, mut failed) = (Vec::new(), Vec::new());
    for said in said {
        said.map_or_else(|e| failed.push(e), |said| forecasts.push(said));
    }
    if let Some(first) = failed.first() {
        if forecasts.is_empty() {
            return Err(format!("at the first origin: {first}"));
        }
        notes.push(format!("{} of {all} origins are left out: {first}", failed.len()));
    }
    Ok(Evidence { notes, forecasts: forecasts.concat(), backtest })
}

fn reason(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn write_files(args: &Args, scored: &Scored) -> Result<(), CommandError> {
    if let Some(path) = &args.out {
        let failed = |e| CommandError::Failed(format!("{}: {e}", path.display()));
        batch::write(path, &frame::parquet(&scored.series).map_err(failed)?)?;
    }
    if let Some(path) = &args.html {
        batch::write(path, page::html(scored).as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
