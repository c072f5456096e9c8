//! I/O: `foresail import`: recorded load into the store. All files are checked before anything is
//! written; importing a file again changes nothing.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::recorded::{Recorded, blocking, store_error};
use super::{CommandError, Format, output};
use crate::io::recording::Recording;
use crate::io::store::DemandRow;
use crate::series::{Point, Time};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV (`timestamp,value`, and `lower_bound` where workers were saturated) or Parquet files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    recorded: Recorded,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let format = args.format;
    let imported = blocking(move || import(&args)).await?;
    output::print(&match format {
        Format::Json => output::json(&imported)?,
        Format::Table => table(&imported),
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Imported {
    service: String,
    store: PathBuf,
    files: Vec<ImportedFile>,
}

#[derive(Debug, Serialize)]
pub(super) struct ImportedFile {
    name: String,
    points: usize,
    /// Steps without a value between the first and the last.
    gaps: usize,
    step_ms: u64,
    from: Time,
    /// End of the last step.
    to: Time,
}

pub(super) fn import(args: &Args) -> Result<Imported, CommandError> {
    let mut recordings = Vec::new();
    let mut refused = Vec::new();
    for path in &args.files {
        match Recording::read(path) {
            Ok(recording) => recordings.push(recording),
            Err(e) => refused.push(e.to_string()),
        }
    }
    if !refused.is_empty() {
        return Err(CommandError::BadInput(refused.join("\n")));
    }
    let store = args.recorded.open()?;
    let service = &args.recorded.service;
    for recording in &recordings {
        store.append(service, &[], &rows(recording)).map_err(store_error)?;
    }
    store.flush(Utc::now()).map_err(store_error)?;
    Ok(Imported {
        service: service.clone(),
        store: args.recorded.store.clone(),
        files: recordings.iter().map(summary).collect(),
    })
}

/// A recorded point begins its step, a row of the store ends it.
fn rows(recording: &Recording) -> Vec<DemandRow> {
    let step_ms = recording.step.as_millis() as i64;
    let row = |point: &Point| {
        Some(DemandRow {
            time: DateTime::from_timestamp_millis(point.ms + step_ms)?,
            demand: Some(point.value),
            lower_bound: point.lower_bound,
            ready_replicas: 0,
            current_replicas: 0,
            desired_replicas: 0,
        })
    };
    recording.points.iter().filter_map(row).collect()
}

fn summary(recording: &Recording) -> ImportedFile {
    let series = recording.series();
    ImportedFile {
        name: recording.name.clone(),
        points: recording.points.len(),
        gaps: series.values().iter().filter(|v| v.is_nan()).count(),
        step_ms: recording.step.as_millis() as u64,
        from: series.start(),
        to: series.end(),
    }
}

pub(super) fn table(imported: &Imported) -> String {
    let row = |file: &ImportedFile| {
        let step = humantime::format_duration(std::time::Duration::from_millis(file.step_ms));
        vec![
            file.name.clone(),
            file.points.to_string(),
            file.gaps.to_string(),
            step.to_string(),
            output::time(file.from),
            output::time(file.to),
        ]
    };
    let header = ["file", "points", "gaps", "step", "from", "to"];
    let table = output::table(1, header, imported.files.iter().map(row));
    format!("{table}imported as `{}` into {}\n", imported.service, imported.store.display())
}
