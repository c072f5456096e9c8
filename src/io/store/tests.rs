//! I/O: tests of the store: what survives crashes, foreign files, merging and time.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 86_400_000;
/// 2024-03-01T00:00:00Z.
const START_MS: i64 = 1_709_251_200_000;

fn at(ms: i64) -> Time {
    DateTime::from_timestamp_millis(ms).unwrap()
}

fn row(ms: i64, demand: f64) -> DemandRow {
    DemandRow {
        time: at(ms),
        demand: Some(demand),
        lower_bound: demand > 5.0,
        ready_replicas: 1,
        current_replicas: 2,
        desired_replicas: 3,
    }
}

fn sample(ms: i64, replica: &str) -> Sample {
    Sample {
        time: at(ms),
        replica: replica.to_owned(),
        cpu_cores: 0.25,
        memory_bytes: 1 << 40,
        requests: u64::from(u32::MAX) + 1,
        in_flight: 7,
    }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, Duration::MAX).unwrap()
}

/// Everything that the store holds of the service `web`.
fn all(store: &Store) -> Vec<DemandRow> {
    store.demand("web", DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC).unwrap()
}

fn put(store: &Store, rows: &[DemandRow]) {
    store.append("web", &[], rows).unwrap();
    store.flush(at(START_MS)).unwrap();
}

fn segments_of(folder: &Path, day: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("web/demand").join(day)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn rows_are_readable_before_and_after_the_flush_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut gap = row(START_MS + 2_000, 0.0);
    gap.demand = None;
    let rows = [row(START_MS, 1.5), row(START_MS + 1_000, 6.0), gap];
    let samples = [sample(START_MS, "a"), sample(START_MS, "b"), sample(START_MS + 1_000, "a")];
    store.append("web", &samples, &rows).unwrap();
    for _ in 0..2 {
        assert_eq!(all(&store), rows);
        store.flush(at(START_MS)).unwrap();
    }
    let store = open(folder.path());
    assert_eq!(all(&store), rows);
    assert_eq!(store.samples("web", at(START_MS), at(START_MS + 1_001)).unwrap(), samples);
    assert_eq!(store.services().unwrap(), ["web"]);
    assert_eq!(store.span("web").unwrap(), Some((rows[0].time, rows[2].time)));
    assert_eq!(store.span("other").unwrap(), None);
}

#[test]
fn the_range_is_half_open_and_crosses_days() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    // One row each six hours for three days, in reverse order.
    let rows: Vec<DemandRow> =
        (0..12).map(|i| row(START_MS + i * DAY_MS / 4, i as f64 / 10.0)).collect();
    let reversed: Vec<DemandRow> = rows.iter().rev().cloned().collect();
    put(&store, &reversed);
    assert_eq!(store.demand("web", rows[3].time, rows[9].time).unwrap(), rows[3..9]);
    assert_eq!(all(&store), rows);
    let inverted = store.demand("web", rows[9].time, rows[3].time).unwrap();
    assert_eq!(inverted, []);
}

#[test]
fn of_rows_with_one_time_the_newest_wins_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, &[row(START_MS, 1.0), row(START_MS + 1, 1.0), row(START_MS + 2, 1.0)]);
    put(&store, &[row(START_MS + 1, 2.0), row(START_MS + 2, 2.0)]);
    store.append("web", &[], &[row(START_MS + 2, 3.0)]).unwrap();
    let want = [row(START_MS, 1.0), row(START_MS + 1, 2.0), row(START_MS + 2, 3.0)];
    assert_eq!(all(&store), want);
    // Sixteen segments and more: merged, and still the same.
    for i in 0..40 {
        put(&store, &[row(START_MS + 100 + i, 4.0)]);
    }
    assert_eq!(all(&store)[..3], want);
    assert_eq!(all(&store).len(), 43);
    assert!(segments_of(folder.path(), "2024-03-01").len() <= 16);
}

