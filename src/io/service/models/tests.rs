//! I/O: tests of a running service that learns: nothing stops its decisions, what is chosen
//! elsewhere is followed, and a restart goes on with the model it had.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config;
use crate::forecast::trainer::TrainOptions;
use crate::io::service::{Running, Snapshot, start};
use crate::io::store::{DemandRow, Store};
use crate::series::{Series, Time};

const STEP_MS: u64 = 200;
/// So long that what was recorded is recent still at the first decision.
const SLOW_STEP_MS: u64 = 2_000;

struct World {
    running: Running,
    shutdown: CancellationToken,
}

impl World {
    /// A service that only observes, with its store in `folder`.
    async fn start(folder: &Path, step_ms: u64) -> World {
        let text = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n[store]\npath = {folder:?}\n[services.web]\n\
             evaluation_interval = \"{step_ms}ms\"\ntraining = {{ interval = \"1d\" }}\n\
             target = {{ process = {{ command = [\"true\"] }} }}\n"
        );
        let config = config::parse(&text).unwrap_or_else(|e| panic!("{e:?}"));
        let shutdown = CancellationToken::new();
        World { running: start(config, shutdown.clone()).await.expect("free ports"), shutdown }
    }

    fn service(&self) -> Service {
        self.running.services.get("web").expect("configured")
    }

    /// The first snapshot that is as wanted; a minute is far more than any of it takes.
    async fn until(&self, wanted: impl Fn(&Snapshot) -> bool) -> std::sync::Arc<Snapshot> {
        for _ in 0..1_200 {
            let snapshot = self.service().snapshot();
            if wanted(&snapshot) {
                return snapshot;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain: {:?}", self.service().snapshot().notes);
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.stopped().await;
    }
}

/// A wave of 120 steps up to `now`.
fn recorded(now: Time, step_ms: u64) -> Series {
    let start = now - TimeDelta::milliseconds(120 * step_ms as i64);
    let wave = |i: i32| 2.0 + (f64::from(i) * std::f64::consts::TAU / 30.0).sin();
    let step = Duration::from_millis(step_ms);
    Series::new(start, step, (0..120).map(wave).collect())
}

fn lesson(step_ms: u64) -> Lesson {
    let history = recorded(Utc::now(), step_ms);
    learn(history.end(), &history, &TrainOptions::default(), None).expect("enough")
}

fn store(folder: &Path, step_ms: u64) {
    let history = recorded(Utc::now(), step_ms);
    let row = |i: usize| DemandRow {
        time: history.time_at(i + 1),
        demand: history.get(i),
        lower_bound: false,
        ready_replicas: 1,
        current_replicas: 1,
        desired_replicas: 1,
    };
    let store = Store::open(folder, Duration::MAX).expect("a store");
    store.append("web", &[], &(0..history.len()).map(row).collect::<Vec<_>>()).expect("kept");
    store.flush(history.end()).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_go_on_while_a_training_runs() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), STEP_MS).await;
    let (go, gate) = mpsc::channel::<()>();
    let service = world.service().clone();
    let training = tokio::spawn(async move {
        let slow = move |_: Option<&Model>| {
            gate.recv().expect("the test lets it go on");
            Ok(lesson(STEP_MS))
        };
        service.learn(slow).await
    });
    let begun = Utc::now();
    let decided = |s: &Snapshot| s.decisions.iter().filter(|d| d.time > begun).count();
    world.until(|s| decided(s) >= 3).await;
    assert!(!training.is_finished());
    go.send(()).unwrap();
    let learned = training.await.unwrap().unwrap();
    assert_eq!((learned.version, &*learned.verdict.reason), (Some(1), "the first model"));
    world.until(|s| s.model.as_ref().is_some_and(|m| m.version == Some(1))).await;
    assert_eq!(world.service().snapshot().counters.matches["won"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_chosen_elsewhere_is_followed_and_what_does_not_fit_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    for step_ms in [STEP_MS, STEP_MS, 1_000] {
        artifact::commit(&models, "web", &lesson(step_ms), Utc::now()).unwrap();
    }
    in_use::promote(&models, "web", 1, Utc::now()).unwrap();
    let world = World::start(folder.path(), STEP_MS).await;
    let used = |version| move |s: &Snapshot| s.model.as_ref().and_then(|m| m.version) == version;
    world.until(used(Some(1))).await;
    in_use::promote(&models, "web", 2, Utc::now()).unwrap();
    world.until(used(Some(2))).await;

    in_use::promote(&models, "web", 3, Utc::now()).unwrap();
    let refused = world.until(|s| s.counters.models_refused == 1).await;
    assert_eq!(refused.model.as_ref().and_then(|m| m.version), Some(2));
    let said = |notes: &[String]| {
        notes.iter().any(|n| {
            n.starts_with("model file refused, version 2 is used: ")
                && n.contains("step of 1000 ms")
        })
    };
    world.until(|s| said(&s.notes) && s.decisions.last().is_some_and(|d| said(&d.notes))).await;
    assert!(matches!(world.service().promote(3).await, Err(ModelError::Unfit { version: 3, .. })));
    assert_eq!(world.service().rollback().await.map(|r| (r.version, r.pinned)), Ok((2, true)));
    assert!(!said(&world.service().plan().await.notes));

    // While a version is pinned, a training does not replace it.
    let learned = world.service().learn(|_| Ok(lesson(STEP_MS))).await.unwrap();
    assert_eq!((learned.version, learned.verdict.promoted), (Some(4), false));
    world.service().unpin().await.unwrap();
    let learned = world.service().learn(|_| Ok(lesson(STEP_MS))).await.unwrap();
    assert_eq!((learned.version, learned.verdict.promoted), (Some(5), true));
    world.until(used(Some(5))).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_the_last_good_model() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    store(folder.path(), SLOW_STEP_MS);
    for _ in 0..2 {
        artifact::commit(&models, "web", &lesson(SLOW_STEP_MS), Utc::now()).unwrap();
    }
    std::fs::write(models.join("web/2.json"), "{").unwrap();
    let world = World::start(folder.path(), SLOW_STEP_MS).await;
    let first = world.until(|s| !s.decisions.is_empty()).await;
    assert!(first.forecast.is_some(), "{:?}", first.decisions[0]);
    assert_eq!(first.counters.trainings, 0, "the stored model is young enough");
    assert_eq!(first.counters.models_refused, 1);
    let notes = &first.decisions[0].notes;
    assert!(
        notes.iter().any(|n| n.starts_with("model file refused, version 1 is used: ")),
        "{notes:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_costs_the_file_and_not_the_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    std::fs::write(folder.path().join("models/web"), "no folder").unwrap();
    let world = World::start(folder.path(), STEP_MS).await;
    let learned = world.service().learn(|_| Ok(lesson(STEP_MS))).await.unwrap();
    assert_eq!((learned.version, learned.verdict.promoted), (None, true));
    let said =
        |s: &Snapshot| s.notes.iter().any(|n| n.starts_with("the last model is not saved: "));
    let snapshot = world.until(|s| said(s) && s.model.is_some()).await;
    assert_eq!(snapshot.counters.model_save_failures, 1);
    world.stop().await;
}
