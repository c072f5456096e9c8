//! I/O: which model of a service is in use: `<models>/<service>/in-use.json`.
//!
//! Training puts a model into use that has won its match. An operator promotes any version by hand
//! or rolls back to the one before; either pins, so that training goes on writing models but puts
//! none into use until the pin is taken off. A running service reads this file at every evaluation,
//! so a change from the command line takes effect there within one interval.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ArtifactError, Stored, disk, load, lock, read_whole, versions};
use crate::io::atomic_file;
use crate::series::Time;

const FORMAT: &str = "foresail-model-in-use";
const FORMAT_VERSION: u32 = 1;
const MAX_BYTES: u64 = 64 * 1024;
const NAME: &str = "in-use.json";
/// Versions that can be rolled back to.
const BEFORE: usize = 5;

/// The model in use, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InUse {
    pub version: u32,
    /// Put into use by an operator: training puts no other into use.
    pub pinned: bool,
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    pub reason: String,
    /// Those in use before, newest last.
    pub before: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: String,
    format_version: u32,
    #[serde(flatten)]
    in_use: InUse,
}

/// The model to start with, and the files that were refused on the way to it.
pub type Found = (Option<Stored>, Vec<ArtifactError>);

impl InUse {
    /// The next record, not pinned.
    pub(super) fn after(last: Option<InUse>, version: u32, now: Time, reason: String) -> InUse {
        let mut before =
            last.map_or_else(Vec::new, |last| [last.before, vec![last.version]].concat());
        before.retain(|&v| v != version);
        before.drain(..before.len().saturating_sub(BEFORE));
        InUse { version, pinned: false, since: now, reason, before }
    }

    pub(super) fn needs(&self, version: u32) -> bool {
        self.version == version || self.before.contains(&version)
    }
}

/// `None` where nothing was ever put into use.
///
/// # Errors
/// [`ArtifactError::Refused`] if the file cannot be read or is none of ours.
pub fn read(models: &Path, service: &str) -> Result<Option<InUse>, ArtifactError> {
    let path = models.join(service).join(NAME);
    let refused =
        |reason: String| ArtifactError::Refused { path: path.display().to_string(), reason };
    let content = match read_whole(&path, MAX_BYTES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content.map_err(|e| refused(e.to_string()))?,
    };
    let content: Content =
        serde_json::from_slice(&content).map_err(|e| refused(format!("damaged: {e}")))?;
    if (content.format.as_str(), content.format_version) != (FORMAT, FORMAT_VERSION) {
        let (name, version) = (content.format, content.format_version);
        let reason = format!("`{name}` {version}, but `{FORMAT}` {FORMAT_VERSION} is needed");
        return Err(refused(reason));
    }
    Ok(Some(content.in_use))
}

/// The model in use; where it cannot be read the last good one: those in use before, then the
/// newest others.
///
/// # Errors
/// [`ArtifactError::Disk`] if the folder cannot be listed; one that is absent holds no model.
pub fn find(models: &Path, service: &str) -> Result<Found, ArtifactError> {
    let (in_use, mut refused) = match read(models, service) {
        Ok(in_use) => (in_use, Vec::new()),
        Err(error) => (None, vec![error]),
    };
    let mut candidates: Vec<u32> = Vec::new();
    if let Some(in_use) = in_use {
        candidates.push(in_use.version);
        candidates.extend(in_use.before.iter().rev());
    }
    for version in versions(&models.join(service))?.into_iter().rev() {
        if !candidates.contains(&version) {
            candidates.push(version);
        }
    }
    for version in candidates {
        match load(models, service, version) {
            Ok(stored) => return Ok((Some(stored), refused)),
            Err(error) => refused.push(error),
        }
    }
    Ok((None, refused))
}

/// Puts a version into use and pins it.
///
/// # Errors
/// [`ArtifactError`] if there is no such version, it must not be used, or the disk refuses.
pub fn promote(
    models: &Path,
    service: &str,
    version: u32,
    now: Time,
) -> Result<InUse, ArtifactError> {
    load(models, service, version)?;
    change(models, service, |last| {
        let next = InUse::after(last, version, now, "promoted by an operator".to_owned());
        Ok(InUse { pinned: true, ..next })
    })
}

/// Puts the newest readable version that was in use before back into use, and pins it.
///
/// # Errors
/// [`ArtifactError::NothingBefore`] if there is none, or the disk refuses.
pub fn rollback(models: &Path, service: &str, now: Time) -> Result<InUse, ArtifactError> {
    change(models, service, |last| {
        let nothing = || ArtifactError::NothingBefore { service: service.to_owned() };
        let mut last = last.ok_or_else(nothing)?;
        let reason = format!("rolled back from version {} by an operator", last.version);
        while let Some(version) = last.before.pop() {
            if load(models, service, version).is_ok() {
                let before = last.before;
                return Ok(InUse { version, pinned: true, since: now, reason, before });
            }
        }
        Err(nothing())
    })
}

/// Takes the pin off: the next model that wins its match comes into use.
///
/// # Errors
/// [`ArtifactError::NothingBefore`] if no model is in use, or the disk refuses.
pub fn unpin(models: &Path, service: &str) -> Result<InUse, ArtifactError> {
    change(models, service, |last| {
        let last = last.ok_or(ArtifactError::NothingBefore { service: service.to_owned() })?;
        Ok(InUse { pinned: false, ..last })
    })
}

fn change(
    models: &Path,
    service: &str,
    next: impl FnOnce(Option<InUse>) -> Result<InUse, ArtifactError>,
) -> Result<InUse, ArtifactError> {
    let folder = models.join(service);
    // A lock makes the folder, which a wrong name must not.
    let _lock = folder.is_dir().then(|| lock(&folder)).transpose()?;
    let next = next(read(models, service)?)?;
    write(&folder, &next)?;
    Ok(next)
}

pub(super) fn write(folder: &Path, in_use: &InUse) -> Result<(), ArtifactError> {
    let path = folder.join(NAME);
    let content = Content {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        in_use: in_use.clone(),
    };
    let content = serde_json::to_vec_pretty(&content).map_err(|e| disk(&path, e.into()))?;
    atomic_file::write(&path, &content).map_err(|e| disk(&path, e))
}
