//! I/O: `foresail train`: fits the forecast of a service to its recorded load, saves the model and,
//! if it wins against the one in use, puts it into use.

use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use serde::Serialize;

use super::recorded::{Recorded, blocking};
use super::{CommandError, Format, output};
use crate::forecast::MemberSkill;
use crate::forecast::accuracy::MethodScore;
use crate::forecast::challenge::{Verdict, learn};
use crate::forecast::events::EventEffect;
use crate::forecast::trainer::TrainOptions;
use crate::forecast::{Method, Training};
use crate::io::artifact::{self, in_use};

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
    /// Promotions, holidays and other known events; their effects become part of the model.
    #[arg(long, value_name = "FILE.ics")]
    calendar: Option<PathBuf>,
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
    /// What each kind of event in the calendar does to load.
    events: Vec<EventEffect>,
    /// Whether the model came into use, and why.
    verdict: Verdict,
    #[serde(flatten)]
    training: Training,
}

pub(super) fn train_and_save(args: &Args) -> Result<Trained, CommandError> {
    let service = args.recorded.service.clone();
    let mut options = TrainOptions { horizon: usize::from(args.horizon), ..Default::default() };
    let history = args.recorded.history(args.step, options.max_history)?;
    options.events = args.recorded.events(&history, args.calendar.as_deref())?.unwrap_or_default();
    let models = args.models.folder(&args.recorded);
    let failed = |e: artifact::ArtifactError| CommandError::Failed(e.to_string());
    let (champion, refused) = in_use::find(&models, &service).map_err(failed)?;
    for error in refused {
        tracing::warn!(%error, "model file refused");
    }
    let champion = champion.map(|stored| stored.model);
    let now = Utc::now();
    let lesson = learn(now, &history, &options, champion.as_ref())
        .map_err(|e| CommandError::BadInput(format!("{service}: {e}")))?;
    let saved = artifact::commit(&models, &service, &lesson, now).map_err(failed)?;
    let model = lesson.model;
    Ok(Trained {
        service,
        version: saved.version,
        path: saved.path,
        verdict: saved.verdict,
        method: model.method(),
        horizon: model.horizon,
        step_ms: model.step_ms,
        events: model.events(),
        season_lengths: model.season_lengths,
        training: model.training,
    })
}

pub(super) fn table(trained: &Trained) -> String {
    let row = |score: &MethodScore| {
        let mut row = vec![score.method.name().to_owned()];
        row.extend(output::score(score));
        row
    };
    let header = std::iter::once("method").chain(output::SCORE_HEADER);
    let scores = match trained.training.cold_start {
        true => {
            "cold start: too little to hold anything out; as now, as restless as until now\n".into()
        }
        false => output::table(1, header, trained.training.scores.iter().map(row)),
    };
    let members = members(&trained.training.members);
    let step = Duration::from_millis(trained.step_ms);
    let length = |steps: usize| humantime::format_duration(step * steps as u32).to_string();
    let seasons: Vec<String> = trained.season_lengths.iter().map(|&s| length(s)).collect();
    let events = events(&trained.events);
    format!(
        "{scores}{members}{events}{} values of {} from {} to {}; seasons: {}; {} ahead\nsaved as {}, {}: {}\n",
        trained.training.points,
        length(1),
        output::time(trained.training.from),
        output::time(trained.training.to),
        if seasons.is_empty() { "none".to_owned() } else { seasons.join(", ") },
        length(trained.horizon),
        trained.path.display(),
        if trained.verdict.promoted { "in use" } else { "not in use" },
        trained.verdict.reason,
    )
}

/// One row for each member of the ensemble; nothing after a cold start.
fn members(members: &[MemberSkill]) -> String {
    if members.is_empty() {
        return String::new();
    }
    let row = |m: &MemberSkill| {
        let weight = format!("{:.0} %", 100.0 * m.weight);
        vec![m.method.name().to_owned(), weight, format!("{:.3}", m.mase)]
    };
    output::table(1, ["member", "weight", "MASE"], members.iter().map(row))
}

/// One row for each kind of event; nothing without a calendar.
fn events(effects: &[EventEffect]) -> String {
    if effects.is_empty() {
        return String::new();
    }
    let row = |e: &EventEffect| {
        let [factor, low, high] = [e.factor, e.low, e.high].map(|v| format!("{v:.2}"));
        vec![e.kind.clone(), e.occurrences.to_string(), factor, low, high]
    };
    let header = ["event", "learned from", "factor", "low (10 %)", "high (90 %)"];
    output::table(1, header, effects.iter().map(row))
}
