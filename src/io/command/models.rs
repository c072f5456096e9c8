//! I/O: `foresail models`: lists the models of a service, shows one, and chooses which one is in
//! use.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use serde::Serialize;

use super::recorded::{Recorded, blocking, store_error};
use super::train::Models;
use super::{CommandError, Format, output};
use crate::forecast::accuracy::MethodScore;
use crate::io::artifact::ArtifactError;
use crate::io::artifact::catalog::{self, Catalog, ModelEntry, ModelInfo};
use crate::io::artifact::in_use::{self, InUse};
use crate::io::store::check_service;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All models that are kept, newest first, and which one is in use.
    List(Whose),
    /// One model: what it was trained on, and how good it was.
    Show {
        /// The version; the one in use unless given.
        // An id of its own: `version` is that of `--version`.
        #[arg(id = "model_version", value_name = "VERSION")]
        version: Option<u32>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Puts a version into use and pins it: trainings go on, but put no other into use. A running
    /// service follows at its next evaluation.
    Promote {
        #[arg(id = "model_version", value_name = "VERSION")]
        version: u32,
        #[command(flatten)]
        whose: Whose,
    },
    /// Puts the version that was in use before back into use and pins it.
    Rollback(Whose),
    /// Takes the pin off: the next model that wins against the one in use replaces it.
    Unpin(Whose),
}

#[derive(Debug, clap::Args)]
struct Whose {
    #[command(flatten)]
    recorded: Recorded,
    #[command(flatten)]
    models: Models,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    output::print(&blocking(move || answer(&args)).await?)
}

fn answer(args: &Args) -> Result<String, CommandError> {
    let now = Utc::now();
    match &args.action {
        Action::List(whose) => whose.answer(catalog::list, table),
        Action::Show { version, whose } => whose.answer(|m, s| show(m, s, *version), card),
        Action::Promote { version, whose } => {
            whose.answer(|m, s| in_use::promote(m, s, *version, now), sentence)
        }
        Action::Rollback(whose) => whose.answer(|m, s| in_use::rollback(m, s, now), sentence),
        Action::Unpin(whose) => whose.answer(in_use::unpin, sentence),
    }
}

impl Whose {
    fn answer<T: Serialize>(
        &self,
        act: impl FnOnce(&Path, &str) -> Result<T, ArtifactError>,
        say: impl FnOnce(&T) -> String,
    ) -> Result<String, CommandError> {
        let service = &self.recorded.service;
        check_service(service).map_err(store_error)?;
        let done = act(&self.models.folder(&self.recorded), service).map_err(model_error)?;
        match self.format {
            Format::Json => output::json(&done),
            Format::Table => Ok(say(&done)),
        }
    }
}

/// What is wrong with a choice is the user's to mend, a disk that refuses is not.
fn model_error(error: ArtifactError) -> CommandError {
    match error {
        ArtifactError::Disk { .. } => CommandError::Failed(error.to_string()),
        _ => CommandError::BadInput(error.to_string()),
    }
}

fn show(models: &Path, service: &str, version: Option<u32>) -> Result<ModelEntry, ArtifactError> {
    let used = || in_use::read(models, service).map(|in_use| in_use.map_or(0, |i| i.version));
    // There is no version 0, and the error names those that there are.
    let version = version.map_or_else(used, Ok)?;
    catalog::show(models, service, version)
}

fn table(catalog: &Catalog) -> String {
    if catalog.models.is_empty() {
        return "no models yet; `foresail train` makes one\n".to_owned();
    }
    let pinned = catalog.in_use.as_ref().is_some_and(|in_use| in_use.pinned);
    let row = |entry: &ModelEntry| {
        let used = match (entry.in_use, pinned) {
            (true, true) => "pinned",
            (true, false) => "in use",
            (false, _) => "",
        };
        let verdict = entry.verdict.as_ref().map(|verdict| verdict.reason.clone());
        let outcome = verdict.or_else(|| entry.refused.clone()).unwrap_or_default();
        let [method, trained, pinball] = entry.model.as_ref().map_or_else(Default::default, cells);
        vec![entry.version.to_string(), used.to_owned(), method, trained, pinball, outcome]
    };
    let header = ["version", "", "method", "trained at", "pinball", "against the one before"];
    output::table(6, header, catalog.models.iter().map(row))
}

fn cells(model: &ModelInfo) -> [String; 3] {
    let own = model.training.scores.iter().find(|score| score.method == model.method);
    [
        model.method.name().to_owned(),
        output::time(model.training.trained_at),
        own.map(|score| format!("{:.3}", score.pinball)).unwrap_or_default(),
    ]
}

