//! I/O: the lock between processes that share a folder for temporary files. It is released by the
//! system when its process ends, however it ends, so it tells at once what the engine cannot tell.

use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

/// The longest content that is read: a mark, a space, a process id.
const CONTENT: u64 = 64;

/// Held until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
    /// Drawn when the file was made: all who ever hold this file know it, and nobody else does.
    pub mark: String,
}

/// What came of a try.
#[derive(Debug)]
pub enum Try {
    Held(FileLock),
    /// By the process with this id, which acts or is about to.
    Other(String),
    /// There is no such file to be had here.
    Impossible,
}

/// Where the lock of an engine's entry is.
pub fn path(host: &str, entry: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (host, entry).hash(&mut hasher);
    std::env::temp_dir().join(format!("foresail-{:016x}.lock", hasher.finish()))
}

pub fn acquire(path: &PathBuf) -> Try {
    let attempt = || {
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let locked = file.try_lock();
        let mut content = String::new();
        // What is no text was not written by a Foresail, and is replaced like an empty file.
        let _ = Read::by_ref(&mut file).take(CONTENT).read_to_string(&mut content);
        let mut words = content.split_whitespace();
        let (mark, process) = (words.next(), words.next());
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Try::Other(process.unwrap_or("unknown").to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let fresh = || format!("{:032x}", rand::random::<u128>());
        let mark = mark.filter(|mark| mark.len() == 32).map_or_else(fresh, str::to_owned);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{mark} {}\n", std::process::id()).as_bytes())?;
        Ok(Try::Held(FileLock { _file: file, mark }))
    };
    attempt().unwrap_or_else(|error: std::io::Error| {
        tracing::debug!(path = %path.display(), %error, "no lock file");
        Try::Impossible
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &PathBuf) -> FileLock {
        match acquire(path) {
            Try::Held(lock) => lock,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_holds_it_and_the_next_one_finds_the_same_mark() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("web.lock");
        let first = held(&path);
        let process = std::process::id().to_string();
        assert!(matches!(acquire(&path), Try::Other(found) if found == process));
        let other = held(&folder.path().join("api.lock"));
        assert_ne!(other.mark, first.mark);
        let mark = first.mark.clone();
        drop(first);
        assert_eq!(held(&path).mark, mark);
    }

    #[test]
    fn what_is_no_lock_file_is_made_one_or_left_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(matches!(acquire(&folder.path().to_owned()), Try::Impossible));
        let path = folder.path().join("web.lock");
        for content in [&b""[..], b"\xff\xfe", b"short 1", &[b'a'; 9_000], b"\n\n\n"] {
            std::fs::write(&path, content).expect("write");
            let mark = held(&path).mark;
            assert_eq!((mark.len(), held(&path).mark), (32, mark), "{content:?}");
        }
    }
}
