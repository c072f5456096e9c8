//! I/O: the models of a service as people and the API see them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::in_use::{self, InUse};
use super::{ArtifactError, Stored, load, versions_of};
use crate::forecast::challenge::Verdict;
use crate::forecast::events::EventEffect;
use crate::forecast::{Method, Model, Training};

/// What a model is, where it comes from and how good it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelInfo {
    /// `None` if it could not be saved.
    pub version: Option<u32>,
    pub method: Method,
    /// In steps, strongest first.
    pub season_lengths: Vec<usize>,
    /// Steps ahead.
    pub horizon: usize,
    pub step_ms: u64,
    pub training: Training,
    /// What is known of each kind of event in the calendar.
    #[serde(default)]
    pub events: Vec<EventEffect>,
    /// Of the model in use: cold start, drift.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ModelInfo {
    pub fn new(version: Option<u32>, model: &Model) -> ModelInfo {
        ModelInfo {
            version,
            method: model.method(),
            season_lengths: model.season_lengths.clone(),
            horizon: model.horizon,
            step_ms: model.step_ms,
            training: model.training.clone(),
            events: model.events(),
            notes: Vec::new(),
        }
    }
}

/// A model file.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ModelEntry {
    pub version: u32,
    pub in_use: bool,
    /// `None` if the file is refused.
    pub model: Option<ModelInfo>,
    /// How it did against the model that was in use when it was trained.
    pub verdict: Option<Verdict>,
    /// Why the file is refused.
    pub refused: Option<String>,
}

/// All model files of a service.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Catalog {
    /// `None` before the first model.
    pub in_use: Option<InUse>,
    /// Newest first.
    pub models: Vec<ModelEntry>,
}

/// Reads every model file of a service.
///
/// # Errors
/// [`ArtifactError`] if the folder cannot be listed or the record of what is in use is damaged.
pub fn list(models: &Path, service: &str) -> Result<Catalog, ArtifactError> {
    let in_use = in_use::read(models, service)?;
    let used = in_use.as_ref().map(|in_use| in_use.version);
    let versions = versions_of(models, service)?;
    let entry = |&version: &u32| entry(version, used, load(models, service, version));
    Ok(Catalog { in_use, models: versions.iter().rev().map(entry).collect() })
}

/// Reads one model file.
///
/// # Errors
/// As [`list`], and [`ArtifactError::Unknown`].
pub fn show(models: &Path, service: &str, version: u32) -> Result<ModelEntry, ArtifactError> {
    let used = in_use::read(models, service)?.map(|in_use| in_use.version);
    match load(models, service, version) {
        Err(unknown @ ArtifactError::Unknown { .. }) => Err(unknown),
        loaded => Ok(entry(version, used, loaded)),
    }
}

fn entry(version: u32, used: Option<u32>, loaded: Result<Stored, ArtifactError>) -> ModelEntry {
    let (stored, refused) = match loaded {
        Ok(stored) => (Some(stored), None),
        Err(error) => (None, Some(error.to_string())),
    };
    ModelEntry {
        version,
        in_use: used == Some(version),
        model: stored.as_ref().map(|stored| ModelInfo::new(Some(version), &stored.model)),
        verdict: stored.map(|stored| stored.verdict),
        refused,
    }
}
