//! I/O: what child processes use, from the operating system's own counters.
//!
//! CPU time comes from the process's CPU clock where there is one (Linux): it has nanoseconds,
//! covers threads that have ended, and costs one system call. The usual `/proc/<pid>/stat` counts
//! in ticks of 10 ms, which is 40 % of what a worker of 0.1 cores uses in a sample of 250 ms.
//!
//! Known limit: what a replica's own children use is not counted, so a command should be the server
//! itself (with a shell, `exec` it).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{MetricsError, MetricsSource, Reading};
use crate::fleet::Replica;
use crate::io::actuator::process::ProcessActuator;

/// Reads the children of one [`ProcessActuator`].
#[derive(Debug)]
pub struct ProcessMetrics {
    actuator: ProcessActuator,
    system: Mutex<System>,
}

impl ProcessMetrics {
    pub fn new(actuator: ProcessActuator) -> ProcessMetrics {
        ProcessMetrics { actuator, system: Mutex::new(System::new()) }
    }

    fn readings(&self, replicas: &[Replica]) -> Vec<Reading> {
        let pid = |replica: &Replica| Some(Pid::from_u32(self.actuator.pid(&replica.id)?));
        let running: Vec<(&Replica, Pid)> =
            replicas.iter().filter_map(|r| Some((r, pid(r)?))).collect();
        let pids: Vec<Pid> = running.iter().map(|&(_, pid)| pid).collect();
        // Its content is only a cache of what the system says, so a panic elsewhere cannot have
        // broken it.
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let what = ProcessRefreshKind::nothing().with_memory();
        let what = if cfg!(target_os = "linux") { what } else { what.with_cpu() };
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, what);
        let reading = |&(replica, pid): &(&Replica, Pid)| {
            let process = system.process(pid)?;
            Some(Reading {
                replica: replica.id.clone(),
                time: Utc::now(),
                cpu_seconds_total: cpu_time(process)?.as_secs_f64(),
                memory_bytes: process.memory(),
                cpu_limit: self.actuator.cpu_limit(),
            })
        };
        running.iter().filter_map(reading).collect()
    }
}

impl MetricsSource for ProcessMetrics {
    fn read<'a>(
        &'a self,
        replicas: &'a [Replica],
    ) -> BoxFuture<'a, Result<Vec<Reading>, MetricsError>> {
        // Some 20 us for each replica: not worth a thread of its own.
        async { Ok(self.readings(replicas)) }.boxed()
    }
}

/// CPU time used by all threads of a process since it started; `None` if it just ended.
#[cfg(target_os = "linux")]
fn cpu_time(process: &sysinfo::Process) -> Option<Duration> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid().as_u32()).ok()?);
    nix::time::ClockId::pid_cpu_clock_id(pid).and_then(|clock| clock.now()).ok().map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(process: &sysinfo::Process) -> Option<Duration> {
    Some(Duration::from_millis(process.accumulated_cpu_time()))
}
