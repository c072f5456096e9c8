//! I/O: tests of model files: what is kept, what is in use, and what is refused.

use chrono::DateTime;

use super::in_use::{find, promote, read, rollback, unpin};
use super::*;
use crate::forecast::trainer::{TrainOptions, train};

const NOW: Time = DateTime::UNIX_EPOCH;

fn model() -> Model {
    let values = (0..120).map(|i| f64::from(i % 24) + 0.1 * f64::from(i % 7)).collect();
    let history = Series::new(NOW, Duration::from_secs(60), values);
    train(history.end(), &history, &TrainOptions::default()).unwrap()
}

fn lesson(model: &Model, promoted: bool) -> Lesson {
    let verdict =
        Verdict { promoted, reason: "a test".to_owned(), champion: None, challenger: None };
    Lesson { model: model.clone(), verdict }
}

/// Saves a model for each verdict; gives the version in use.
fn save(models: &Path, verdicts: &[bool]) -> Option<u32> {
    let model = model();
    for &promoted in verdicts {
        commit(models, "web", &lesson(&model, promoted), NOW).unwrap();
    }
    read(models, "web").unwrap().map(|in_use| in_use.version)
}

fn found(models: &Path) -> (Option<u32>, Vec<String>) {
    let (stored, refused) = find(models, "web").unwrap();
    (stored.map(|s| s.version), refused.iter().map(ToString::to_string).collect())
}

#[test]
fn the_winner_is_read_back_to_the_last_digit() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(find(folder.path(), "web"), Ok((None, vec![])));
    let old = model();
    let mut new = old.clone();
    new.season_lengths = vec![12];
    assert_eq!(commit(folder.path(), "web", &lesson(&old, true), NOW).unwrap().version, 1);
    let committed = commit(folder.path(), "web", &lesson(&new, true), NOW).unwrap();
    assert_eq!((committed.version, committed.path), (2, folder.path().join("web/2.json")));
    let stored = load(folder.path(), "web", 2).unwrap();
    assert_eq!((&stored.model, &stored.verdict), (&new, &lesson(&new, true).verdict));
    assert_eq!(find(folder.path(), "web"), Ok((Some(stored), vec![])));
    assert_eq!(find(folder.path(), "api"), Ok((None, vec![])));
    let text = fs::read(folder.path().join("web/2.json")).unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "one JSON document");
}

#[test]
fn what_is_in_use_follows_verdicts_and_operators() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    let nothing = ArtifactError::NothingBefore { service: "web".to_owned() };
    assert_eq!(rollback(models, "web", NOW), Err(nothing.clone()));
    assert_eq!(unpin(models, "web"), Err(nothing.clone()));
    assert!(!models.join("web").exists(), "a wrong name leaves nothing behind");
    // A loser is written, but not used; without a winner the newest is.
    assert_eq!((save(models, &[false]), found(models).0), (None, Some(1)));
    assert_eq!(save(models, &[true, false]), Some(2));
    let pinned = promote(models, "web", 3, NOW).unwrap();
    assert_eq!((pinned.version, pinned.pinned, pinned.before), (3, true, vec![2]));
    assert_eq!(save(models, &[true]), Some(3));
    let kept = load(models, "web", 4).unwrap().verdict;
    assert_eq!((kept.promoted, &*kept.reason), (false, "version 3 is pinned; a test"));
    let back = rollback(models, "web", NOW).unwrap();
    assert_eq!((back.version, back.pinned, back.before), (2, true, vec![]));
    assert_eq!(rollback(models, "web", NOW), Err(nothing));
    assert!(!unpin(models, "web").unwrap().pinned);
    assert_eq!((save(models, &[true]), found(models).0), (Some(5), Some(5)));
    let unknown = promote(models, "web", 9, NOW).unwrap_err().to_string();
    assert_eq!(unknown, "`web` has no model version 9; there are: 1, 2, 3, 4, 5");
    let catalog = catalog::list(models, "web").unwrap();
    let used: Vec<(u32, bool)> = catalog.models.iter().map(|m| (m.version, m.in_use)).collect();
    assert_eq!(used, [(5, true), (4, false), (3, false), (2, false), (1, false)]);
    assert_eq!(catalog::show(models, "web", 4).unwrap(), catalog.models[1]);
}

