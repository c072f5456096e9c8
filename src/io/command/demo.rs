//! I/O: `foresail demo`: everything on this machine, no Docker, no configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{CommandError, Format, output};
use crate::io::demo::scenario::Scenario;
use crate::io::demo::{self, DemoError, Options};
use crate::io::signal;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the load lasts
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    duration: Duration,
    /// Seed of the load: the same seed, the same requests at the same times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the recording in this new folder: Parquet, models and demand.csv
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the HTTP API [default: 127.0.0.1:8080, or another port where that is taken]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Draw load, forecast and capacity
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// # Errors
/// Bad input where the user named a folder, file or address that cannot be used.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            signal::interrupted().await;
            stop.cancel();
        }
    });
    let options = Options {
        scenario: Scenario::new(args.duration, args.seed),
        data: args.data,
        listen: args.listen,
        plot: args.plot,
        quiet_stdout: args.format == Format::Json,
    };
    let report = demo::run(&options, stop).await.map_err(|error| match &error {
        DemoError::Folder { .. } | DemoError::Start(_) => CommandError::BadInput(error.to_string()),
        _ => CommandError::Failed(error.to_string()),
    })?;
    output::print(&match (args.format, report) {
        (Format::Table, None) => "Stopped before the first day was over.\n".to_owned(),
        (Format::Table, Some(report)) => format!("\n{}", report.table()),
        (Format::Json, report) => output::json(&report)?,
    })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    let allowed = Scenario::SHORTEST..=Duration::from_secs(86_400);
    if allowed.contains(&duration) {
        return Ok(duration);
    }
    Err("not between 15s and 1d: the shortest has a day of each kind".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_lasts_long_enough_to_compare_and_not_for_ever() {
        for (text, good) in
            [("2m", true), ("15s", true), ("14s", false), ("", false), ("2d", false)]
        {
            assert_eq!(parse_duration(text).is_ok(), good, "{text}");
        }
    }
}
