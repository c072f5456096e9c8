//! I/O: `foresail forecast`: what the newest model expects after the newest recorded demand.

use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use serde::Serialize;

use super::recorded::{Recorded, blocking};
use super::train::Models;
use super::{CommandError, Format, output};
use crate::forecast::Forecast;
use crate::io::{artifact, plot};

#[derive(Debug, clap::Args)]
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
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also draws history and forecast.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
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
}

pub(super) fn forecast(args: &Args) -> Result<Forecasted, CommandError> {
    let service = args.recorded.service.clone();
    let bad = |reason: String| CommandError::BadInput(format!("{service}: {reason}"));
    let quantiles = checked(&args.quantiles)?;
    let folder = args.models.folder(&args.recorded);
    let (newest, unreadable) = artifact::load_latest(&folder, &service)
        .map_err(|e| CommandError::Failed(e.to_string()))?;
    for error in unreadable {
        tracing::warn!(%error, "model passed over");
    }
    let Some((version, model)) = newest else {
        // An unknown service is the better news than its missing model.
        args.recorded.history(None, 1)?;
        let folder = folder.display();
        return Err(bad(format!("no model in {folder}; `foresail train` makes one")));
    };
    let horizon = args.horizon.unwrap_or(model.horizon);
    if !(1..=model.horizon).contains(&horizon) {
        let most = model.horizon;
        return Err(bad(format!("a horizon of {horizon}; the model was trained for 1 to {most}")));
    }
    let drawn = (10 * horizon).max(300);
    let step = Duration::from_millis(model.step_ms);
    let history = args.recorded.history(Some(step), model.context().max(drawn))?;
    let forecast = model.forecast(&history, horizon, &quantiles).map_err(|e| bad(e.to_string()))?;
    if let Some(path) = &args.plot {
        let shown = history.slice(history.len().saturating_sub(drawn)..history.len());
        plot::forecast_svg(path, &format!("{service}: demand"), &shown, &forecast)
            .map_err(|e| CommandError::Failed(format!("{}: {e}", path.display())))?;
    }
    Ok(Forecasted { service, version, forecast })
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
        std::iter::once(output::time(start)).chain(values).collect()
    };
    let quantiles = forecast.quantiles.iter().map(|q| format!("q{q}"));
    let header = std::iter::once("step from".to_owned()).chain(quantiles);
    let table = output::table(1, header, (0..forecast.horizon()).map(row));
    let method = output::method(forecast.method);
    format!("{table}{method}, model version {}\n", forecasted.version)
}
