//! I/O: the threads that serve connections, one runtime each, so that a request never leaves its
//! thread.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::io::memory;

/// Shared by all listeners of a process; the threads end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Threads(Arc<[Thread]>);

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    /// Connections it has now.
    load: AtomicUsize,
    _stop: oneshot::Sender<()>,
}

/// Counts a connection at its thread until it is dropped.
struct Counted(Arc<[Thread]>, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0[self.1].load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// As many as there are cores for this process.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start() -> io::Result<Threads> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        (0..count)
            .map(Thread::start)
            .collect::<io::Result<Vec<Thread>>>()
            .map(|t| Threads(t.into()))
    }

    /// Runs a connection on the thread with the fewest.
    pub(super) fn spawn(&self, make: impl FnOnce() -> Served + Send + 'static) {
        let load = |(_, thread): &(usize, &Thread)| thread.load.load(Ordering::Relaxed);
        let Some((index, thread)) = self.0.iter().enumerate().min_by_key(load) else { return };
        thread.load.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.0), index);
        thread.runtime.spawn(async move {
            make().await;
            drop(counted);
        });
    }
}

pub(super) type Served = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Thread {
    fn start(number: usize) -> io::Result<Thread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    // The sender is dropped, never used.
                    _ = stopped => {}
                    never = memory::keep_giving_back() => match never {},
                }
            });
        };
        std::thread::Builder::new().name(format!("proxy-{number}")).spawn(run)?;
        Ok(Thread { runtime: handle, load: AtomicUsize::new(0), _stop: stop })
    }
}
