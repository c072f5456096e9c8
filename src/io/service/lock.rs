//! I/O: at most one Foresail acts on a target of this machine; a second one detects the first and
//! only observes.

use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::config::Target;

/// Held for as long as this process acts; the system releases it when the process ends, however it
/// ends.
pub struct ActorLock {
    _file: Option<File>,
}

/// `None` if another process acts on the same target. Child processes need no lock: nobody else has
/// them.
pub fn acquire(service: &str, target: &Target) -> Option<ActorLock> {
    let Target::Docker(docker) = target else { return Some(ActorLock { _file: None }) };
    let mut hasher = DefaultHasher::new();
    (&docker.host, &docker.label).hash(&mut hasher);
    let path = std::env::temp_dir().join(format!("foresail-{:016x}.lock", hasher.finish()));
    let file = match File::options().create(true).truncate(false).write(true).open(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(service, path = %path.display(), %error, "no lock against a second actor");
            return Some(ActorLock { _file: None });
        }
    };
    match file.try_lock() {
        Ok(()) => Some(ActorLock { _file: Some(file) }),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(service, path = %path.display(), %error, "no lock against a second actor");
            Some(ActorLock { _file: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DockerTarget;

    #[test]
    fn the_second_actor_on_an_engine_and_label_is_refused_until_the_first_is_gone() {
        let target = |label: &str| {
            Target::Docker(DockerTarget {
                label: format!("{label}={}", std::process::id()),
                host: None,
                port: None,
                stop_timeout: None,
            })
        };
        let first = acquire("web", &target("a"));
        assert!(first.is_some());
        assert!(acquire("web", &target("a")).is_none());
        assert!(acquire("web", &target("b")).is_some());
        drop(first);
        assert!(acquire("web", &target("a")).is_some());
    }
}
