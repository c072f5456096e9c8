//! I/O: Foresail does without transparent huge pages; what it starts decides for itself.
//!
//! An allocator that may use them holds memory in blocks of 2 MiB, of which one connection that
//! has not fallen idle keeps all. Without them `serve` keeps a quarter less, as fast.

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::prctl::{get_thp_disable, set_thp_disable};

    /// It was not the environment that switched them off.
    static OURS: AtomicBool = AtomicBool::new(false);

    /// For this process, from its next new memory on. A kernel that knows no such switch leaves
    /// things as they are.
    pub fn avoid() {
        if get_thp_disable() == Ok(false) {
            OURS.store(set_thp_disable(true).is_ok(), Ordering::Relaxed);
        }
    }

    /// Undoes it in a child, which inherits it; one that cannot be undone is no reason to start no
    /// replica. Async-signal-safe.
    pub(in crate::io) fn allow_in_child() {
        if OURS.load(Ordering::Relaxed) {
            let _ = set_thp_disable(false);
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::*;

/// Elsewhere there is no such switch.
#[cfg(not(target_os = "linux"))]
pub fn avoid() {}
