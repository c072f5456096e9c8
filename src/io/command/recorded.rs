//! I/O: what the commands on recorded load share: the folder of the store and the demand of a
//! service in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;

use super::CommandError;
use crate::forecast::events::Events;
use crate::io::calendar;
use crate::io::store::{Store, StoreError, demand_series, native_step_ms};
use crate::series::Series;

#[derive(Debug, Clone, clap::Args)]
pub struct Recorded {
    /// Name of the service.
    #[arg(long)]
    pub service: String,
    /// Folder of the recorded load.
    #[arg(long, value_name = "DIR", env = "FORESAIL_STORE", default_value = "foresail-data")]
    pub store: PathBuf,
}

impl Recorded {
    /// The store, with nothing past its retention.
    pub fn open(&self) -> Result<Store, CommandError> {
        Store::open(&self.store, Duration::MAX).map_err(store_error)
    }

    /// Demand of the newest `steps` steps; `step` is the most frequent distance of the newest rows
    /// unless given.
    pub fn history(&self, step: Option<Duration>, steps: usize) -> Result<Series, CommandError> {
        if !self.store.is_dir() {
            return Err(CommandError::BadInput(format!(
                "{}: there is no such folder; `foresail import` makes one",
                self.store.display()
            )));
        }
        let store = self.open()?;
        let Some((first, last)) = store.span(&self.service).map_err(store_error)? else {
            return Err(self.unknown(&store));
        };
        let end = last + TimeDelta::milliseconds(1);
        let rows = |from| store.demand(&self.service, from, end).map_err(store_error);
        let newest: Vec<i64> = rows(first.max(end - TimeDelta::days(1)))?
            .iter()
            .map(|row| row.time.timestamp_millis())
            .collect();
        let native = native_step_ms(&newest).map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let bad = |reason: String| CommandError::BadInput(format!("{}: {reason}", self.service));
        let native = native.ok_or_else(|| bad("fewer than two values are recorded".to_owned()))?;
        let step = step.unwrap_or(native);
        if step < native {
            let (step, native) =
                (humantime::Duration::from(step), humantime::Duration::from(native));
            return Err(bad(format!("a step of {step} is shorter than the recorded {native}")));
        }
        let span = TimeDelta::from_std(step.saturating_mul(steps as u32)).ok();
        let from =
            span.and_then(|span| end.checked_sub_signed(span)).map_or(first, |t| t.max(first));
        demand_series(&rows(from)?, native, step).map_err(|e| bad(e.to_string()))
    }

    /// What the calendar file, if there is one, says of the time of `history` and after.
    pub fn events(
        &self,
        history: &Series,
        calendar: Option<&Path>,
    ) -> Result<Option<Events>, CommandError> {
        let read = |path| calendar::read(path, history.start(), history.end());
        calendar.map(read).transpose().map_err(|e| CommandError::BadInput(e.to_string()))
    }

    fn unknown(&self, store: &Store) -> CommandError {
        let known = match store.services() {
            Ok(known) if known.is_empty() => "nothing is recorded there yet".to_owned(),
            Ok(known) => format!("known are: {}", known.join(", ")),
            Err(e) => e.to_string(),
        };
        let store = self.store.display();
        CommandError::BadInput(format!("{store}: no service `{}`; {known}", self.service))
    }
}

/// A wrong name is the user's to mend, a disk that refuses is not.
pub fn store_error(error: StoreError) -> CommandError {
    match error {
        StoreError::Service(_) => CommandError::BadInput(error.to_string()),
        StoreError::File { .. } => CommandError::Failed(error.to_string()),
    }
}

/// Runs blocking work beside the runtime's threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(CommandError::Failed(format!("the command broke off: {e}"))))
}

