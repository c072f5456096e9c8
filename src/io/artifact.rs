//! I/O: model files, versioned: `<models>/<service>/<version>.json`.
//!
//! A file is written once and whole. Versions count up; the newest that can be read is in use, so a
//! damaged or foreign file costs one version and never the service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic_file;
use crate::forecast::Model;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ArtifactError {
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
}

/// The newest readable version, and the newer ones that could not be read.
pub type Latest = (Option<(u32, Model)>, Vec<ArtifactError>);

/// Changes with every change of [`Model`] that old files cannot be read with.
const FORMAT_VERSION: u32 = 1;
const FORMAT: &str = "foresail-model";
/// Versions that are kept; older ones are deleted when a new one is saved.
const KEPT_VERSIONS: usize = 20;

/// What a model file says of itself, read before the model, whose shape depends on it.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    format: String,
    format_version: u32,
    version: u32,
    service: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct File<M> {
    #[serde(flatten)]
    envelope: Envelope,
    model: M,
}

/// Writes the next version (atomically) and gives its number and path.
///
/// # Errors
/// [`ArtifactError`] if the disk refuses.
pub fn save(models: &Path, service: &str, model: &Model) -> Result<(u32, PathBuf), ArtifactError> {
    let folder = models.join(service);
    let versions = versions(&folder)?;
    let version = versions.last().map_or(1, |newest| newest + 1);
    let path = path_of(&folder, version);
    let service = service.to_owned();
    let envelope =
        Envelope { format: FORMAT.to_owned(), format_version: FORMAT_VERSION, version, service };
    let content = serde_json::to_vec(&File { envelope, model }).map_err(|e| error(&path, e))?;
    atomic_file::create_folder(&folder)
        .and_then(|()| atomic_file::remove_abandoned(&folder))
        .and_then(|()| atomic_file::write(&path, &content))
        .map_err(|e| error(&path, e))?;
    for old in versions.iter().rev().skip(KEPT_VERSIONS - 1) {
        // An old file that stays does no harm.
        let _ = fs::remove_file(path_of(&folder, *old));
    }
    Ok((version, path))
}

/// The newest readable version; unreadable newer files are listed in the second place, with their
/// reasons.
///
/// # Errors
/// [`ArtifactError`] if the folder cannot be listed; one that is absent holds no model.
pub fn load_latest(models: &Path, service: &str) -> Result<Latest, ArtifactError> {
    let folder = models.join(service);
    let mut unreadable = Vec::new();
    for version in versions(&folder)?.into_iter().rev() {
        let path = path_of(&folder, version);
        match fs::read(&path).map_err(|e| e.to_string()).and_then(|c| parse(&c, service)) {
            Ok(model) => return Ok((Some((version, model)), unreadable)),
            Err(reason) => unreadable.push(error(&path, reason)),
        }
    }
    Ok((None, unreadable))
}

fn parse(content: &[u8], service: &str) -> Result<Model, String> {
    let damaged = |e: serde_json::Error| format!("damaged, or no model file: {e}");
    let File { envelope, model } =
        serde_json::from_slice::<File<serde_json::Value>>(content).map_err(damaged)?;
    if envelope.format != FORMAT {
        return Err(format!("format `{}`, but `{FORMAT}` is needed", envelope.format));
    }
    if envelope.format_version != FORMAT_VERSION {
        return Err(format!(
            "format version {}, but this Foresail reads {FORMAT_VERSION}: train again",
            envelope.format_version
        ));
    }
    if envelope.service != service {
        return Err(format!("a model of the service `{}`, not `{service}`", envelope.service));
    }
    serde_json::from_value(model).map_err(damaged)
}

/// Versions in a folder, ascending.
fn versions(folder: &Path) -> Result<Vec<u32>, ArtifactError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| error(folder, e))?,
    };
    let mut versions = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| error(folder, e))?.file_name();
        let version = name.to_str().and_then(|n| n.strip_suffix(".json"));
        versions.extend(version.and_then(|v| v.parse::<u32>().ok()).filter(|v| *v < u32::MAX));
    }
    versions.sort_unstable();
    Ok(versions)
}

fn path_of(folder: &Path, version: u32) -> PathBuf {
    folder.join(format!("{version}.json"))
}

fn error(path: &Path, reason: impl ToString) -> ArtifactError {
    ArtifactError::File { path: path.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::forecast::trainer::{TrainOptions, train};
    use crate::series::Series;

    fn model() -> Model {
        let values = (0..120).map(|i| f64::from(i % 24) + 0.1 * f64::from(i % 7)).collect();
        let history = Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(60), values);
        train(history.end(), &history, &TrainOptions::default()).unwrap()
    }

    #[test]
    fn the_newest_version_is_read_back_to_the_last_digit() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load_latest(folder.path(), "web"), Ok((None, vec![])));
        let old = model();
        let mut new = old.clone();
        new.season_lengths = vec![12];
        assert_eq!(save(folder.path(), "web", &old).unwrap().0, 1);
        let (version, path) = save(folder.path(), "web", &new).unwrap();
        assert_eq!((version, path), (2, folder.path().join("web/2.json")));
        assert_eq!(load_latest(folder.path(), "web"), Ok((Some((2, new)), vec![])));
        assert_eq!(load_latest(folder.path(), "api"), Ok((None, vec![])));
    }

    #[test]
    fn an_unreadable_version_is_named_and_the_last_good_one_used() {
        let folder = tempfile::tempdir().unwrap();
        let model = model();
        let (_, path) = save(folder.path(), "web", &model).unwrap();
        let good = fs::read_to_string(path).unwrap();
        let cases = [
            (String::new(), "damaged, or no model file: EOF"),
            (good[..good.len() / 2].to_owned(), "damaged, or no model file: EOF"),
            ("{\"a\":1}".to_owned(), "damaged, or no model file: missing field"),
            (good.replace("foresail-model", "other"), "format `other`, but `foresail-model`"),
            (good.replace("\"format_version\":1", "\"format_version\":9"), "format version 9, but"),
            (good.replace("\"web\"", "\"api\""), "a model of the service `api`, not `web`"),
            (good.replace("\"calibration\"", "\"x\""), "damaged, or no model file: missing field"),
        ];
        for (version, (content, reason)) in (2..).zip(&cases) {
            fs::write(folder.path().join(format!("web/{version}.json")), content).unwrap();
            let (found, unreadable) = load_latest(folder.path(), "web").unwrap();
            assert_eq!(found, Some((1, model.clone())));
            let ArtifactError::File { path, reason: got } = &unreadable[0];
            assert!(
                path.ends_with(&format!("web/{version}.json")) && got.starts_with(reason),
                "{got}"
            );
        }
        for name in ["99.json.1-1.tmp", "new.json", "4294967295.json"] {
            fs::write(folder.path().join("web").join(name), "").unwrap();
        }
        assert_eq!(save(folder.path(), "web", &model).unwrap().0, cases.len() as u32 + 2);
    }

    #[test]
    fn old_versions_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let model = model();
        for _ in 0..KEPT_VERSIONS + 5 {
            save(folder.path(), "web", &model).unwrap();
        }
        let kept = versions(&folder.path().join("web")).unwrap();
        assert_eq!((kept.len(), kept[0]), (KEPT_VERSIONS, 6));
    }
}
