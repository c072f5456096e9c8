//! I/O: the mode of a running service, switched until its next start.

use std::time::Duration;

use chrono::Utc;

use super::Service;
use crate::config::Mode;

/// Longest wait for the lock against a second actor. Where it takes longer, the service acts as
/// soon as it has it.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// Pause between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// Why a service goes on observing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; end that one, or let it observe")]
pub struct AnotherActs(String);

impl Service {
    /// Switches to `mode` until the next start; the configuration stays as it is. Commands that are
    /// under way are finished. `reason` is shown with every decision while the mode is not the
    /// configured one. Gives why it does not act yet, if it is to act and cannot.
    ///
    /// # Errors
    /// [`AnotherActs`]; the mode is then as it was.
    pub async fn set_mode(&self, mode: Mode, reason: &str) -> Result<Option<String>, AnotherActs> {
        let config = self.config();
        let now = Utc::now();
        let note = (mode != config.mode).then(|| {
            let at = now.format("%Y-%m-%d %H:%M:%S UTC");
            format!("mode {} by request of {at}: {reason}", mode.name())
        });
        let (mode_before, note_before) = self.shared.state().switch(now, mode, note);
        tracing::warn!(service = config.name, mode = mode.name(), reason, "mode switched");
        if mode == Mode::Observe {
            return Ok(None);
        }
        // The lock follows the mode within a beat, and tells how it stands.
        let decided = async {
            while !self.shared.state().decided() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Without an answer in time it is not decided, which is told below.
        let _ = tokio::time::timeout(LOCK_WAIT, decided).await;
        let mut state = self.shared.state();
        match state.held_back.clone().filter(|_| state.rival) {
            Some(reason) => {
                state.switch(Utc::now(), mode_before, note_before);
                Err(AnotherActs(reason))
            }
            None => Ok(state.held_back.clone()),
        }
    }
}