#[test]
fn a_new_day_closes_the_one_before_into_one_segment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for i in 0..5 {
        put(&store, &[row(START_MS + i, i as f64)]);
    }
    assert_eq!(segments_of(folder.path(), "2024-03-01").len(), 5);
    put(&store, &[row(START_MS + DAY_MS, 9.0)]);
    assert_eq!(segments_of(folder.path(), "2024-03-01").len(), 1);
    assert_eq!(all(&store).len(), 6);
}

#[test]
fn retention_deletes_whole_days_of_every_service() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Duration::from_secs(2 * 86_400)).unwrap();
    for day in 0..5 {
        store.append("old", &[], &[row(START_MS + day * DAY_MS, 1.0)]).unwrap();
    }
    // At noon of the fifth day, two days ago is noon of the third, which must stay whole.
    store.flush(at(START_MS + 4 * DAY_MS + DAY_MS / 2)).unwrap();
    let span = store.span("old").unwrap().unwrap();
    assert_eq!(span, (at(START_MS + 2 * DAY_MS), at(START_MS + 4 * DAY_MS)));
}

#[test]
fn service_names_cannot_lead_out_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let long = "x".repeat(129);
    for name in ["", ".", "..", "../web", "a/b", "a\\b", ".hidden", "a\0b", "ä", " ", &long] {
        let refused = store.append(name, &[], &[row(START_MS, 1.0)]);
        assert!(matches!(refused, Err(StoreError::Service(_))), "{name:?}");
        assert!(store.demand(name, at(0), at(1)).is_err(), "{name:?}");
        assert!(store.span(name).is_err(), "{name:?}");
    }
    for name in ["web", "a.b-c_D9", "models"] {
        store.append(name, &[], &[row(START_MS, 1.0)]).unwrap();
    }
    store.flush(at(START_MS)).unwrap();
    assert_eq!(store.services().unwrap(), ["a.b-c_D9", "models", "web"]);
}

#[test]
fn folders_without_rows_are_no_services() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("models/samples")).unwrap();
    fs::create_dir_all(folder.path().join("empty/demand")).unwrap();
    fs::write(folder.path().join("models/samples/1.json"), "{}").unwrap();
    fs::write(folder.path().join("note.txt"), "").unwrap();
    assert_eq!(open(folder.path()).services().unwrap(), [""; 0]);
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    assert!(matches!(Store::open(&path, Duration::MAX), Err(StoreError::File { .. })));
}

/// Rows wait in memory while the disk refuses them, and are written when it is there again.
#[test]
fn rows_survive_a_failed_flush() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fs::write(folder.path().join("web"), "a file where the folder should be").unwrap();
    store.append("web", &[], &[row(START_MS, 1.0)]).unwrap();
    store.append("api", &[], &[row(START_MS, 2.0)]).unwrap();
    assert!(store.flush(at(START_MS)).is_err());
    assert_eq!(all(&store).len(), 1);
    assert_eq!(open(folder.path()).services().unwrap(), ["api"], "the other is not held up");
    fs::remove_file(folder.path().join("web")).unwrap();
    store.flush(at(START_MS)).unwrap();
    assert_eq!(all(&open(folder.path())).len(), 1);
}

