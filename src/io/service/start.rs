//! I/O: brings everything up in the order in which it can fail, and takes it down without losing a
//! request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::runner::{self, Target};
use super::state::{DECISIONS, State};
use super::{Service, Services, Shared, blocking, calendar, decisions};
use crate::balancer;
use crate::config::{self, Config};
use crate::io::actuator::Actuator;
use crate::io::actuator::docker::DockerActuator;
use crate::io::actuator::process::ProcessActuator;
use crate::io::artifact::in_use;
use crate::io::calendar::Watch;
use crate::io::collector::docker::DockerSource;
use crate::io::docker::Engine;
use crate::io::docker::inventory::Inventory;
use crate::io::store::{Store, StoreError, demand_series};
use crate::io::{api, proxy};

/// Longest wait for child processes to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Why the service cannot start; each is for the user to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key} = \"{address}\": cannot listen there ({error}); choose a free address")]
    Listen { key: String, address: SocketAddr, error: std::io::Error },
    #[error("services.{service}.target: {reason}")]
    Target { service: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Everything that runs. Ends when the token given to [`start`] is cancelled; await
/// [`Running::stopped`] then.
pub struct Running {
    pub services: Services,
    pub api_address: SocketAddr,
    edges: TaskTracker,
    runners: TaskTracker,
    commands: TaskTracker,
    actuators: Vec<Arc<dyn Actuator>>,
    flush: tokio::task::JoinHandle<()>,
    stop_flush: CancellationToken,
}

/// Starts the store, the API, and runner and proxy of each service.
///
/// # Errors
/// [`StartError`]; nothing keeps running then.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, StartError> {
    raise_file_limit();
    let path = config.store.path.clone();
    let retention = config.store.retention;
    let store = Arc::new(blocking(move || Store::open(&path, retention)).await?);
    let api_listener = listen("api.listen".into(), config.api.listen).await?;
    let api_address = api_listener.local_addr().unwrap_or(config.api.listen);

    let mut engines = Engines::default();
    let mut prepared = Vec::new();
    for settings in config.services.values() {
        let proxy = match &settings.balancer {
            Some(b) => {
                let key = format!("services.{}.balancer.listen", settings.name);
                Some(listen(key, b.listen).await?)
            }
            None => None,
        };
        let target = connect(settings, &mut engines)?;
        let service = restore(&config, settings, &store, proxy.as_ref()).await?;
        prepared.push((service, target, proxy));
    }

    let (edges, runners, commands) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    let mut services = BTreeMap::new();
    let mut actuators = Vec::new();
    for (service, target, proxy) in prepared {
        let shared = service.shared.clone();
        if let (Some(listener), Some(settings)) = (proxy, shared.config.balancer.clone()) {
            let snapshots = shared.balancer.subscribe();
            edges.spawn(proxy::serve(listener, settings, snapshots, shutdown.clone()));
        }
        actuators.push(target.actuator.clone());
        if let Some(path) = shared.config.calendar.clone() {
            let watch = Watch::new(path, shared.config.settings.training.max_history);
            runners.spawn(calendar::follow(service.clone(), watch, shutdown.clone()));
        }
        runners.spawn(runner::run(service.clone(), target, shutdown.clone(), commands.clone()));
        services.insert(shared.config.name.clone(), service);
    }
    let services: Services = Arc::new(services);
    edges.spawn(api::serve(api_listener, config.api, services.clone(), shutdown));
    let stop_flush = CancellationToken::new();
    let all: Vec<Service> = services.values().cloned().collect();
    let flush = tokio::spawn(runner::flush(all, config.store.flush_interval, stop_flush.clone()));
    Ok(Running { services, api_address, edges, runners, commands, actuators, flush, stop_flush })
}

impl Running {
    /// Waits for the end after the token was cancelled: requests in flight are answered, then
    /// commands in flight finish, then children are stopped, then everything recorded is written.
    pub async fn stopped(self) {
        for tracker in [&self.edges, &self.runners, &self.commands] {
            tracker.close();
            tracker.wait().await;
        }
        for actuator in &self.actuators {
            actuator.shutdown(SHUTDOWN_GRACE).await;
        }
        self.stop_flush.cancel();
        if let Err(error) = self.flush.await {
            tracing::error!(%error, "the writer of recorded load failed");
        }
    }
}