#[test]
fn a_refused_file_is_named_and_the_last_good_one_used() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    save(models, &[true, true, true, false]);
    let path = models.join("web/3.json");
    let good = fs::read_to_string(&path).unwrap();
    let (head, model) = good.split_once('\n').unwrap();
    let resealed = |model: &str| {
        let line = model.split('\n').next().unwrap();
        let (start, _) = head.split_once("\"checksum\"").unwrap();
        format!("{start}\"checksum\":\"{}\",\"model\":\n{line}\n}}", checksum(line.as_bytes()))
    };
    assert!(parse(resealed(model).as_bytes(), "web").is_ok(), "the helper seals well");
    let older = r#"{"format":"foresail-model","format_version":1,"version":3,"service":"web",
        "model":{"fitted":{"method":"naive"},"horizon":12,"step_ms":60000}}"#;
    let horizon = |h: &str| resealed(&model.replace("\"horizon\":12", &format!("\"horizon\":{h}")));
    let cases = [
        (String::new(), "damaged, or no model file: EOF"),
        (good[..good.len() / 2].to_owned(), "damaged, or no model file: EOF"),
        ("[".repeat(100_000), "damaged, or no model file: "),
        ("\u{0}PAR1".to_owned(), "damaged, or no model file: "),
        ("{\"a\":1}".to_owned(), "damaged, or no model file: missing field"),
        (good.replace("foresail-model", "other"), "format `other`, but `foresail-model`"),
        (older.to_owned(), "format version 1 of an older Foresail, but this one reads 2: train"),
        (
            good.replace("\"format_version\":2", "\"format_version\":9"),
            "format version 9 of a newer Foresail, but this one reads 2: use that one, or train",
        ),
        (good.replace("\"web\"", "\"api\""), "a model of the service `api`, not `web`"),
        // One digit that fell over, and a document that was laid out anew.
        (good.replace("\"points\":120", "\"points\":121"), "damaged or edited: the checksum"),
        (good.replace('\n', ""), "damaged or edited: the checksum"),
        // Sealed by hand, but nonsense.
        (resealed("{}"), "damaged, or no model file: missing field"),
        (horizon("13"), "damaged: its parts do not fit together"),
        (horizon("0"), "damaged: its parts do not fit together"),
        (horizon("18446744073709551615"), "damaged: its parts do not fit together"),
        (
            resealed(&model.replace("\"step_ms\":60000", "\"step_ms\":0")),
            "damaged: its parts do not fit together",
        ),
    ];
    for (content, reason) in cases {
        fs::write(&path, &content).unwrap();
        let (version, refused) = found(models);
        // Version 4 lost its match, so the one in use before comes first.
        assert_eq!(version, Some(2), "{reason}");
        let want = format!("{}: {reason}", path.display());
        assert!(refused.len() == 1 && refused[0].starts_with(&want), "{refused:?}");
        assert!(promote(models, "web", 3, NOW).is_err());
        let shown = catalog::show(models, "web", 3).unwrap();
        assert_eq!((shown.model, shown.refused.as_deref()), (None, Some(&*refused[0])));
    }
    File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert!(found(models).1[0].ends_with("larger than 67108864 bytes: none of ours"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(found(models).0, Some(2));
}

#[test]
fn a_damaged_record_of_what_is_in_use_costs_nothing_but_the_choice() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    save(models, &[true, false]);
    let path = models.join("web/in-use.json");
    let good = fs::read_to_string(&path).unwrap();
    for (content, reason) in [
        ("{", "damaged: EOF"),
        ("{}", "damaged: missing field"),
        (&good.replace("model-in-use", "other"), "`foresail-other` 1, but"),
        (
            &good.replace("\"format_version\": 1", "\"format_version\": 2"),
            "`foresail-model-in-use` 2",
        ),
    ] {
        fs::write(&path, content).unwrap();
        let (version, refused) = found(models);
        assert_eq!(version, Some(2), "the newest");
        let want = format!("{}: {reason}", path.display());
        assert!(refused[0].starts_with(&want), "{refused:?}");
        assert!(rollback(models, "web", NOW).is_err() && catalog::list(models, "web").is_err());
    }
    assert_eq!(save(models, &[true]), Some(3), "the next winner replaces it");
}

#[test]
fn old_versions_are_deleted_but_for_those_that_may_be_needed() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    save(models, &[true, true, true]);
    promote(models, "web", 1, NOW).unwrap();
    for name in ["99.json.1-1.tmp", "new.json", "4294967295.json"] {
        fs::write(models.join("web").join(name), "").unwrap();
    }
    save(models, &[true; KEPT_VERSIONS + 2]);
    // 1 is pinned; 2 and 3 were in use before; 4 and 5 are neither.
    let kept = versions_of(models, "web").unwrap();
    assert_eq!((kept.len(), &kept[..4]), (KEPT_VERSIONS + 3, &[1, 2, 3, 6][..]));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("web"), "no folder").unwrap();
    let error = commit(folder.path(), "web", &lesson(&model(), true), NOW).unwrap_err();
    assert!(matches!(error, ArtifactError::Disk { .. }), "{error}");
}
