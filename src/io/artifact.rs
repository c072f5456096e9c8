//! I/O: model files, versioned: `<models>/<service>/<version>.json`.
//!
//! Every trained model is written, once and whole, together with the verdict of its match against
//! the model in use; [`in_use`] says which one that is. A file is a JSON document whose model is a
//! line of its own, so that a checksum over that line finds every damage. A file that is damaged,
//! foreign, too large or of another format is refused with its reason, and never costs the service
//! more than that version.

pub mod catalog;
pub mod in_use;

use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::atomic_file;
use crate::forecast::Model;
use crate::forecast::challenge::{Lesson, Verdict};
use crate::series::{Series, Time};
use in_use::InUse;

/// Why there is no such model, or nothing can be kept.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ArtifactError {
    /// A file that must not be used.
    #[error("{path}: {reason}")]
    Refused { path: String, reason: String },
    #[error("{path}: {reason}")]
    Disk { path: String, reason: String },
    #[error("`{service}` has no model version {version}; {known}")]
    Unknown { service: String, version: u32, known: String },
    #[error("no model of `{service}` was in use before this one")]
    NothingBefore { service: String },
}

/// Changes with every change of [`Model`] that old files cannot be read with.
const FORMAT_VERSION: u32 = 2;
const FORMAT: &str = "foresail-model";
/// Newest versions that are kept, beside the one in use and those in use before it.
const KEPT_VERSIONS: usize = 20;
/// Largest file that is read: a hundred times a large model.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most steps that a model may read or forecast.
const MAX_CONTEXT: usize = 5_000_000;
const MAX_HORIZON: usize = 10_000;

/// What a model file says beside the model.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    format_version: u32,
    version: u32,
    service: String,
    verdict: Verdict,
    /// FNV-1a of the model's line, in hexadecimal.
    checksum: String,
}

/// What every format has said so far, and any later one must.
#[derive(Debug, Deserialize)]
struct Envelope {
    format: String,
    format_version: u32,
    service: String,
}

/// A model as it was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub version: u32,
    pub model: Model,
    pub verdict: Verdict,
}

/// What became of a lesson.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    pub version: u32,
    pub path: PathBuf,
    /// Not promoted, whatever the match says, where an operator has pinned another version.
    pub verdict: Verdict,
    pub in_use: Option<InUse>,
}

/// Writes the model of a lesson as the next version and, if it won, puts it into use.
///
/// # Errors
/// [`ArtifactError::Disk`] if the disk refuses.
pub fn commit(
    models: &Path,
    service: &str,
    lesson: &Lesson,
    now: Time,
) -> Result<Committed, ArtifactError> {
    let folder = models.join(service);
    let _lock = lock(&folder)?;
    // What cannot be read pins nothing; it is replaced with the next promotion.
    let in_use = in_use::read(models, service).unwrap_or_default();
    let mut verdict = lesson.verdict.clone();
    if let Some(pinned) = in_use.as_ref().filter(|in_use| in_use.pinned) {
        verdict.promoted = false;
        verdict.reason = format!("version {} is pinned; {}", pinned.version, verdict.reason);
    }
    let versions = versions(&folder)?;
    let version = versions.last().map_or(1, |newest| newest + 1);
    let path = path_of(&folder, version);
    let content = content(service, version, &lesson.model, &verdict);
    atomic_file::remove_abandoned(&folder)
        .and_then(|()| atomic_file::write(&path, &content))
        .map_err(|e| disk(&path, e))?;
    let in_use = match verdict.promoted {
        true => {
            let next = InUse::after(in_use, version, now, verdict.reason.clone());
            in_use::write(&folder, &next)?;
            Some(next)
        }
        false => in_use,
    };
    for old in versions.iter().rev().skip(KEPT_VERSIONS - 1) {
        if !in_use.as_ref().is_some_and(|in_use| in_use.needs(*old)) {
            // An old file that stays does no harm.
            let _ = fs::remove_file(path_of(&folder, *old));
        }
    }
    Ok(Committed { version, path, verdict, in_use })
}

/// One version.
///
/// # Errors
/// [`ArtifactError::Unknown`] if there is none such, [`ArtifactError::Refused`] with the reason if
/// it must not be used.
pub fn load(models: &Path, service: &str, version: u32) -> Result<Stored, ArtifactError> {
    let folder = models.join(service);
    let path = path_of(&folder, version);
    let refused = |reason| ArtifactError::Refused { path: path.display().to_string(), reason };
    let content = match read_whole(&path, MAX_BYTES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let known: Vec<String> = versions(&folder)?.iter().map(u32::to_string).collect();
            let known = match known.is_empty() {
                true => "there is none; `foresail train` makes one".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            return Err(ArtifactError::Unknown { service: service.to_owned(), version, known });
        }
        content => content.map_err(|e| refused(e.to_string()))?,
    };
    let (model, verdict) = parse(&content, service).map_err(refused)?;
    Ok(Stored { version, model, verdict })
}

