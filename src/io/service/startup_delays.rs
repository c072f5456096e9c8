//! I/O: keeps the measured startup delays of a service across a restart, as a JSON list of seconds,
//! oldest first: `<store>/<service>/startup_delays.json`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::io::atomic_file;

/// Takes the place of what was kept before.
pub fn write(path: &Path, delays: &[Duration]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        atomic_file::create_folder(folder)?;
    }
    let seconds: Vec<f64> = delays.iter().map(Duration::as_secs_f64).collect();
    atomic_file::write(path, &serde_json::to_vec(&seconds)?)
}

/// None if nothing was kept yet.
///
/// # Errors
/// One sentence, if the file cannot be used.
pub fn read(path: &Path) -> Result<Vec<Duration>, String> {
    let refused = |reason: String| {
        let path = path.display();
        format!("{path} is passed over: {reason}; a list of seconds would be right")
    };
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(|error| refused(error.to_string()))?,
    };
    let seconds: Vec<f64> = serde_json::from_slice(&bytes).map_err(|e| refused(e.to_string()))?;
    let delay = |seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_err(|error| refused(format!("{seconds}: {error}")))
    };
    seconds.into_iter().map(delay).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web/startup_delays.json");
        assert_eq!(read(&path), Ok(Vec::new()));
        let delays = [Duration::from_millis(1500), Duration::from_secs(90)];
        write(&path, &delays).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[1.5,90.0]");
        assert_eq!(read(&path), Ok(delays.to_vec()));
        for damaged in ["", "[1.5,", "{}", "[\"a\"]", "[-1]", "[1e300]", "[null]", "\u{0}"] {
            fs::write(&path, damaged).unwrap();
            let reason = read(&path).expect_err(damaged);
            assert!(reason.contains("web/startup_delays.json is passed over"), "{reason}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }
}