fn card(entry: &ModelEntry) -> String {
    let used = if entry.in_use { ", in use" } else { "" };
    let mut text = format!("version {}{used}\n", entry.version);
    if let Some(model) = &entry.model {
        let length = |steps: usize| {
            let ms = model.step_ms.saturating_mul(steps as u64);
            humantime::format_duration(Duration::from_millis(ms)).to_string()
        };
        let seasons: Vec<String> = model.season_lengths.iter().map(|&s| length(s)).collect();
        let seasons = if seasons.is_empty() { "none".to_owned() } else { seasons.join(", ") };
        let training = &model.training;
        text += &format!(
            "{}, {} ahead in steps of {}; seasons: {seasons}\n\
             trained at {} on {} values from {} to {}\n",
            model.method.name(),
            length(model.horizon),
            length(1),
            output::time(training.trained_at),
            training.points,
            output::time(training.from),
            output::time(training.to),
        );
        let row = |score: &MethodScore| {
            let cells = output::score(score).to_vec();
            [vec![score.method.name().to_owned()], cells].concat()
        };
        let header = std::iter::once("method").chain(output::SCORE_HEADER);
        text += &output::table(1, header, training.scores.iter().map(row));
    }
    let verdict = entry.verdict.as_ref().map(|v| format!("against the one before: {}\n", v.reason));
    let refused = entry.refused.as_ref().map(|reason| format!("refused: {reason}\n"));
    text + &verdict.unwrap_or_default() + &refused.unwrap_or_default()
}

fn sentence(in_use: &InUse) -> String {
    let pinned = match in_use.pinned {
        true => "pinned until `foresail models unpin`",
        false => "not pinned",
    };
    format!("version {} is in use, {pinned}: {}\n", in_use.version, in_use.reason)
}

#[cfg(test)]
mod tests {
    use super::super::recorded::parse;
    use super::*;
    use crate::forecast::challenge::learn;
    use crate::forecast::trainer::TrainOptions;
    use crate::io::artifact;
    use crate::series::{Series, Time};

    fn run(folder: &Path, words: &[&str]) -> Result<String, String> {
        let models = folder.display().to_string();
        let place = ["--service", "web", "--models", &models];
        answer(&parse(&[words, &place[..]].concat()))
            .map_err(|e| format!("{e} ({})", e.exit_code()))
    }

    #[test]
    fn models_are_listed_shown_and_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path();
        assert_eq!(run(models, &["list"]).unwrap(), "no models yet; `foresail train` makes one\n");
        let none = "`web` has no model version 0; there is none; `foresail train` makes one (2)";
        assert_eq!(run(models, &["show"]).unwrap_err(), none);
        let values = (0..120).map(|i| f64::from(i % 24)).collect();
        let history = Series::new(Time::UNIX_EPOCH, Duration::from_secs(60), values);
        let lesson = learn(history.end(), &history, &TrainOptions::default(), None).unwrap();
        for _ in 0..2 {
            artifact::commit(models, "web", &lesson, history.end()).unwrap();
        }
        std::fs::write(models.join("web/3.json"), "{}").unwrap();

        let promoted = run(models, &["promote", "1"]).unwrap();
        assert!(promoted.starts_with("version 1 is in use, pinned until"), "{promoted}");
        let list = run(models, &["list"]).unwrap();
        let lines: Vec<&str> = list.lines().collect();
        assert!(lines[1].starts_with('3') && lines[1].contains("3.json: damaged"), "{list}");
        assert!(lines[2].starts_with('2') && lines[2].ends_with("the first model"), "{list}");
        assert!(lines[3].contains("pinned") && lines[3].contains("1970-01-01T02:00:00Z"), "{list}");
        let card = run(models, &["show"]).unwrap();
        assert!(card.starts_with("version 1, in use\n") && card.contains("120 values"), "{card}");
        let refused = run(models, &["show", "3"]).unwrap();
        assert!(refused.contains("refused: ") && refused.contains("3.json: damaged"), "{refused}");

        assert!(run(models, &["promote", "3"]).unwrap_err().ends_with("(2)"));
        assert!(run(models, &["rollback"]).unwrap().starts_with("version 2 is in use, pinned"));
        assert!(run(models, &["unpin"]).unwrap().starts_with("version 2 is in use, not pinned"));
        let json = run(models, &["list", "--format", "json"]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["in_use"]["version"], &json["models"][0]["model"]),
            (&2.into(), &().into())
        );
        let name = answer(&parse(&["list", "--service", "../web"])).unwrap_err();
        assert!(name.to_string().starts_with("`../web` is no service name"), "{name}");
    }
}
