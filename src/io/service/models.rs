//! I/O: how a service learns: trains beside its decisions, keeps every model, and uses the one that
//! won or that an operator chose.

use std::path::Path;

use chrono::Utc;

use super::{Service, blocking};
use crate::forecast::challenge::{Lesson, Verdict, learn};
use crate::forecast::{ForecastError, Model};
use crate::io::artifact::catalog::{self, Catalog, ModelEntry};
use crate::io::artifact::in_use::{self, InUse};
use crate::io::artifact::{self, ArtifactError};

/// What a training led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// `None` if it could not be saved.
    pub version: Option<u32>,
    pub model: Model,
    pub verdict: Verdict,
}

/// Why a model was not put into use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("version {version} is {reason}")]
    Unfit { version: u32, reason: String },
}

impl Service {
    /// Trains on the recorded load, saves the model, and uses it if it wins against the one in use.
    /// Takes as long as it takes; decisions go on.
    ///
    /// # Errors
    /// [`ForecastError`] if there is too little data; the model in use stays.
    pub async fn train(&self) -> Result<Learned, ForecastError> {
        let (history, options) = self.shared.state().training_set();
        self.learn(move |champion| learn(Utc::now(), &history, &options, champion)).await
    }

    /// As [`Service::train`], with what `fit` makes of the model in use.
    pub(super) async fn learn(
        &self,
        fit: impl FnOnce(Option<&Model>) -> Result<Lesson, ForecastError> + Send + 'static,
    ) -> Result<Learned, ForecastError> {
        let _turn = self.shared.training.lock().await;
        let (champion, used) = {
            let state = self.shared.state();
            (state.autoscaler.model().cloned(), state.model_id())
        };
        let mut lesson = blocking(move || fit(champion.as_ref())).await.inspect_err(|_| {
            self.shared.state().counters.training_failures += 1;
        })?;
        let mut followed = self.shared.in_use.lock().await;
        if self.shared.state().model_id() != used {
            lesson.verdict.promoted = false;
            lesson.verdict.reason =
                format!("another model came into use meanwhile; {}", lesson.verdict.reason);
        }
        let shared = self.shared.clone();
        let (lesson, committed) = blocking(move || {
            let committed =
                artifact::commit(&shared.models, &shared.config.name, &lesson, Utc::now());
            (lesson, committed)
        })
        .await;
        let mut state = self.shared.state();
        state.counters.trainings += 1;
        let (version, verdict) = match committed {
            Ok(committed) => {
                state.model_saved(None);
                *followed = committed.in_use;
                (Some(committed.version), committed.verdict)
            }
            Err(error) => {
                state.model_saved(Some(error.to_string()));
                let pinned = followed.as_ref().is_some_and(|in_use| in_use.pinned);
                let promoted = lesson.verdict.promoted && !pinned;
                (None, Verdict { promoted, ..lesson.verdict })
            }
        };
        let outcome = if verdict.promoted { "won" } else { "lost" };
        *state.counters.matches.entry(outcome).or_default() += 1;
        if !verdict.promoted {
            state.autoscaler.keep();
        } else if let Err(reason) = state.adopt(version, lesson.model.clone()) {
            tracing::error!(service = self.shared.config.name, reason, "a model that does not fit");
        } else {
            state.refuse_models(Vec::new());
        }
        Ok(Learned { version, model: lesson.model, verdict })
    }

    /// Takes into use what the record in the models folder names, if that has changed: an operator
    /// may have done so from the command line.
    pub(super) async fn follow(&self) {
        // Whoever holds the lock changes the record, and follows it.
        let Ok(mut followed) = self.shared.in_use.try_lock() else { return };
        let shared = self.shared.clone();
        let read = blocking(move || in_use::read(&shared.models, &shared.config.name)).await;
        match read {
            Ok(Some(record)) if followed.as_ref() != Some(&record) => {
                *followed = Some(record.clone());
                if let Err(error) = self.take(&record).await {
                    self.shared.state().refuse_models(vec![error.to_string()]);
                }
            }
            Ok(_) => {}
            Err(error) => self.shared.state().refuse_models(vec![error.to_string()]),
        }
    }

    /// Takes the version of a record into use, unless it is.
    async fn take(&self, record: &InUse) -> Result<(), ModelError> {
        let version = record.version;
        {
            let mut state = self.shared.state();
            if state.model_id().is_some_and(|(used, _)| used == Some(version)) {
                state.refuse_models(Vec::new());
                return Ok(());
            }
        }
        let shared = self.shared.clone();
        let loaded = move || artifact::load(&shared.models, &shared.config.name, version);
        let stored = blocking(loaded).await?;
        let mut state = self.shared.state();
        state
            .adopt(Some(version), stored.model)
            .map_err(|reason| ModelError::Unfit { version, reason })?;
        state.refuse_models(Vec::new());
        Ok(())
    }

    /// Puts a version into use and pins it.
    ///
    /// # Errors
    /// [`ModelError`] if there is no such version or it must not be used; nothing changes then.
    pub async fn promote(&self, version: u32) -> Result<InUse, ModelError> {
        let shared = self.shared.clone();
        let load = move || artifact::load(&shared.models, &shared.config.name, version);
        let stored = blocking(load).await?;
        let unfit = |reason| ModelError::Unfit { version, reason };
        self.shared.state().fits(&stored.model).map_err(unfit)?;
        self.change(move |models, name| in_use::promote(models, name, version, Utc::now())).await
    }

    /// Puts the version that was in use before back into use and pins it.
    ///
    /// # Errors
    /// As [`Service::promote`].
    pub async fn rollback(&self) -> Result<InUse, ModelError> {
        self.change(|models, name| in_use::rollback(models, name, Utc::now())).await
    }

    /// Lets the next model that wins come into use.
    ///
    /// # Errors
    /// As [`Service::promote`].
    pub async fn unpin(&self) -> Result<InUse, ModelError> {
        self.change(in_use::unpin).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&Path, &str) -> Result<InUse, ArtifactError> + Send + 'static,
    ) -> Result<InUse, ModelError> {
        let mut followed = self.shared.in_use.lock().await;
        let shared = self.shared.clone();
        let record = blocking(move || change(&shared.models, &shared.config.name)).await?;
        *followed = Some(record.clone());
        self.take(&record).await?;
        Ok(record)
    }

    /// All model files.
    ///
    /// # Errors
    /// [`ArtifactError`] if the folder cannot be read.
    pub async fn models(&self) -> Result<Catalog, ArtifactError> {
        let shared = self.shared.clone();
        let mut catalog =
            blocking(move || catalog::list(&shared.models, &shared.config.name)).await?;
        catalog.models.iter_mut().for_each(|entry| self.complete(entry));
        Ok(catalog)
    }

    /// One model file.
    ///
    /// # Errors
    /// [`ArtifactError`] if there is no such version.
    pub async fn model(&self, version: u32) -> Result<ModelEntry, ArtifactError> {
        let shared = self.shared.clone();
        let show = move || catalog::show(&shared.models, &shared.config.name, version);
        let mut entry = blocking(show).await?;
        self.complete(&mut entry);
        Ok(entry)
    }

    /// What only the running service knows: which model it really uses, and how that is doing.
    fn complete(&self, entry: &mut ModelEntry) {
        let used = self.snapshot().model.clone();
        entry.in_use = used.as_ref().is_some_and(|used| used.version == Some(entry.version));
        if entry.in_use {
            entry.model = used;
        }
    }
}

#[cfg(test)]
mod tests;
