//! I/O: the mode of a running service, switched until its next start.

use std::sync::PoisonError;

use chrono::Utc;

use super::{Service, lock};
use crate::config::Mode;

/// Why a service goes on observing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another Foresail on this machine acts on the same target; end it, or let it observe")]
pub struct AnotherActs;

impl Service {
    /// Switches to `mode` until the next start; the configuration stays as it is. Commands that are
    /// under way are finished. `reason` is shown with every decision while the mode is not the
    /// configured one.
    ///
    /// # Errors
    /// [`AnotherActs`]; the service then observes as before.
    pub fn set_mode(&self, mode: Mode, reason: &str) -> Result<(), AnotherActs> {
        let config = self.config();
        // Locked to the end, so that two requests at once leave lock and mode in agreement.
        let mut actor = self.shared.actor.lock().unwrap_or_else(PoisonError::into_inner);
        match mode {
            Mode::Act if actor.is_none() => {
                let lock = lock::acquire(&config.name, &config.target);
                *actor = Some(lock.ok_or(AnotherActs)?);
            }
            Mode::Act => {}
            Mode::Observe => *actor = None,
        }
        let now = Utc::now();
        let note = (mode != config.mode).then(|| {
            let at = now.format("%Y-%m-%d %H:%M:%S UTC");
            format!("mode {} by request of {at}: {reason}", mode.name())
        });
        self.shared.state().switch(now, mode, note);
        tracing::warn!(service = config.name, mode = mode.name(), reason, "mode switched");
        Ok(())
    }
}