/// Versions of a service, ascending; none where there is no folder.
///
/// # Errors
/// [`ArtifactError::Disk`] if the folder cannot be listed.
pub fn versions_of(models: &Path, service: &str) -> Result<Vec<u32>, ArtifactError> {
    versions(&models.join(service))
}

fn versions(folder: &Path) -> Result<Vec<u32>, ArtifactError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| disk(folder, e))?,
    };
    let mut versions = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| disk(folder, e))?.file_name();
        let version = name.to_str().and_then(|n| n.strip_suffix(".json"));
        versions.extend(version.and_then(|v| v.parse::<u32>().ok()).filter(|v| *v < u32::MAX));
    }
    versions.sort_unstable();
    Ok(versions)
}

fn content(service: &str, version: u32, model: &Model, verdict: &Verdict) -> Vec<u8> {
    let json = |value: serde_json::Result<String>| value.expect("no map with keys but strings");
    let model = json(serde_json::to_string(model));
    let head = json(serde_json::to_string(&Head {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        version,
        service: service.to_owned(),
        verdict: verdict.clone(),
        checksum: checksum(model.as_bytes()),
    }));
    let open = head.strip_suffix('}').unwrap_or(&head);
    format!("{open},\"model\":\n{model}\n}}\n").into_bytes()
}

fn parse(content: &[u8], service: &str) -> Result<(Model, Verdict), String> {
    let damaged = |e: serde_json::Error| format!("damaged, or no model file: {e}");
    let envelope: Envelope = serde_json::from_slice(content).map_err(damaged)?;
    if envelope.format != FORMAT {
        return Err(format!("format `{}`, but `{FORMAT}` is needed", envelope.format));
    }
    let (given, known) = (envelope.format_version, FORMAT_VERSION);
    if given != known {
        let (age, advice) = match given < known {
            true => ("an older", "train again"),
            false => ("a newer", "use that one, or train again"),
        };
        return Err(format!(
            "format version {given} of {age} Foresail, but this one reads {known}: {advice}"
        ));
    }
    if envelope.service != service {
        return Err(format!("a model of the service `{}`, not `{service}`", envelope.service));
    }
    let head: Head = serde_json::from_slice(content).map_err(damaged)?;
    let line = content.split(|&b| b == b'\n').nth(1).unwrap_or_default();
    if checksum(line) != head.checksum {
        return Err("damaged or edited: the checksum of the model is another".to_owned());
    }
    let model = serde_json::from_slice(line).map_err(damaged)?;
    if !forecasts(&model) {
        return Err("damaged: its parts do not fit together".to_owned());
    }
    Ok((model, head.verdict))
}

/// Reads a file, but no more than it may hold.
fn read_whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("larger than {most} bytes: none of ours")));
    }
    Ok(content)
}

/// Whether the model gives a finite forecast of a plain history. Its parts refer to each other by
/// position, so one that was put together by hand may do anything but that.
fn forecasts(model: &Model) -> bool {
    let horizon = model.horizon;
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let context = model.context();
        let step = Duration::from_millis(model.step_ms);
        if !(1..=MAX_HORIZON).contains(&horizon)
            || context > MAX_CONTEXT
            || !(1..=Duration::from_secs(366 * 86_400).as_millis()).contains(&step.as_millis())
        {
            return None;
        }
        let history = Series::new(Time::UNIX_EPOCH, step, vec![1.0; context]);
        model.forecast(&history, horizon, &[0.1, 0.9]).ok()
    }));
    let finite = |path: &Vec<f64>| path.len() == horizon && path.iter().all(|v| v.is_finite());
    matches!(tried, Ok(Some(forecast)) if forecast.paths.iter().chain(&forecast.peaks).all(finite))
}

/// FNV-1a, 64 bits: finds accidents; it is no seal.
fn checksum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Held while versions are counted and written, for `foresail train` and `foresail serve` may do so
/// at once. The system releases it with the file.
fn lock(folder: &Path) -> Result<File, ArtifactError> {
    let path = folder.join(".lock");
    let locked = || {
        atomic_file::create_folder(folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|e: io::Error| disk(&path, e))
}

fn path_of(folder: &Path, version: u32) -> PathBuf {
    folder.join(format!("{version}.json"))
}

fn disk(path: &Path, error: io::Error) -> ArtifactError {
    ArtifactError::Disk { path: path.display().to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
