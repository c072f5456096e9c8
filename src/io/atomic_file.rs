//! I/O: writes files so that a crash leaves each of them whole or absent.
//!
//! Content goes to a temporary file beside the target, is synced, gets its name in one step, and
//! the folder is synced so that the name survives too. Temporary names end in [`TEMPORARY`], which
//! no reader looks at.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Extension of unfinished files.
const TEMPORARY: &str = "tmp";

/// No write takes this long, so an older temporary file was left by a crash.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Creates `path` or takes the place of the file that is there.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{unique}.{TEMPORARY}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Should this fail too, the file is removed later as abandoned.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_folder_of(path))
}

/// Creates a folder and those above it, each durably.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_folder_of(path),
    }
}

/// Deletes the temporary files that a crash has left in `folder`; those of a write in progress
/// stay.
pub fn remove_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let age = entry.metadata().and_then(|m| m.modified()).map(|t| t.elapsed());
        let abandoned = matches!(age, Ok(Ok(age)) if age > ABANDONED_AFTER);
        if abandoned && entry.path().extension().is_some_and(|e| e == TEMPORARY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for content in ["first", "second, longer", ""] {
            write(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(names(folder.path()), ["a.json"]);
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("taken/by a folder")).unwrap();
        assert!(write(&folder.path().join("taken"), b"x").is_err());
        assert!(write(&folder.path().join("absent/a.json"), b"x").is_err());
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn only_old_temporary_files_are_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * ABANDONED_AFTER;
        for (name, modified) in
            [("old.tmp", old), ("new.tmp", SystemTime::now()), ("old.parquet", old)]
        {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(modified).unwrap();
        }
        remove_abandoned(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["new.tmp", "old.parquet"]);
    }
}
