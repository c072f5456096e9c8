//! I/O: `foresail train`: fits the forecast of a service to its recorded load and saves the model.

use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use serde::Serialize;

use super::recorded::{Recorded, blocking};
use super::{CommandError, Format, output};
use crate::forecast::trainer::{TrainOptions, train};
use crate::forecast::{Method, Training};
use crate::io::artifact;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recorded: Recorded,
    #[command(flatten)]
    models: Models,
    /// Step of the series, for instance `1m`; that of the recording unless given.
    #[arg(long, value_parser = humantime::parse_duration)]
    step: Option<Duration>,
    /// Steps ahead that the model must cover.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    horizon: u16,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

// No doc comment: it would become the help of every command that has these arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Models {
    /// Folder of model files; `models` in the store unless given.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
}

impl Models {
    pub fn folder(&self, recorded: &Recorded) -> PathBuf {
        self.models.clone().unwrap_or_else(|| recorded.store.join("models"))
    }
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let format = args.format;
    let trained = blocking(move || train_and_save(&args)).await?;
    output::print(&match format {
        Format::Json => output::json(&trained)?,
        Format::Table => table(&trained),
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Trained {
    service: String,
    version: u32,
    path: PathBuf,
    method: Method,
    horizon: usize,
    step_ms: u64,
    season_lengths: Vec<usize>,
    #[serde(flatten)]
    training: Training,
}

pub(super) fn train_and_save(args: &Args) -> Result<Trained, CommandError> {
    let service = args.recorded.service.clone();
    let options = TrainOptions { horizon: usize::from(args.horizon), ..Default::default() };
    let history = args.recorded.history(args.step, options.max_history)?;
    let model = train(Utc::now(), &history, &options)
        .map_err(|e| CommandError::BadInput(format!("{service}: {e}")))?;
    let (version, path) = artifact::save(&args.models.folder(&args.recorded), &service, &model)
        .map_err(|e| CommandError::Failed(e.to_string()))?;
    Ok(Trained {
        service,
        version,
        path,
        method: model.method(),
        horizon: model.horizon,
        step_ms: model.step_ms,
        season_lengths: model.season_lengths,
        training: model.training,
    })
}

pub(super) fn table(trained: &Trained) -> String {
    let row = |score: &crate::forecast::accuracy::MethodScore| {
        let mark = if score.method == trained.method { " (kept)" } else { "" };
        let mut row = vec![format!("{}{mark}", output::method(score.method))];
        row.extend(output::score(score));
        row
    };
    let header = std::iter::once("method").chain(output::SCORE_HEADER);
    let scores = output::table(1, header, trained.training.scores.iter().map(row));
    let step = Duration::from_millis(trained.step_ms);
    let length = |steps: usize| humantime::format_duration(step * steps as u32).to_string();
    let seasons: Vec<String> = trained.season_lengths.iter().map(|&s| length(s)).collect();
    format!(
        "{scores}{} values of {} from {} to {}; seasons: {}; {} ahead\nsaved as {}\n",
        trained.training.points,
        length(1),
        output::time(trained.training.from),
        output::time(trained.training.to),
        if seasons.is_empty() { "none".to_owned() } else { seasons.join(", ") },
        length(trained.horizon),
        trained.path.display(),
    )
}
