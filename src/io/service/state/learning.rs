//! Pure: what a running service knows of its model: which one it uses, what was refused, what could
//! not be saved.

use super::State;
use crate::forecast::Model;
use crate::io::artifact::catalog::ModelInfo;
use crate::series::Time;

impl State {
    /// Whether a model can be used here; if not, one sentence that says why.
    pub fn fits(&self, model: &Model) -> Result<(), String> {
        let step = self.config.settings.evaluation_interval.as_millis();
        match u128::from(model.step_ms) == step {
            true => Ok(()),
            false => Err(format!(
                "a model with a step of {} ms, but the service evaluates every {step} ms",
                model.step_ms
            )),
        }
    }

    /// Takes a model into use, unless it does not fit.
    pub fn adopt(&mut self, version: Option<u32>, mut model: Model) -> Result<(), String> {
        self.fits(&model)?;
        if let Some(events) = &self.calendar.events {
            model.schedule(events);
        }
        self.model = Some(ModelInfo::new(version, &model));
        self.autoscaler.adopt(model);
        Ok(())
    }

    /// What tells the model in use from any other: its version, `None` for one that could not be
    /// saved, and when it was trained.
    pub fn model_id(&self) -> Option<(Option<u32>, Time)> {
        self.model.as_ref().map(|model| (model.version, model.training.trained_at))
    }

    /// Model files that were found to be unusable; replaces what was refused before.
    pub fn refuse_models(&mut self, refused: Vec<String>) {
        for reason in refused.iter().filter(|reason| !self.models_refused.contains(reason)) {
            self.counters.models_refused += 1;
            tracing::warn!(service = self.config.name, reason, "model file refused");
        }
        self.models_refused = refused;
    }

    /// Whether the last trained model is on disk, and if not, why.
    pub fn model_saved(&mut self, failure: Option<String>) {
        if let Some(reason) = &failure {
            self.counters.model_save_failures += 1;
            tracing::warn!(service = self.config.name, reason, "model not saved");
        }
        self.model_not_saved = failure;
    }

    pub(super) fn model_notes(&self) -> impl Iterator<Item = String> {
        let used = match self.model.as_ref().map(|model| model.version) {
            Some(Some(version)) => format!("version {version} is used"),
            Some(None) => "one in memory is used".to_owned(),
            None => "no model is used".to_owned(),
        };
        let refused = self.models_refused.iter();
        let refused = refused.map(move |reason| format!("model file refused, {used}: {reason}"));
        let unsaved = self.model_not_saved.iter();
        refused.chain(unsaved.map(|reason| format!("the last model is not saved: {reason}")))
    }
}
