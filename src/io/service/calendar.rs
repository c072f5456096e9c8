//! I/O: follows the calendar file of a service while it runs.

use std::time::Duration;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::state::State;
use super::{Service, blocking};
use crate::forecast::events::Events;
use crate::forecast::trainer::TrainOptions;
use crate::io::calendar::{CalendarFileError, Watch};
use crate::series::{Series, Time};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// The last good calendar, and why a newer file is not in use.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    pub events: Option<Events>,
    pub error: Option<String>,
}

impl State {
    /// What to train on, with what is known to have happened.
    pub fn training_set(&self) -> (Series, TrainOptions) {
        self.with_events(self.autoscaler.training_set())
    }

    /// The same if a training is due at `now`; asking marks it as asked for.
    pub fn training_due(&mut self, now: Time) -> Option<(Series, TrainOptions)> {
        let due = self.autoscaler.training_due(now)?;
        Some(self.with_events(due))
    }

    fn with_events(&self, (series, options): (Series, TrainOptions)) -> (Series, TrainOptions) {
        let events = self.calendar.events.clone().unwrap_or_default();
        (series, TrainOptions { events, ..options })
    }

    /// The file is new or changed. One that cannot be read changes nothing but the notes.
    pub fn take_calendar(&mut self, read: Result<Events, CalendarFileError>) {
        match read {
            Ok(events) => {
                self.calendar.error = None;
                self.autoscaler.schedule(&events);
                self.calendar.events = Some(events);
                if let (Some(info), Some(model)) = (&mut self.model, self.autoscaler.model()) {
                    info.events = model.events();
                }
            }
            Err(error) => {
                tracing::warn!(service = self.config.name, %error, "calendar not taken over");
                let kept = match self.calendar.events {
                    Some(_) => "the last good calendar stays in use",
                    None => "no events are known",
                };
                self.calendar.error = Some(format!("calendar {error}; {kept}"));
            }
        }
    }
}

/// Reads the file now, and whenever it changes, until `shutdown`.
pub(super) async fn follow(service: Service, mut watch: Watch, shutdown: CancellationToken) {
    loop {
        let (same, read) = blocking(move || {
            let read = watch.poll(Utc::now());
            (watch, read)
        })
        .await;
        watch = same;
        if let Some(read) = read {
            service.shared.state().take_calendar(read);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::{self, Mode};
    use crate::forecast::trainer::train;

    fn calendar(kind: &str) -> String {
        let days = ["01", "03", "08", "12"]
            .map(|day| format!("BEGIN:VEVENT\nDTSTART:202601{day}\nSUMMARY:{kind}\nEND:VEVENT\n"));
        format!("BEGIN:VCALENDAR\n{}END:VCALENDAR\n", days.concat())
    }

    fn poll(state: &mut State, file: &Path, content: &str) {
        fs::write(file, content).unwrap();
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        let read = Watch::new(file.to_owned(), Duration::from_secs(86_400 * 30)).poll(now);
        state.take_calendar(read.expect("a new watch always reads"));
    }

    #[test]
    fn a_broken_calendar_is_said_and_the_last_good_one_stays_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.ics");
        let text = "[services.web]\nevaluation_interval = \"1h\"\n\
                    target = { process = { command = [\"w\"] } }";
        let config = config::parse(text).unwrap().services.remove("web").unwrap();
        let mut state = State::new(config, Mode::Observe);
        poll(&mut state, &file, "BEGIN:VCALENDAR\n");
        let note = state.calendar.error.clone().unwrap();
        assert!(note.contains("events.ics: line 1: BEGIN:VCALENDAR has no END"), "{note}");
        assert!(note.ends_with("no events are known"), "{note}");

        poll(&mut state, &file, &calendar("Sale"));
        assert_eq!(state.calendar.error, None);
        assert_eq!(state.training_set().1.events.len(), 4);
        poll(&mut state, &file, "no calendar");
        let note = state.calendar.error.clone().unwrap();
        assert!(note.ends_with("the last good calendar stays in use"), "{note}");
        assert_eq!(state.training_set().1.events.len(), 4);

        // A model learns of the calendar as it comes, and the calendar of it.
        let start = "2026-01-02T00:00:00Z".parse().unwrap();
        let values = (0..192).map(|i| if (24..48).contains(&i) { 30.0 } else { 10.0 }).collect();
        let history = Series::new(start, Duration::from_secs(3_600), values);
        let model = train(history.end(), &history, &state.training_set().1).unwrap();
        state.adopt(None, model).unwrap();
        let known = |state: &State| {
            let events = &state.model.as_ref().unwrap().events;
            events.iter().map(|e| (e.kind.clone(), e.occurrences)).collect::<Vec<_>>()
        };
        assert_eq!(known(&state), [("sale".to_owned(), 2)]);
        poll(&mut state, &file, &calendar("Fair"));
        assert_eq!(known(&state), [("fair".to_owned(), 0)]);
    }
}
