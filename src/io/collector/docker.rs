//! I/O: reads what containers use: from the kernel's own files where they can be read, else by the
//! engine's stats API.
//!
//! The files ([`cgroup`]) tell what is used now, where the engine measures once a second, for each
//! container that is asked about. They are there if the engine runs on this machine, and Foresail
//! not in a container.

mod cgroup;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::ContainerInspectResponse;
use chrono::Utc;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream as streams};

use self::cgroup::Files;
use self::stream::Stream;
use super::{MetricsError, MetricsSource, Reading};
use crate::config::DockerTarget;
use crate::fleet::{Replica, ReplicaId};
use crate::io::actuator::docker::{cpu_limit, is_running};
use crate::io::docker::inventory::Inventory;
use crate::io::docker::{Engine, EngineError};
use crate::series::Time;

/// Containers that are asked at the same time.
const CONCURRENCY: usize = 16;

/// The containers of one engine.
#[derive(Debug)]
pub struct DockerSource {
    inventory: Inventory,
    /// Whether files are looked for.
    files: bool,
    meters: Mutex<HashMap<ReplicaId, Meter>>,
}

/// Where the measurements of one container come from.
#[derive(Debug)]
enum Meter {
    Files(Files),
    Stream(Stream),
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    time: Time,
    cpu_seconds_total: f64,
    memory_bytes: u64,
}

impl DockerSource {
    /// Connects lazily: an engine that is away is found by each reading.
    ///
    /// # Errors
    /// [`MetricsError::Unavailable`] if the engine's address is malformed.
    pub fn connect(target: &DockerTarget) -> Result<DockerSource, MetricsError> {
        let engine = Engine::new(target.host.as_deref()).map_err(MetricsError::Unavailable)?;
        Ok(DockerSource::on(Inventory::follow(engine)))
    }

    /// Shares what others know of the engine's containers.
    pub fn on(inventory: Inventory) -> DockerSource {
        DockerSource { inventory, files: true, meters: Mutex::default() }
    }

    /// Asks the engine alone, as where the kernel's files cannot be read.
    pub fn without_files(self) -> DockerSource {
        DockerSource { files: false, ..self }
    }

    /// `None` for a container that is gone or does not run.
    async fn running(
        &self,
        replica: &ReplicaId,
    ) -> Result<Option<Arc<ContainerInspectResponse>>, EngineError> {
        match self.inventory.inspect(replica).await {
            Ok(seen) => Ok(Some(seen).filter(|seen| is_running(seen))),
            Err(EngineError::Unavailable(reason)) => Err(EngineError::Unavailable(reason)),
            Err(error) => {
                tracing::debug!(%replica, %error, "container left out");
                Ok(None)
            }
        }
    }

    /// The newest measurement of each running container; those that were not measured yet are left
    /// out. Keeps one meter for each.
    fn measure(
        &self,
        running: &[(&ReplicaId, Arc<ContainerInspectResponse>)],
    ) -> Result<Vec<Reading>, EngineError> {
        let docker = self.inventory.engine().docker()?;
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |id: &ReplicaId| running.iter().any(|(running, _)| *running == id);
        meters.retain(|id, meter| runs(id) && !meter.has_ended());
        let meter = |id: &ReplicaId, seen: &ContainerInspectResponse| {
            let pid = seen.state.as_ref().and_then(|state| state.pid).filter(|_| self.files);
            match pid.and_then(|pid| Files::of(pid, id)) {
                Some(files) => Meter::Files(files),
                None => Meter::Stream(Stream::open(docker.clone(), id)),
            }
        };
        let mut readings = Vec::with_capacity(running.len());
        for (id, seen) in running {
            let known = meters.entry((*id).clone()).or_insert_with(|| meter(id, seen));
            let usage = match known {
                Meter::Files(files) => files.read(Utc::now()),
                Meter::Stream(stream) => stream.newest(),
            };
            match (usage, known) {
                (Some(Usage { time, cpu_seconds_total, memory_bytes }), _) => {
                    let (replica, cpu_limit) = ((*id).clone(), cpu_limit(seen));
                    readings.push(Reading {
                        replica,
                        time,
                        cpu_seconds_total,
                        memory_bytes,
                        cpu_limit,
                    });
                }
                // The container has ended; if it runs again they are looked for again.
                (None, Meter::Files(_)) => drop(meters.remove(*id)),
                (None, Meter::Stream(_)) => {}
            }
        }
        Ok(readings)
    }
}

impl Meter {
    fn has_ended(&self) -> bool {
        matches!(self, Meter::Stream(stream) if stream.has_ended())
    }
}

impl MetricsSource for DockerSource {
    /// By the engine, a container is left out until its first measurement, that is for about a
    /// second, and a reading repeats the one before, with its time, until the next measurement.
    fn read<'a>(
        &'a self,
        replicas: &'a [Replica],
    ) -> BoxFuture<'a, Result<Vec<Reading>, MetricsError>> {
        Box::pin(async move {
            let ids = replicas.iter().map(|replica| &replica.id);
            let inspected = ids.map(|id| async move { Ok((id, self.running(id).await?)) });
            // Collected first: the compiler cannot prove a lazy chain of them to be `Send`.
            let inspected = streams::iter(inspected.collect::<Vec<_>>());
            let inspected: Vec<_> =
                inspected.buffered(CONCURRENCY).try_collect().await.map_err(|error| {
                    let error: EngineError = error;
                    MetricsError::from(error)
                })?;
            let running = inspected.into_iter().filter_map(|(id, seen)| Some((id, seen?)));
            Ok(self.measure(&running.collect::<Vec<_>>())?)
        })
    }
}
