//! I/O: `foresail forecast`: what the model in use expects after the newest recorded demand.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::recorded::{Recorded, blocking};
use super::train::Models;
use super::{CommandError, Format, output};
use crate::forecast::{Forecast, Model, QUANTILES};
use crate::io::artifact::{Stored, in_use};
use crate::io::atomic_file;
use crate::io::plot::Chart;
use crate::series::{Series, Time};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    recorded: Recorded,
    #[command(flatten)]
    models: Models,
    /// Steps ahead; as many as the model covers unless given.
    #[arg(long)]
    horizon: Option<usize>,
    /// Quantiles of demand, each between 0 and 1.
    #[arg(long, value_delimiter = ',', default_value = "0.1,0.5,0.9")]
    quantiles: Vec<f64>,
    /// Forecast as of this time, for instance `2024-03-01T12:00:00Z`, beside what came after it;
    /// after the newest recorded value unless given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Time>,
    /// A newer calendar than the model was trained with: which events are to come.
    #[arg(long, value_name = "FILE.ics")]
    calendar: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also draws history, forecast and, with `--at`, what came.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// What demand is measured in, for the picture.
    #[arg(long, default_value = "demand", value_name = "TEXT")]
    unit: String,
}

const EXAMPLES: &str = "\
Examples:
  foresail forecast --service web
  foresail forecast --service web --plot web.svg --unit \"cores\"
  foresail forecast --service web --plot web.svg --at 2024-03-01T12:00:00Z";

/// Steps of history that a picture shows for each step of the forecast, and at least.
const DRAWN: (usize, usize) = (6, 48);

