//! I/O: runs replicas as child processes on this machine.
//!
//! One supervisor task owns each child: it probes readiness, reaps the child when it ends, and
//! alone sends it signals, so that no signal can reach a process that was given the same number
//! later. Everybody else reads the shared table and never waits for a slow replica. No child
//! outlives Foresail: an orderly end stops them all, a dropped handle kills them, and on Linux the
//! kernel does where Foresail itself was killed.
//!
//! Known limits: the processes that a replica starts are its process group; one that leaves the
//! group is not stopped with it, and the kernel's kill reaches the replica alone.

mod probe;
mod spawn;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::{Actuator, ActuatorError};
use crate::config::ProcessTarget;
use crate::fleet::{ReplicaId, ReplicaReport};
use crate::io::collector::process::ProcessMetrics;

/// The child processes of one service. Clones share them.
#[derive(Debug, Clone)]
pub struct ProcessActuator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    service: String,
    target: ProcessTarget,
    state: Mutex<State>,
    /// Cancelled when there is no more time for an orderly stop.
    kill: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    children: BTreeMap<ReplicaId, Entry>,
    started: u64,
    /// Shut down: nothing may be started any more.
    closed: bool,
    /// The last thing that went wrong, until a replica becomes ready.
    failure: Option<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    pid: u32,
    address: SocketAddr,
    ready: bool,
    /// Ask the supervisor to stop it.
    stop: CancellationToken,
    /// The supervisor has reaped it.
    gone: CancellationToken,
}

impl ProcessActuator {
    /// Starts nothing yet.
    pub fn new(service: &str, target: &ProcessTarget) -> ProcessActuator {
        ProcessActuator {
            shared: Arc::new(Shared {
                service: service.to_owned(),
                target: target.clone(),
                state: Mutex::default(),
                kill: CancellationToken::new(),
            }),
        }
    }

    /// The source of readings for these processes.
    pub fn metrics(&self) -> ProcessMetrics {
        ProcessMetrics::new(self.clone())
    }

    /// Cores one replica may use, where the command limits itself.
    pub fn cpu_limit(&self) -> Option<f64> {
        self.shared.target.cpu_limit
    }

    /// The process of a replica that runs.
    pub fn pid(&self, replica: &str) -> Option<u32> {
        let state = self.shared.state();
        state.children.get(replica).filter(|entry| !entry.gone.is_cancelled()).map(|e| e.pid)
    }

    async fn start_one(&self) -> Result<ReplicaId, ActuatorError> {
        let address = spawn::free_address()
            .map_err(|e| ActuatorError::Unavailable(format!("no free port on 127.0.0.1: {e}")))?;
        let spawned = spawn::spawn(&self.shared.target, address).await;
        let mut state = self.shared.state();
        let mut child = spawned.inspect_err(|e| state.failure = Some(e.to_string()))?;
        if state.closed {
            // Dropping the child kills it.
            return Err(ActuatorError::Refused("the service is shutting down".to_owned()));
        }
        state.started += 1;
        let id = format!("{}-{}", self.shared.service, state.started);
        // A child that is already reaped has no number; nothing was awaited since it was started.
        let pid = child.id().unwrap_or_default();
        let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
        let entry = Entry { pid, address, ready: false, stop, gone };
        state.children.insert(id.clone(), entry.clone());
        let stderr = child.stderr.take();
        tokio::spawn(spawn::log_lines(id.clone(), stderr));
        tokio::spawn(supervise(Arc::clone(&self.shared), id.clone(), entry, child));
        Ok(id)
    }

    async fn stop_one(&self, replica: &ReplicaId) {
        let Some(entry) = self.shared.state().children.get(replica).cloned() else { return };
        entry.stop.cancel();
        entry.gone.cancelled().await;
        self.shared.state().children.remove(replica);
    }
}

impl Actuator for ProcessActuator {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ReplicaReport>, ActuatorError>> {
        let mut state = self.shared.state();
        let reports = state.children.iter().map(|(id, entry)| entry.report(id)).collect();
        // One that ended by itself is told of once and then forgotten.
        state.children.retain(|_, entry| !entry.gone.is_cancelled());
        async { Ok(reports) }.boxed()
    }

    fn start(&self) -> BoxFuture<'_, Result<ReplicaId, ActuatorError>> {
        self.start_one().boxed()
    }

    fn stop<'a>(&'a self, replica: &'a ReplicaId) -> BoxFuture<'a, Result<(), ActuatorError>> {
        self.stop_one(replica).map(Ok).boxed()
    }

    fn notes(&self) -> Vec<String> {
        self.shared.state().failure.iter().cloned().collect()
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, ()> {
        async move {
            let replicas: Vec<ReplicaId> = {
                let mut state = self.shared.state();
                state.closed = true;
                state.children.keys().cloned().collect()
            };
            let all = join_all(replicas.iter().map(|replica| self.stop_one(replica)));
            tokio::pin!(all);
            if tokio::time::timeout(grace, &mut all).await.is_err() {
                self.shared.kill.cancel();
                all.await;
            }
        }
        .boxed()
    }
}

impl Shared {
    /// The state stays usable after a panic elsewhere: every change to it is a single assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_ready(&self, replica: &str, ready: bool) {
        let mut state = self.state();
        if ready {
            state.failure = None;
        }
        if let Some(entry) = state.children.get_mut(replica) {
            entry.ready = ready;
        }
    }
}

impl Entry {
    fn report(&self, id: &str) -> ReplicaReport {
        let exited = self.stop.is_cancelled() || self.gone.is_cancelled();
        ReplicaReport {
            id: id.to_owned(),
            ready: self.ready && !exited,
            address: Some(self.address),
            exited,
            managed: true,
            ..ReplicaReport::default()
        }
    }
}

/// The whole life of one child, from its start until it is reaped.
async fn supervise(shared: Arc<Shared>, id: ReplicaId, entry: Entry, mut child: Child) {
    // Waiting closes standard input, which would tell a child of ours to stop.
    let stdin = child.stdin.take();
    let path = shared.target.ready_path.as_deref();
    let tell = |ready| shared.set_ready(&id, ready);
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = entry.stop.cancelled() => None,
        never = probe::watch(entry.address, path, tell) => match never {},
    };
    match ended {
        Some(status) => {
            let status = status.map_or_else(|e| e.to_string(), |s: ExitStatus| s.to_string());
            let failure = format!("replica {id} ended by itself ({status})");
            tracing::warn!("{failure}");
            shared.state().failure = Some(failure);
        }
        None => terminate(&shared, entry.pid, &mut child).await,
    }
    // What the replica itself started and left behind; mostly there is nothing, and that is no
    // error.
    signal_group(entry.pid, Signal::SIGKILL);
    drop(stdin);
    entry.gone.cancel();
}

/// Asks, waits the stop timeout, then kills.
async fn terminate(shared: &Shared, pid: u32, child: &mut Child) {
    signal_group(pid, Signal::SIGTERM);
    let out_of_time = async {
        tokio::select! {
            () = tokio::time::sleep(shared.target.stop_timeout) => {}
            () = shared.kill.cancelled() => {}
        }
    };
    tokio::select! {
        _ = child.wait() => return,
        () = out_of_time => {}
    }
    signal_group(pid, Signal::SIGKILL);
    // A killed process ends; failing to wait for it means that it was reaped before.
    let _ = child.wait().await;
}

/// The group has the number of its first process. Fails only where nothing is left of it.
fn signal_group(pid: u32, signal: Signal) {
    if let Ok(pid @ 1..) = i32::try_from(pid) {
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

#[cfg(test)]
mod tests;
