//! Pure: a mode that was asked for while the service runs.

use super::State;
use crate::config::Mode;
use crate::series::Time;

impl State {
    /// Changes the mode, and gives the one before with its note. Nobody who observes stops a
    /// replica, so those that drain are taken back then.
    pub fn switch(
        &mut self,
        now: Time,
        mode: Mode,
        note: Option<String>,
    ) -> (Mode, Option<String>) {
        if mode == Mode::Observe {
            self.fleet.keep_draining(now);
        }
        (std::mem::replace(&mut self.mode, mode), std::mem::replace(&mut self.mode_note, note))
    }

    /// Whether it is known who may act.
    pub fn decided(&self) -> bool {
        self.held_back.is_none() || self.rival
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Phase, ReplicaReport};
    use crate::io::api::tests::{snapshot, web};
    use chrono::TimeDelta;

    #[test]
    fn who_is_to_observe_only_keeps_what_drains() {
        let now = snapshot().time;
        let mut state = State::new(web(), Mode::Act);
        let report = |id: &str| {
            let id = id.into();
            ReplicaReport { id, ready: true, managed: true, ..ReplicaReport::default() }
        };
        state.fleet.observe(now, &[report("a"), report("b")], |_| 1);
        assert_eq!(state.commands(now, 1), []);
        let draining = |state: &State| {
            state.fleet.replicas().filter(|replica| replica.phase == Phase::Draining).count()
        };
        assert_eq!(draining(&state), 1);
        let before = state.switch(now, Mode::Observe, Some("by request".into()));
        assert_eq!(before, (Mode::Act, None));
        assert_eq!((draining(&state), state.notes(now)), (0, vec!["by request".to_string()]));
        assert_eq!(state.commands(now + TimeDelta::hours(1), 1), []);
        assert_eq!(draining(&state), 0);
    }
}
