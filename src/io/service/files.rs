//! I/O: how many files the process may have open.

/// A request in flight takes two descriptors, and the usual soft limit of 1024 is soon reached.
pub fn raise_limit() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let raised = getrlimit(Resource::RLIMIT_NOFILE)
            .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}
