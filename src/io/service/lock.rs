//! I/O: at most one Foresail acts on a target; any other that reaches the same engine only
//! observes, says why, and takes over when the first is gone.
//!
//! A lock file decides between the processes of one machine, at once; an entry on the engine
//! ([`engine`]) decides between all others, by a [`lease`].

mod engine;
mod file;
mod lease;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::engine::Place;
use self::file::{FileLock, Try};
use self::lease::{BEAT, Lease};
use super::Shared;
use crate::config::{Mode, Target};
use crate::io::actuator::docker::Selection;

/// Whether this process may act on one target. The lock is released when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct ActorLock {
    /// `None` for child processes, which nobody else has.
    contest: Option<Arc<Mutex<Contest>>>,
    _release: Arc<DropGuard>,
}

#[derive(Debug)]
struct Contest {
    lease: Lease,
    /// Who holds the lock file, if another process of this machine does.
    neighbour: Option<String>,
}

impl ActorLock {
    /// Why this process must not act now; `None` if it may.
    pub fn refusal(&self) -> Option<String> {
        locked(self.contest.as_ref()?).refusal()
    }
}

impl Contest {
    fn refusal(&self) -> Option<String> {
        match &self.neighbour {
            Some(id) => Some(format!(
                "another Foresail (process {id} on this machine) acts: only observing"
            )),
            None => self.lease.refusal(Instant::now()),
        }
    }

    /// Whether another process was seen to hold it.
    fn rival(&self) -> bool {
        self.neighbour.is_some() || self.lease.watches()
    }
}

/// Contends for the lock of the service's target as long as the service is to act. Runs on `tasks`
/// until the lock is dropped, and takes the entry off the engine then.
pub fn keep(shared: &Arc<Shared>, tasks: &TaskTracker) -> ActorLock {
    let stop = CancellationToken::new();
    let _release = Arc::new(stop.clone().drop_guard());
    let place = match &shared.config.target {
        Target::Process(_) => return ActorLock { contest: None, _release },
        Target::Docker(docker) => Place::new(docker.host.as_deref(), vec![docker.label.clone()]),
        Target::Compose(it) => Place::new(it.host.as_deref(), Selection::from(it).labels()),
    };
    let contest = Arc::new(Mutex::new(Contest { lease: Lease::new(), neighbour: None }));
    match place {
        Ok(place) => {
            tasks.spawn(contend(shared.clone(), place, contest.clone(), stop));
        }
        // The actuator has refused the same address before.
        Err(reason) => tracing::error!(service = shared.config.name, reason, "no lock"),
    }
    ActorLock { contest: Some(contest), _release }
}

async fn contend(
    shared: Arc<Shared>,
    place: Place,
    contest: Arc<Mutex<Contest>>,
    stop: CancellationToken,
) {
    let path = file::path(place.address(), &place.name());
    let mut file = Try::Impossible;
    loop {
        if shared.state().mode == Mode::Act {
            if !matches!(file, Try::Held(_)) {
                file = file::acquire(&path);
            }
            round(&place, &contest, &file).await;
        } else {
            release(&place, &contest).await;
            file = Try::Impossible;
        }
        // Told at once: whoever has just asked for the mode `act` waits for it.
        let (held_back, rival) = {
            let contest = locked(&contest);
            (contest.refusal(), contest.rival())
        };
        {
            let mut state = shared.state();
            (state.held_back, state.rival) = (held_back, rival);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(BEAT) => {}
        }
    }
    release(&place, &contest).await;
}

/// Asks until there is nothing to do before the next beat.
async fn round(place: &Place, contest: &Mutex<Contest>, file: &Try) {
    let (mark, neighbour) = match file {
        Try::Held(FileLock { mark, .. }) => (Some(mark.as_str()), None),
        Try::Other(id) => (None, Some(id.clone())),
        Try::Impossible => (None, None),
    };
    let wait = neighbour.is_some();
    locked(contest).neighbour = neighbour;
    let mut again = !wait;
    while again {
        let request = locked(contest).lease.request();
        let sent = Instant::now();
        let answer = place.ask(request, mark).await;
        again = locked(contest).lease.answer(sent, Instant::now(), answer);
    }
}

/// Gives up what is held, so that others need not wait until it is stale.
async fn release(place: &Place, contest: &Mutex<Contest>) {
    let lease = {
        let mut contest = locked(contest);
        contest.neighbour = None;
        std::mem::replace(&mut contest.lease, Lease::new())
    };
    if let Some(id) = lease.held()
        && let Err(error) = place.remove(id).await
    {
        tracing::warn!(%error, "the lock against a second Foresail stays on the engine");
    }
}

/// A panic in another holder leaves a contest whose fields are still consistent.
fn locked(contest: &Mutex<Contest>) -> MutexGuard<'_, Contest> {
    contest.lock().unwrap_or_else(PoisonError::into_inner)
}