/// Files that are no segments, or no longer: every one is passed over, and the others are read.
#[test]
fn foreign_and_damaged_files_never_block_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, &[row(START_MS, 1.0), row(START_MS + 1, 2.0)]);
    let day = folder.path().join("web/demand/2024-03-01");
    let good = fs::read(&segments_of(folder.path(), "2024-03-01")[0]).unwrap();
    segments::write(&day, frames::from_samples(&[sample(START_MS, "a")]).unwrap()).unwrap();
    for (seq, content) in [b"".as_slice(), b"PAR1", b"PAR1PAR1", &[0xff; 4096]].iter().enumerate() {
        fs::write(day.join(format!("{START_MS}-{}-0123456789abcdef.parquet", 100 + seq)), content)
            .unwrap();
    }
    let name = segments_of(folder.path(), "2024-03-01").pop().unwrap();
    let digest = name.to_str().unwrap().rsplit_once('-').unwrap().1.to_owned();
    for cut in 1..=20 {
        let content = &good[..good.len() * cut / 21];
        fs::write(day.join(format!("{START_MS}-{}-{digest}", 200 + cut)), content).unwrap();
    }
    fs::write(day.join("notes.parquet"), "").unwrap();
    fs::write(day.join("12-x.parquet"), "").unwrap();
    fs::write(day.join(format!("{START_MS}-000009.parquet.1-1.tmp")), &good[..9]).unwrap();
    fs::create_dir(day.join("1-1-1.parquet")).unwrap();
    fs::create_dir(folder.path().join("web/demand/2024-02-30")).unwrap();
    for i in 2..20 {
        assert_eq!(all(&open(folder.path())).len(), i as usize);
        put(&store, &[row(START_MS + i, 3.0)]);
    }
}

/// Polars must never see a damaged segment: it would panic on some and read outside of memory on
/// others.
#[test]
fn a_flipped_byte_is_noticed_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, &[row(START_MS, 1.0), row(START_MS + 1, 2.0)]);
    put(&store, &[row(START_MS + 2, 3.0)]);
    let path = &segments_of(folder.path(), "2024-03-01")[0];
    let good = fs::read(path).unwrap();
    for i in (0..good.len()).step_by(50) {
        let mut bad = good.clone();
        bad[i] ^= 1;
        fs::write(path, bad).unwrap();
        assert_eq!(all(&open(folder.path())), [row(START_MS + 2, 3.0)], "byte {i}");
    }
}

/// Every state that a crash can leave on disk while segments are written and merged: the names
/// appear in the order of the code (temporary file, its rename; then merged segment, then each part
/// deleted).
#[test]
fn a_crash_at_any_step_loses_nothing_that_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let rows: Vec<DemandRow> = (0..16).map(|i| row(START_MS + i, i as f64)).collect();
    rows[..15].iter().for_each(|row| put(&store, std::slice::from_ref(row)));
    let parts: Vec<(PathBuf, Vec<u8>)> = segments_of(folder.path(), "2024-03-01")
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    put(&store, &rows[15..]);
    let merged = segments_of(folder.path(), "2024-03-01");
    assert_eq!((parts.len(), merged.len()), (15, 1));
    let merged = (merged[0].clone(), fs::read(&merged[0]).unwrap());
    let reopened = || {
        let store = open(folder.path());
        let before = all(&store);
        put(&store, &[row(START_MS + 100, 0.0)]);
        let after = all(&open(folder.path()));
        assert_eq!(after.len(), before.len() + 1);
        before
    };
    let restore = |files: &[(PathBuf, Vec<u8>)]| {
        for path in segments_of(folder.path(), "2024-03-01") {
            fs::remove_file(path).unwrap();
        }
        for (path, content) in files {
            fs::write(path, content).unwrap();
        }
    };
    // While the merged segment is being written.
    for written in [0, 4, merged.1.len() / 2, merged.1.len()] {
        restore(&parts);
        fs::write(merged.0.with_extension("parquet.9-9.tmp"), &merged.1[..written]).unwrap();
        assert_eq!(reopened(), rows[..15]);
    }
    // While its parts are being deleted.
    for deleted in [0, 1, 8, 15] {
        restore(&parts[deleted..]);
        fs::write(&merged.0, &merged.1).unwrap();
        assert_eq!(reopened(), rows, "{deleted} parts deleted");
    }
}

const CRASH_FOLDER: &str = "FORESAIL_TEST_CRASH_FOLDER";

/// The child of the next test; passes at once when run by itself.
#[test]
fn crash_child() {
    let Ok(folder) = std::env::var(CRASH_FOLDER) else { return };
    let store = open(Path::new(&folder));
    for i in 0.. {
        put(&store, &[row(START_MS + i * DAY_MS / 32, 1.0)]);
        println!("flushed {i}");
    }
}

