//! I/O: runs the services: samples, steps, commands; publishes snapshots for everybody else.
//!
//! [`start`] brings up the store, the API, a proxy and a [`runner`] for each service. A [`Service`]
//! is a cheap handle; readers take its newest [`Snapshot`] and never wait for the runner.

mod decisions;
mod lock;
mod runner;
mod start;
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

pub use start::{Running, StartError, start};

use self::state::State;
use super::store::{DemandRow, Store, StoreError};
use crate::autoscaler::DemandSample;
use crate::balancer::{self, Key};
use crate::config;
use crate::fleet::Replica;
use crate::forecast::{Forecast, ForecastError, Method, Model, Training, trainer};
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
    pub model: Option<ModelInfo>,
    pub startup_delay: Duration,
    pub override_: Option<Override>,
    pub counters: Counters,
    /// What is wrong now, for people: engine gone, container without CPU limit, …
    pub notes: Vec<String>,
    /// Requests that arrived at the built-in balancer.
    pub arrivals_total: u64,
    /// Requests answered by the replicas now in the fleet, and how many of them failed.
    pub requests_total: u64,
    pub request_failures_total: u64,
}

/// The model in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelInfo {
    /// `None` if it could not be saved.
    pub version: Option<u32>,
    pub method: Method,
    pub season_lengths: Vec<usize>,
    pub horizon: usize,
    pub step_ms: u64,
    pub training: Training,
}

impl ModelInfo {
    fn new(version: Option<u32>, model: &Model) -> ModelInfo {
        ModelInfo {
            version,
            method: model.method(),
            season_lengths: model.season_lengths.clone(),
            horizon: model.horizon,
            step_ms: model.step_ms,
            training: model.training.clone(),
        }
    }
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
    pub command_failures: u64,
    pub trainings: u64,
    pub training_failures: u64,
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

/// All running services by name.
pub type Services = Arc<BTreeMap<String, Service>>;

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
    /// Folder of the decision log.
    decisions: PathBuf,
    retention: Duration,
    /// A plain mutex: every critical section is a short computation without waiting.
    state: Mutex<State>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    balancer: watch::Sender<Arc<balancer::Snapshot>>,
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

    /// One balancing choice, as the proxy would make it.
    pub fn pick(&self, key: Key) -> Option<Replica> {
        let balancer = self.shared.balancer.borrow().clone();
        let picked = balancer.pick(key, rand::random())?;
        self.snapshot().replicas.iter().find(|r| r.id == picked.id).cloned()
    }

    /// Recorded rows with `from <= time < to`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn history(&self, from: Time, to: Time) -> Result<Vec<DemandRow>, StoreError> {
        let shared = self.shared.clone();
        blocking(move || shared.store.demand(&shared.config.name, from, to)).await
    }

    /// A fresh forecast from the newest demand, at most the model's horizon. `None` while there is
    /// no model.
    pub async fn forecast(
        &self,
        horizon: Option<Duration>,
        quantiles: &[f64],
    ) -> Option<Result<Forecast, ForecastError>> {
        let (model, window) = {
            let state = self.shared.state();
            let model = state.autoscaler.model()?.clone();
            let window = state.autoscaler.window();
            let from = window.len().saturating_sub(model.context());
            (model, window.slice(from..window.len()))
        };
        let quantiles = quantiles.to_vec();
        let steps = match horizon {
            Some(horizon) => {
                horizon.as_millis().div_ceil(u128::from(model.step_ms.max(1))) as usize
            }
            None => model.horizon,
        };
        let steps = steps.clamp(1, model.horizon);
        Some(blocking(move || model.forecast(&window, steps, &quantiles)).await)
    }

    /// What would be decided now; changes nothing.
    pub async fn plan(&self) -> Decision {
        self.shared.state().preview(Utc::now())
    }

    /// The demand window that training would use, for replays.
    pub async fn window(&self) -> Series {
        self.shared.state().autoscaler.window().clone()
    }

    /// Trains on the recorded load, saves and adopts the model. Takes as long as it takes.
    ///
    /// # Errors
    /// [`ForecastError`] if there is too little data; the model in use stays.
    pub async fn train(&self) -> Result<Model, ForecastError> {
        let (series, options) = self.shared.state().autoscaler.training_set();
        let trained = blocking(move || trainer::train(Utc::now(), &series, &options)).await;
        match trained {
            Ok(model) => {
                let shared = self.shared.clone();
                let saved = model.clone();
                let version = blocking(move || {
                    super::artifact::save(&shared.models, &shared.config.name, &saved)
                });
                let version = match version.await {
                    Ok((version, _)) => Some(version),
                    Err(error) => {
                        tracing::warn!(service = self.config().name, %error, "model not saved");
                        None
                    }
                };
                self.shared.state().adopt(version, model.clone());
                Ok(model)
            }
            Err(error) => {
                self.shared.state().counters.training_failures += 1;
                Err(error)
            }
        }
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