/// Arguments as the command line gives them.
#[cfg(test)]
pub fn parse<A: clap::Args>(words: &[&str]) -> A {
    let command = A::augment_args(clap::Command::new("foresail").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{forecast, import, train};
    use super::*;

    /// Ten days of hours: a day's wave, the same each day, with a little ripple.
    fn recording(folder: &Path) -> String {
        let hours = 0..240;
        let line = |h: i64| {
            let wave = (h as f64 * std::f64::consts::TAU / 24.0).sin();
            format!("{},{:.3}\n", 1_709_251_200 + 3_600 * h, 3.0 + wave + 0.01 * (h % 7) as f64)
        };
        let path = folder.join("hours.csv");
        fs::write(&path, "timestamp,value\n".to_owned() + &hours.map(line).collect::<String>())
            .unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn import(words: &[&str]) -> Result<String, String> {
        let imported = import::import(&parse(words));
        imported.map(|i| import::table(&i)).map_err(|e| format!("{e} ({})", e.exit_code()))
    }

    fn train(words: &[&str]) -> Result<String, String> {
        let trained = train::train_and_save(&parse(words));
        trained.map(|t| train::table(&t)).map_err(|e| format!("{e} ({})", e.exit_code()))
    }

    fn forecast(words: &[&str]) -> Result<String, String> {
        let forecasted = forecast::forecast(&parse(words));
        forecasted.map(|f| forecast::table(&f)).map_err(|e| format!("{e} ({})", e.exit_code()))
    }

    #[test]
    fn a_calendar_becomes_part_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let file = recording(folder.path());
        let store = folder.path().join("store").to_str().unwrap().to_owned();
        let common = ["--service", "web", "--store", &store];
        import(&[&[file.as_str()], &common[..]].concat()).unwrap();
        let path = folder.path().join("events.ics");
        let day = |d: &str| format!("BEGIN:VEVENT\nDTSTART:{d}\nSUMMARY:Fair\nEND:VEVENT\n");
        let days = ["20240303", "20240306", "20240312"].map(day).concat();
        fs::write(&path, format!("BEGIN:VCALENDAR\n{days}END:VCALENDAR\n")).unwrap();
        let calendar = [&common[..], &["--calendar", path.to_str().unwrap()]].concat();
        let trained = train(&calendar).unwrap();
        let fair = trained.lines().find(|line| line.starts_with("fair")).expect(&trained);
        let cells: Vec<&str> = fair.split_whitespace().collect();
        // Both days in the recording are as all others.
        assert_eq!(cells[..2], ["fair", "2"]);
        assert!((cells[2].parse::<f64>().unwrap() - 1.0).abs() < 0.02, "{fair}");
        assert!(forecast(&calendar).is_ok());
        fs::write(&path, format!("BEGIN:VCALENDAR\n{}", day("today"))).unwrap();
        for refused in [train(&calendar).unwrap_err(), forecast(&calendar).unwrap_err()] {
            let want = "events.ics: line 3: DTSTART: \"today\" is no date or time; write";
            assert!(refused.contains(want) && refused.ends_with("(2)"), "{refused}");
        }
    }

    #[test]
    fn the_road_from_a_recording_to_a_picture() {
        let folder = tempfile::tempdir().unwrap();
        let file = recording(folder.path());
        let store = folder.path().join("store").to_str().unwrap().to_owned();
        let common = ["--service", "web", "--store", &store];
        let once = import(&[&[file.as_str()], &common[..]].concat()).unwrap();
        let cells: Vec<&str> = once.lines().nth(1).unwrap().split_whitespace().collect();
        let ends = ["2024-03-01T00:00:00Z", "2024-03-11T00:00:00Z"];
        assert_eq!(cells, ["hours", "240", "0", "1h", ends[0], ends[1]]);
        assert_eq!(import(&[&[file.as_str()], &common[..]].concat()), Ok(once));
        let rows = Store::open(Path::new(&store), Duration::MAX).unwrap();
        assert_eq!(rows.span("web").unwrap().unwrap().1.timestamp(), 1_709_251_200 + 240 * 3_600);

        let trained = train(&[&common[..], &["--horizon", "6"]].concat()).unwrap();
        assert!(trained.contains("240 values of 1h from 2024-03-01T00:00:00Z"), "{trained}");
        assert!(trained.contains("store/models/web/1.json"), "{trained}");

        let picture = folder.path().join("web.svg");
        let plot = ["--plot", picture.to_str().unwrap(), "--quantiles", "0.9,0.1,0.5"];
        let table = forecast(&[&common[..], &plot].concat()).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        // A header, six steps, the model; the forecast begins where the recording ends.
        assert_eq!(lines.len(), 8, "{table}");
        assert!(lines[0].ends_with("q0.9") && lines[1].contains("2024-03-11T00:00:00Z"), "{table}");
        assert!(fs::read_to_string(picture).unwrap().starts_with("<svg"));

        let hourly = parse::<Both>(&common).recorded.history(None, 3).unwrap();
        assert_eq!((hourly.len(), hourly.step()), (3, Duration::from_secs(3_600)));
        let too_far = forecast(&[&common[..], &["--horizon", "7"]].concat()).unwrap_err();
        assert_eq!(too_far, "web: a horizon of 7; the model was trained for 1 to 6 (2)");
        let quantile = forecast(&[&common[..], &["--quantiles", "0.5,1"]].concat()).unwrap_err();
        assert_eq!(quantile, "--quantiles: 1 is not between 0 and 1 (2)");
        let finer = train(&[&common[..], &["--step", "15s"]].concat()).unwrap_err();
        assert_eq!(finer, "web: a step of 15s is shorter than the recorded 1h (2)");
        let api = ["--service", "api", "--store", &store];
        let unknown = format!("{store}: no service `api`; known are: web (2)");
        assert_eq!(train(&api).unwrap_err(), unknown);
        assert_eq!(forecast(&api).unwrap_err(), unknown);
        fs::remove_dir_all(Path::new(&store).join("models")).unwrap();
        let untrained = forecast(&common).unwrap_err();
        assert!(untrained.ends_with("`foresail train` makes one (2)"), "{untrained}");
    }

    #[test]
    fn lower_bounds_are_carried_from_the_file_to_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clipped.csv");
        let line = |i: i64| format!("{},{},{}\n", 60 * i, (i % 4).min(2), i % 4 > 1);
        let lines: String = (0..8).map(line).collect();
        fs::write(&file, format!("timestamp,value,lower_bound\n{lines}")).unwrap();
        let store = folder.path().join("store").to_str().unwrap().to_owned();
        let common = ["--service", "web", "--store", &store];
        import(&[&[file.to_str().unwrap()], &common[..]].concat()).unwrap();
        let recorded = parse::<Both>(&common).recorded;
        let minutes = recorded.history(None, 5).unwrap();
        // The newest five of eight minutes; the last two of each four are clipped.
        assert_eq!(minutes.lower_bounds(), Some(&[true, false, false, true, true][..]));
        let minutes = recorded.history(Some(Duration::from_secs(120)), 4).unwrap();
        assert_eq!(minutes.lower_bounds(), Some(&[false, true, false, true][..]));
    }

    #[derive(clap::Args)]
    struct Both {
        #[command(flatten)]
        recorded: Recorded,
    }

    #[test]
    fn nothing_is_half_imported() {
        let folder = tempfile::tempdir().unwrap();
        let good = recording(folder.path());
        let bad = folder.path().join("bad.csv");
        fs::write(&bad, "timestamp,value\n1,1\n2,-2\n").unwrap();
        let (bad, absent) = (bad.to_str().unwrap(), "absent.csv");
        let store = folder.path().join("store").to_str().unwrap().to_owned();
        let refused =
            import(&[&good, bad, absent, "--service", "web", "--store", &store]).unwrap_err();
        assert!(refused.starts_with(&format!("{bad}:3: value -2;")), "{refused}");
        assert!(refused.contains("\nabsent.csv: ") && refused.ends_with("(2)"), "{refused}");
        assert!(!Path::new(&store).exists());
        let train = train(&["--service", "web", "--store", &store]).unwrap_err();
        assert!(train.ends_with("there is no such folder; `foresail import` makes one (2)"));
        let name = import(&[&good, "--service", "../web", "--store", &store]).unwrap_err();
        assert!(name.starts_with("`../web` is no service name"), "{name}");
        assert!(!folder.path().join("web").exists());
    }
}