/// A process that is killed while it writes and merges: what it said to have flushed is there.
#[test]
fn a_killed_process_loses_nothing_that_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let mut flushed = 0;
    for rounds in [1, 16, 18] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::store::tests::crash_child", "--nocapture"])
            .env(CRASH_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map(Result::unwrap).filter(|line| line.contains("flushed")).take(rounds);
        flushed = flushed.max(said.count());
        child.kill().unwrap();
        child.wait().unwrap();
        let rows = all(&open(folder.path()));
        assert!(rows.len() >= flushed, "{} rows of {flushed}", rows.len());
    }
    assert_eq!(flushed, 18);
}

#[test]
fn readers_miss_nothing_while_segments_are_written_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..40 {
                put(&store, &[row(START_MS + i, 1.0)]);
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let rows = all(&store).len();
            assert!(rows >= seen, "{rows} rows after {seen}");
            seen = rows;
        }
    });
    assert_eq!(all(&store).len(), 40);
}

#[test]
fn demand_rows_become_a_series_by_the_middle_of_their_interval() {
    // Evaluations each 15 s, some a little early or late; the row at 30 s is missing.
    let rows = [row(15_003, 1.0), row(45_001, 3.0), row(59_998, 4.0), row(75_000, 5.0)];
    let [interval, minute] = [15, 60].map(Duration::from_secs);
    let series = demand_series(&rows, interval, interval).unwrap();
    assert_eq!(series.start(), at(0));
    let values = [0, 1, 2, 3, 4].map(|i| series.get(i));
    assert_eq!(values, [Some(1.0), None, Some(3.0), Some(4.0), Some(5.0)]);
    // The middles 7.5 s, 37.5 s and 52.5 s fall into the first minute: (1 + 3 + 4) / 3.
    let minutes = demand_series(&rows, interval, minute).unwrap();
    assert_eq!((minutes.get(0), minutes.get(1)), (Some(8.0 / 3.0), Some(5.0)));
    // A saturated row makes a lower bound of its minute: here those above 5.
    let rows = [row(15_000, 4.0), row(30_000, 6.0), row(75_000, 5.0)];
    let minutes = demand_series(&rows, interval, minute).unwrap();
    assert_eq!(minutes.lower_bounds(), Some(&[true, false][..]));
    assert_eq!(demand_series(&[], interval, interval), Err(SeriesError::Empty));
    assert_eq!(native_step_ms(&[0, 15, 30, 60, 90, 91]), Some(15), "as frequent as 30, shorter");
    assert_eq!(native_step_ms(&[7]), None);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..Default::default()
    })]

    /// However rows are spread over appends and flushes, the store gives what a map of them would.
    #[test]
    fn the_store_is_a_map_by_time(
        batches in prop::collection::vec(
            (prop::collection::vec((0i64..200, 0.0f64..9.0), 0..8), any::<bool>()), 0..8),
        from in 0i64..200,
        to in 0i64..200,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut model = BTreeMap::new();
        // Half an hour between the times, so that some four days are touched.
        let time = |slot: i64| START_MS + slot * DAY_MS / 48;
        for (batch, flush) in batches {
            let rows: Vec<DemandRow> = batch.iter().map(|&(t, d)| row(time(t), d)).collect();
            store.append("web", &[], &rows).unwrap();
            model.extend(rows.into_iter().map(|row| (row.time, row)));
            if flush {
                store.flush(at(START_MS)).unwrap();
            }
        }
        let want: Vec<DemandRow> = model.values().cloned().collect();
        prop_assert_eq!(all(&store), want);
        let (from, to) = (at(time(from.min(to))), at(time(from.max(to))));
        let want: Vec<DemandRow> = model.range(from..to).map(|(_, row)| row.clone()).collect();
        prop_assert_eq!(store.demand("web", from, to).unwrap(), want);
    }
}