/// A request in flight takes two descriptors, and the usual soft limit of 1024 is soon reached.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let raised = getrlimit(Resource::RLIMIT_NOFILE)
            .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}

async fn listen(key: String, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { key, address, error })
}

/// What is known of each engine, by its address; shared by the services on it.
type Engines = BTreeMap<Option<String>, Inventory>;

fn connect(settings: &config::Service, engines: &mut Engines) -> Result<Target, StartError> {
    match &settings.target {
        config::Target::Process(process) => {
            let actuator = ProcessActuator::new(&settings.name, process);
            let metrics = Arc::new(actuator.metrics());
            Ok(Target { actuator: Arc::new(actuator), metrics })
        }
        config::Target::Docker(docker) => {
            let refused =
                |reason: String| StartError::Target { service: settings.name.clone(), reason };
            let inventory = match engines.get(&docker.host) {
                Some(inventory) => inventory.clone(),
                None => {
                    let engine = Engine::new(docker.host.as_deref()).map_err(refused)?;
                    let inventory = Inventory::follow(engine);
                    engines.insert(docker.host.clone(), inventory.clone());
                    inventory
                }
            };
            let actuator = DockerActuator::on(inventory.clone(), &settings.name, docker)
                .map_err(|e| refused(e.to_string()))?;
            let metrics = DockerSource::on(inventory);
            Ok(Target { actuator: Arc::new(actuator), metrics: Arc::new(metrics) })
        }
    }
}

/// The service as its recorded load, its model in use and its last decisions left it.
async fn restore(
    config: &Config,
    settings: &config::Service,
    store: &Arc<Store>,
    proxy: Option<&TcpListener>,
) -> Result<Service, StartError> {
    let mut state = State::new(settings.clone(), settings.mode);
    let folder = config.store.path.join(&settings.name).join("decisions");
    let (store_, models, name) =
        (store.clone(), config.store.models.clone(), settings.name.clone());
    let now = Utc::now();
    let kept = settings.settings.training.max_history;
    let from = now - TimeDelta::from_std(kept).unwrap_or(TimeDelta::days(28));
    let folder_ = folder.clone();
    let (rows, found, decisions) = blocking(move || {
        let rows = store_.demand(&name, from, now);
        let record = in_use::read(&models, &name).unwrap_or_default();
        let found = in_use::find(&models, &name).map(|found| (record, found));
        (rows, found, decisions::newest(&folder_, DECISIONS))
    })
    .await;
    let interval = settings.settings.evaluation_interval;
    if let Ok(series) = demand_series(&rows?, interval, interval) {
        state.autoscaler.restore(series);
    }
    let mut followed = None;
    match found {
        Ok((record, (stored, refused))) => {
            let mut refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
            followed = record;
            if let Some(stored) = stored
                && let Err(reason) = state.adopt(Some(stored.version), stored.model)
            {
                refused.push(format!("version {}: {reason}", stored.version));
            }
            state.refuse_models(refused);
        }
        Err(error) => state.refuse_models(vec![error.to_string()]),
    }
    state.decisions = decisions.into();
    let balancer = settings.balancer.as_ref().map(|b| b.algorithm).unwrap_or_default();
    let balancer = Arc::new(balancer::Snapshot::new(balancer, Vec::new(), None));
    let snapshot = state.snapshot(now, &balancer);
    let shared = Shared {
        config: settings.clone(),
        store: store.clone(),
        models: config.store.models.clone(),
        training: tokio::sync::Mutex::new(()),
        in_use: tokio::sync::Mutex::new(followed),
        decisions: folder,
        retention: config.store.retention,
        state: Mutex::new(state),
        snapshot: watch::Sender::new(Arc::new(snapshot)),
        balancer: watch::Sender::new(balancer),
        store_failures: AtomicU64::new(0),
        proxy_address: proxy.and_then(|l| l.local_addr().ok()),
    };
    Ok(Service { shared: Arc::new(shared) })
}
