//! I/O: runs the services: samples, steps, commands; publishes snapshots for everybody else.
//!
//! [`start`] brings up the store, the API, a proxy and a [`runner`] for each service; [`Services`]
//! come and go meanwhile. A [`Service`] is a cheap handle; readers take its newest [`Snapshot`] and
//! never wait for the runner.

mod back_off;
mod balancing;
mod calendar;
mod decisions;
mod files;
mod lock;
mod mode;
mod models;
mod registry;
mod runner;
mod start;
mod startup_delays;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use mode::AnotherActs;
pub use models::{Learned, ModelError};
pub use registry::Services;
pub use start::{Running, StartError, Supervisor, start};

use self::state::State;
use super::artifact::catalog::ModelInfo;
use super::artifact::in_use::InUse;
use super::clock;
use super::store::{DemandRow, Store, StoreError};
use crate::autoscaler::{DemandSample, Learning};
use crate::balancer::{self, Explanation, Health, Key, PassedOver, Standing};
use crate::config;
use crate::fleet::{Replica, ReplicaId};
use crate::forecast::events::Events;
use crate::forecast::{Forecast, ForecastError};
use crate::planner::Decision;
use crate::series::{Series, Time};

/// Everything that readers (API, live view) may know of a service at one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub time: Time,
    /// `observe` where another Foresail acts on the same target, whatever the configuration says.
    pub mode: config::Mode,
    /// Newest demand in the service's unit.
    pub demand: Option<f64>,
    pub capacity: f64,
    pub replicas: Vec<Replica>,
    /// Newest last, at most 1000.
    pub decisions: Vec<Arc<Decision>>,
    /// As the last decision saw it.
    pub forecast: Option<Arc<Forecast>>,
    /// The model in use.
    pub model: Option<ModelInfo>,
    pub learning: Learning,
    pub startup_delay: Duration,
    pub override_: Option<Override>,
    pub counters: Counters,
    /// What is wrong now, for people: engine gone, container without CPU limit, …
    pub notes: Vec<String>,
    /// How each replica stands with the balancer.
    pub standings: BTreeMap<ReplicaId, Standing>,
    /// Requests that arrived at the built-in balancer.
    pub arrivals_total: u64,
    /// Requests that wait there now, were refused and were sent a second time.
    pub waiting: u32,
    pub refused_total: u64,
    pub retries_total: u64,
    /// Retries that were not made for want of budget.
    pub retries_refused_total: u64,
    /// Requests answered by the replicas now in the fleet, and how many of them failed.
    pub requests_total: u64,
    pub request_failures_total: u64,
}

/// Totals since the start, for `/metrics`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    pub samples: u64,
    /// NaN, negative or out of order; by reason.
    pub samples_refused: BTreeMap<&'static str, u64>,
    /// Same replica and time again.
    pub samples_merged: u64,
    /// By basis: forecast, reactive, hold.
    pub decisions: BTreeMap<&'static str, u64>,
    pub starts: u64,
    pub stops: u64,
    /// Starts by why they came to nothing, and stops.
    pub command_failures: BTreeMap<&'static str, u64>,
    pub trainings: u64,
    pub training_failures: u64,
    /// By what came of it: won or lost its match against the model in use.
    pub matches: BTreeMap<&'static str, u64>,
    pub drift_alarms: u64,
    /// Model files that must not be used.
    pub models_refused: u64,
    pub model_save_failures: u64,
    pub source_failures: u64,
    pub store_failures: u64,
    pub overloaded_steps: u64,
}

/// An operator's word over the planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Override {
    pub replicas: u32,
    /// It ends by itself then.
    #[schema(value_type = String, format = DateTime)]
    pub until: Time,
    pub reason: String,
}

/// What became of pushed samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pushed {
    pub accepted: usize,
    /// Index and reason of each refused sample.
    pub refused: Vec<(usize, String)>,
}

