//! I/O: memory that is free goes back to the system: soon, and in small pages.
//!
//! Connections that have fallen idle leave holes in what the allocator holds. With its defaults it
//! waits a second, for calls that an idle process does not make, and where it may use transparent
//! huge pages, one connection that is still busy keeps 2 MiB. With these settings `serve` with
//! 10 000 idle connections is a third smaller.

use std::convert::Infallible;
use std::ffi::c_long;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

/// The option `purge_delay` of mimalloc 2 and 3, in milliseconds; the crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// In milliseconds. Far below it a busy proxy takes back at once what it has just given.
const DELAY: c_long = 100;

/// How often a thread that may fall idle looks.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// For this process, from its next new memory on. Before the first thread is started.
pub fn give_back() {
    // SAFETY: stores a number that mimalloc reads when it frees; `main` calls this before it starts
    // any thread.
    unsafe { mi_option_set(PURGE_DELAY, DELAY) };
    #[cfg(target_os = "linux")]
    linux::avoid_huge_pages();
}

/// Gives back what the thread that polls this has freed, now and then; an idle one makes none of
/// the calls that would. Never ends.
pub(in crate::io) async fn keep_giving_back() -> Infallible {
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        // SAFETY: works on the allocator's own state, at any time and from any thread.
        unsafe { mi_collect(true) };
    }
}

#[cfg(target_os = "linux")]
pub(in crate::io) use linux::allow_huge_pages_in_child;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::prctl::{get_thp_disable, set_thp_disable};

    /// It was not the environment that switched them off.
    static OURS: AtomicBool = AtomicBool::new(false);

    /// A kernel that knows no such switch leaves things as they are.
    pub(super) fn avoid_huge_pages() {
        if get_thp_disable() == Ok(false) {
            OURS.store(set_thp_disable(true).is_ok(), Ordering::Relaxed);
        }
    }

    /// Undoes it in a child, which inherits it; one that cannot be undone is no reason to start no
    /// replica. Async-signal-safe.
    pub(in crate::io) fn allow_huge_pages_in_child() {
        if OURS.load(Ordering::Relaxed) {
            let _ = set_thp_disable(false);
        }
    }
}
