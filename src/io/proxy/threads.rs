//! I/O: the threads that serve connections, one runtime each, so that a request never leaves its
//! thread.

use std::future::Future;
use std::io;
use std::num::NonZero;
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
pub(super) struct Counted(Arc<[Thread]>, usize);

impl Counted {
    /// Which thread it is, from 0 and below [`Threads::count`].
    pub(super) fn thread(&self) -> usize {
        self.1
    }
}

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
        Threads::of(std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN))
    }

    /// As many as `count`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn of(count: NonZero<usize>) -> io::Result<Threads> {
        (0..count.get())
            .map(Thread::start)
            .collect::<io::Result<Vec<Thread>>>()
            .map(|t| Threads(t.into()))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Makes a connection's future with the runtime of the thread that has the fewest, and runs it
    /// there. It holds its count to its end.
    pub(super) fn spawn<F>(&self, make: impl FnOnce(Counted) -> io::Result<F>) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let load = |(_, thread): &(usize, &Thread)| thread.load.load(Ordering::Relaxed);
        let Some((index, thread)) = self.0.iter().enumerate().min_by_key(load) else {
            return Ok(());
        };
        thread.load.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.0), index);
        let future = {
            let _runtime = thread.runtime.enter();
            make(counted)?
        };
        thread.runtime.spawn(future);
        Ok(())
    }
}

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
