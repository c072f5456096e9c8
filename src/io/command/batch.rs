//! I/O: what the commands over many recordings share: work on all cores, names, files written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use super::CommandError;
use crate::io::atomic_file;

/// `work` on every item, in their order, on all cores; progress on a terminal.
pub fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    what: &str,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let bar =
        if items.len() > 1 { ProgressBar::new(items.len() as u64) } else { ProgressBar::hidden() };
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{elapsed}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let cores = thread::available_parallelism().map_or(1, |n| n.get()).min(items.len());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((i, item)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    items.get(i).map(|item| (i, item))
                } {
                    let result = work(item);
                    done.lock().unwrap_or_else(|e| e.into_inner()).insert(i, result);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    done.into_inner().unwrap_or_else(|e| e.into_inner()).into_values().collect()
}

/// The file's name without its extension; the whole path where two files share it.
pub fn name_of(path: &Path, all: &[PathBuf]) -> String {
    let same = all.iter().filter(|other| other.file_stem() == path.file_stem()).count();
    match path.file_stem() {
        Some(stem) if same == 1 => stem.to_string_lossy().into_owned(),
        _ => path.display().to_string(),
    }
}

/// Finds out that a file cannot be written now rather than after a long run.
///
/// # Errors
/// [`CommandError::BadInput`] for a folder, or a file in a folder that is not there.
pub fn check_targets<'a>(mut paths: impl Iterator<Item = &'a PathBuf>) -> Result<(), CommandError> {
    match paths.find(|path| path.is_dir() || !folder_of(path).is_dir()) {
        None => Ok(()),
        Some(path) => Err(CommandError::BadInput(format!(
            "{}: not a file in a folder that is there",
            path.display()
        ))),
    }
}

/// # Errors
/// [`CommandError::Failed`] with the path.
pub fn write(path: &Path, content: &[u8]) -> Result<(), CommandError> {
    let failed = |e| CommandError::Failed(format!("{}: {e}", path.display()));
    atomic_file::write(path, content).map_err(failed)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