/// Handle of one running service; clones share it.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// What runner, handle and commands in flight share.
struct Shared {
    config: config::Service,
    store: Arc<Store>,
    models: PathBuf,
    /// Held while a model is trained: the next one is judged against what this one led to.
    training: tokio::sync::Mutex<()>,
    /// The record of the model in use as it was last followed; locked while it is changed, so that
    /// trainings and promotions come one after the other.
    in_use: tokio::sync::Mutex<Option<InUse>>,
    /// Folder of the decision log.
    decisions: PathBuf,
    startup_delays: PathBuf,
    retention: Duration,
    /// A plain mutex: every critical section is a short computation without waiting.
    state: Mutex<State>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    balancer: watch::Sender<Arc<balancer::Snapshot>>,
    health: Mutex<Health>,
    store_failures: AtomicU64,
    proxy_address: Option<SocketAddr>,
}

impl Shared {
    /// A panic in another holder leaves a state that is still consistent between fields we read.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    pub fn config(&self) -> &config::Service {
        &self.shared.config
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.borrow().clone()
    }

    /// Where the built-in balancer listens.
    pub fn proxy_address(&self) -> Option<SocketAddr> {
        self.shared.proxy_address
    }

    /// One balancing choice, as the proxy would make it, with its reason.
    ///
    /// # Errors
    /// Why nobody can be chosen, for each replica.
    pub fn pick(&self, key: Key) -> Result<(Replica, Explanation), Vec<PassedOver>> {
        let balancer = self.shared.balancer.borrow().clone();
        let picked = balancer.explain(key, rand::random(), clock::now());
        let known = picked.and_then(|(target, explanation)| {
            let replica = self.snapshot().replicas.iter().find(|r| r.id == target.id).cloned()?;
            Some((replica, explanation))
        });
        known.ok_or_else(|| balancer.passed_over())
    }

    /// Recorded rows with `from <= time < to`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn history(&self, from: Time, to: Time) -> Result<Vec<DemandRow>, StoreError> {
        let shared = self.shared.clone();
        blocking(move || shared.store.demand(&shared.config.name, from, to)).await
    }

    /// A fresh forecast from the newest demand, adapted as decisions see it, at most the model's
    /// horizon. `None` while there is no model.
    pub async fn forecast(
        &self,
        horizon: Option<Duration>,
        quantiles: &[f64],
    ) -> Option<Result<Forecast, ForecastError>> {
        let (model, window, adaptation) = {
            let state = self.shared.state();
            let model = state.autoscaler.model()?.clone();
            let window = state.autoscaler.window();
            let from = window.len().saturating_sub(model.context());
            (model, window.slice(from..window.len()), state.autoscaler.adaptation().clone())
        };
        let quantiles = quantiles.to_vec();
        let steps = match horizon {
            Some(horizon) => {
                horizon.as_millis().div_ceil(u128::from(model.step_ms.max(1))) as usize
            }
            None => model.horizon,
        };
        let steps = steps.clamp(1, model.horizon);
        let adapted = move || {
            let mut forecast = model.forecast(&window, steps, &quantiles)?;
            adaptation.apply(&mut forecast);
            Ok(forecast)
        };
        Some(blocking(adapted).await)
    }

    /// What would be decided now; changes nothing.
    pub async fn plan(&self) -> Decision {
        self.shared.state().preview(Utc::now())
    }

    /// The demand window that training would use, for replays.
    pub async fn window(&self) -> Series {
        self.shared.state().autoscaler.window().clone()
    }

    /// What the calendar says, for replays; none without one.
    pub fn events(&self) -> Events {
        self.shared.state().calendar.events.clone().unwrap_or_default()
    }

    /// Takes in demand measured elsewhere, in the service's unit.
    ///
    /// # Errors
    /// [`StoreError`] if the accepted samples could not be taken into the store.
    pub async fn push(&self, samples: Vec<DemandSample>) -> Result<Pushed, StoreError> {
        let (pushed, rows) = self.shared.state().push(Utc::now(), &samples);
        let shared = self.shared.clone();
        blocking(move || shared.store.append(&shared.config.name, &[], &rows)).await?;
        Ok(pushed)
    }

    pub async fn set_override(&self, value: Option<Override>) {
        self.shared.state().override_ = value;
    }
}

/// Runs blocking work (disk, training) away from the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // Blocking work is never cancelled, so this is its panic, handed on.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