fn time(text: &str) -> Result<Time, String> {
    let time = text.parse::<DateTime<Utc>>();
    time.map_err(|_| "not RFC 3339, for instance 2024-03-01T12:00:00Z".to_owned())
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let format = args.format;
    let forecasted = blocking(move || forecast(&args)).await?;
    output::print(&match format {
        Format::Json => output::json(&forecasted)?,
        Format::Table => table(&forecasted),
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Forecasted {
    service: String,
    version: u32,
    #[serde(flatten)]
    forecast: Forecast,
    /// With `--at`: what came, as far as it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<Vec<Option<f64>>>,
}

pub(super) fn forecast(args: &Args) -> Result<Forecasted, CommandError> {
    let service = args.recorded.service.clone();
    let bad = |reason: String| CommandError::BadInput(format!("{service}: {reason}"));
    let quantiles = checked(&args.quantiles)?;
    let (version, mut model) = newest_model(args)?;
    let horizon = args.horizon.unwrap_or(model.horizon);
    if !(1..=model.horizon).contains(&horizon) {
        let most = model.horizon;
        return Err(bad(format!("a horizon of {horizon}; the model was trained for 1 to {most}")));
    }
    let drawn = (DRAWN.0 * horizon).max(DRAWN.1);
    let step = Duration::from_millis(model.step_ms);
    // What lies before any time may be all that there is.
    let steps = if args.at.is_some() { usize::MAX } else { model.context().max(drawn) };
    let recorded = args.recorded.history(Some(step), steps)?;
    let seen = seen(&recorded, args.at).map_err(bad)?;
    let history = recorded.slice(0..seen);
    if let Some(events) = args.recorded.events(&history, args.calendar.as_deref())? {
        model.schedule(&events);
    }
    let forecast = |quantiles: &[f64]| {
        model.forecast(&history, horizon, quantiles).map_err(|e| bad(e.to_string()))
    };
    if let Some(path) = &args.plot {
        let shown = recorded.slice(seen.saturating_sub(drawn)..recorded.len().min(seen + horizon));
        let fan = forecast(&QUANTILES)?;
        let method = fan.method.name();
        let svg = Chart {
            title: &format!(
                "{service}: {method}, as of {}",
                fan.origin.format("%Y-%m-%d %H:%M UTC")
            ),
            quantity: &args.unit,
            size: (960.0, 420.0),
            series: &shown,
            seen: seen.min(drawn),
            quantiles: &fan.quantiles,
            point: &fan.point,
            paths: &fan.paths,
        };
        atomic_file::write(path, svg.file().as_bytes())
            .map_err(|e| CommandError::Failed(format!("{}: {e}", path.display())))?;
    }
    let came = |_| (seen..seen + horizon).map(|i| recorded.get(i)).collect();
    Ok(Forecasted { forecast: forecast(&quantiles)?, actual: args.at.map(came), service, version })
}

fn newest_model(args: &Args) -> Result<(u32, Model), CommandError> {
    let folder = args.models.folder(&args.recorded);
    let service = &args.recorded.service;
    let (found, refused) =
        in_use::find(&folder, service).map_err(|e| CommandError::Failed(e.to_string()))?;
    for error in refused {
        tracing::warn!(%error, "model file refused");
    }
    let Some(Stored { version, model, .. }) = found else {
        // An unknown service is the better news than its missing model.
        args.recorded.history(None, 1)?;
        return Err(CommandError::BadInput(format!(
            "{service}: no model in {}; `foresail train` makes one",
            folder.display()
        )));
    };
    if args.at.is_some_and(|at| at < model.training.to) {
        let to = output::time(model.training.to);
        eprintln!("foresail: {service}: model {version} has learned from what came up to {to}");
    }
    Ok((version, model))
}

/// How many steps have ended at `at`.
fn seen(recorded: &Series, at: Option<Time>) -> Result<usize, String> {
    let Some(at) = at else { return Ok(recorded.len()) };
    let within = recorded.index_at(at).filter(|seen| (1..=recorded.len()).contains(seen));
    within.ok_or_else(|| {
        let [from, to] = [recorded.time_at(1), recorded.end()].map(output::time);
        format!("--at {}: a time from {from} to {to} is needed", output::time(at))
    })
}

/// Ascending, each once, all within (0, 1).
fn checked(quantiles: &[f64]) -> Result<Vec<f64>, CommandError> {
    if let Some(wrong) = quantiles.iter().find(|q| !(0.0 < **q && **q < 1.0)) {
        let reason = format!("--quantiles: {wrong} is not between 0 and 1");
        return Err(CommandError::BadInput(reason));
    }
    let mut quantiles = quantiles.to_vec();
    quantiles.sort_by(f64::total_cmp);
    quantiles.dedup();
    Ok(quantiles)
}

pub(super) fn table(forecasted: &Forecasted) -> String {
    let forecast = &forecasted.forecast;
    let row = |h: usize| {
        let start = forecast.origin + TimeDelta::milliseconds(forecast.step_ms as i64 * h as i64);
        let values = forecast.paths.iter().map(|path| format!("{:.3}", path[h]));
        let actual = forecasted.actual.as_ref().map(|actual| match actual[h] {
            Some(value) => format!("{value:.3}"),
            None => "-".to_owned(),
        });
        std::iter::once(output::time(start)).chain(values).chain(actual).collect()
    };
    let quantiles = forecast.quantiles.iter().map(|q| format!("q{q}"));
    let actual = forecasted.actual.as_ref().map(|_| "actual".to_owned());
    let header = std::iter::once("step from".to_owned()).chain(quantiles).chain(actual);
    let table = output::table(1, header, (0..forecast.horizon()).map(row));
    format!("{table}{}, model version {}\n", forecast.method.name(), forecasted.version)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::recorded::parse;
    use super::super::{import, train};
    use super::*;

    /// Ten days of hours from 1970 on, a day's wave, imported and learned from.
    fn store(folder: &std::path::Path) -> String {
        let line = |h: usize| {
            let wave = (h as f64 * std::f64::consts::TAU / 24.0).sin();
            format!("{},{:.3}\n", 3_600 * h, 3.0 + wave + 0.01 * (h % 7) as f64)
        };
        let [file, store] = ["hours.csv", "store"].map(|name| folder.join(name));
        fs::write(&file, "timestamp,value\n".to_owned() + &(0..240).map(line).collect::<String>())
            .unwrap();
        let [file, store] = [file, store].map(|path| path.to_str().unwrap().to_owned());
        let common = ["--service", "web", "--store", &store];
        import::import(&parse(&[&[file.as_str()], &common[..]].concat())).unwrap();
        train::train_and_save(&parse(&[&common[..], &["--horizon", "4"]].concat())).unwrap();
        store
    }

    #[test]
    fn a_forecast_of_the_past_stands_beside_what_came() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let picture = folder.path().join("past.svg");
        let plot = ["--plot", picture.to_str().unwrap(), "--unit", "<cores>"];
        let forecast_at = |at: &str| {
            let words = ["--service", "web", "--store", &store, "--at", at];
            forecast(&parse(&[&words[..], &plot].concat())).map_err(|e| e.to_string())
        };
        // Half past nine: the hour from eight to nine is the last one that is over. What came is
        // the hours 225 to 228 of the wave, 225 = 9 * 24 + 9 and 225 % 7 = 1.
        let past = forecast_at("1970-01-10T09:30:00Z").unwrap();
        assert_eq!(past.forecast.origin.to_rfc3339(), "1970-01-10T09:00:00+00:00");
        let came = past.actual.as_ref().unwrap();
        assert_eq!((came.len(), came[0]), (4, Some(3.717)));
        assert!(table(&past).lines().next().unwrap().ends_with("actual"), "{}", table(&past));
        let svg = fs::read_to_string(&picture).unwrap();
        assert!(svg.contains("what came") && svg.contains("&lt;cores&gt;"), "{svg}");
        assert_eq!(svg.matches("<polygon").count(), 3);

        let newest = forecast_at("1970-01-10T22:00:00Z").unwrap();
        assert_eq!(
            newest.actual.as_ref().unwrap()[1..],
            [newest.actual.as_ref().unwrap()[1], None, None]
        );
        assert!(table(&newest).contains(" -\n"));
        for outside in ["1970-01-11T01:00:00Z", "1960-01-01T00:00:00Z", "1970-01-01T00:59:59Z"] {
            let error = forecast_at(outside).map(|f| f.forecast.origin).unwrap_err();
            assert!(error.contains("a time from 1970-01-01T01:00:00Z to 1970-01-11T00"), "{error}");
        }
        let early = forecast_at("1970-01-01T05:00:00Z").map(|f| f.forecast.origin).unwrap_err();
        assert!(early.starts_with("web: 5 steps of history, at least "), "{early}");
    }

    #[test]
    fn a_time_is_rfc_3339() {
        assert_eq!(time("2024-03-01T13:00:00+01:00"), time("2024-03-01T12:00:00Z"));
        for wrong in ["", "noon", "2024-03-01", "1e9"] {
            assert!(time(wrong).unwrap_err().contains("RFC 3339"), "{wrong}");
        }
    }
}
