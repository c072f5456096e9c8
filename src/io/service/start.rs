//! I/O: brings everything up in the order in which it can fail, and takes it down without losing a
//! request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::runner::{self, Target};
use super::state::{DECISIONS, State};
use super::{
    Service, Services, Shared, balancing, blocking, calendar, decisions, files, startup_delays,
};
use crate::balancer::{self, Health};
use crate::config::{self, Config};
use crate::io::actuator::Actuator;
use crate::io::actuator::docker::DockerActuator;
use crate::io::actuator::process::ProcessActuator;
use crate::io::artifact::in_use;
use crate::io::calendar::Watch;
use crate::io::collector::docker::DockerSource;
use crate::io::docker::Engine;
use crate::io::docker::inventory::Inventory;
use crate::io::health::Prober;
use crate::io::proxy::{JoinError, Listeners, Place, Threads};
use crate::io::store::{Store, StoreError, demand_series};
use crate::io::{api, discovery};

/// Longest wait for child processes to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Why the service cannot start; each is for the user to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key} = \"{address}\": cannot listen there ({error}); choose a free address")]
    Listen { key: String, address: SocketAddr, error: std::io::Error },
    #[error("services.{service}.balancer.{key}: {reason}")]
    Balancer { service: String, key: &'static str, reason: String },
    /// The address of an engine, or a target, is malformed.
    #[error("{key}: {reason}")]
    Engine { key: String, reason: String },
    #[error("no threads for the balancers: {0}")]
    Threads(std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Everything that runs. Ends when the token given to [`start`] is cancelled; await
/// [`Running::stopped`] then.
pub struct Running {
    pub services: Services,
    pub api_address: SocketAddr,
    supervisor: Arc<Supervisor>,
    edges: TaskTracker,
    flush: tokio::task::JoinHandle<()>,
    stop_flush: CancellationToken,
}

/// Starts the store, the API, runner and proxy of each service, and discovery where it is asked
/// for.
///
/// # Errors
/// [`StartError`]; nothing keeps running then.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, StartError> {
    files::raise_limit();
    let path = config.store.path.clone();
    let retention = config.store.retention;
    let store = Arc::new(blocking(move || Store::open(&path, retention)).await?);
    let api_listener = listen("api.listen".into(), config.api.listen).await?;
    let api_address = api_listener.local_addr().unwrap_or(config.api.listen);
    let services = Services::default();
    let supervisor = Arc::new(Supervisor {
        config,
        store: store.clone(),
        listeners: Listeners::new(Threads::start().map_err(StartError::Threads)?, shutdown.clone()),
        services: services.clone(),
        engines: Mutex::default(),
        units: Mutex::default(),
        shutdown: shutdown.clone(),
    });
    let config = &supervisor.config;
    let discovered = match &config.discovery {
        Some(discovery) => {
            Some(supervisor.engine(discovery.host.as_deref()).map_err(|reason| {
                StartError::Engine { key: "discovery.host".to_owned(), reason }
            })?)
        }
        None => None,
    };
    let mut prepared = Vec::new();
    for settings in config.services.values() {
        prepared.push(supervisor.prepare(settings).await?);
    }

    prepared.into_iter().for_each(|prepared| supervisor.launch(prepared));
    let edges = TaskTracker::new();
    edges.spawn(api::serve(api_listener, config.api.clone(), services.clone(), shutdown.clone()));
    if let Some(inventory) = discovered {
        edges.spawn(discovery::run(inventory, supervisor.clone(), shutdown));
    }
    let stop_flush = CancellationToken::new();
    let interval = config.store.flush_interval;
    let flush = runner::flush(services.clone(), store, interval, stop_flush.clone());
    let flush = tokio::spawn(flush);
    Ok(Running { services, api_address, supervisor, edges, flush, stop_flush })
}

impl Running {
    /// Waits for the end after the token was cancelled: requests in flight are answered, then
    /// commands in flight finish, then children are stopped, then everything recorded is written.
    pub async fn stopped(self) {
        // Discovery ends first: nothing is started any more.
        self.edges.close();
        self.edges.wait().await;
        let units = std::mem::take(&mut *self.supervisor.units());
        join_all(units.into_values().map(Unit::stopped)).await;
        self.stop_flush.cancel();
        if let Err(error) = self.flush.await {
            tracing::error!(%error, "the writer of recorded load failed");
        }
    }
}

/// Starts and stops single services, at any time.
pub struct Supervisor {
    pub config: Config,
    pub services: Services,
    store: Arc<Store>,
    /// Where the balancers of all services serve.
    listeners: Listeners,
    engines: Mutex<Engines>,
    units: Mutex<BTreeMap<String, Unit>>,
    shutdown: CancellationToken,
}

/// What is known of each engine, by its configured address; shared by the services on it.
type Engines = BTreeMap<Option<String>, Inventory>;

/// Everything of a service that can fail to start.
struct Prepared {
    service: Service,
    target: Target,
    place: Option<Place>,
}

/// A service at work.
struct Unit {
    service: Service,
    stop: CancellationToken,
    edges: TaskTracker,
    runners: TaskTracker,
    commands: TaskTracker,
    actuator: Arc<dyn Actuator>,
}

impl Supervisor {
    /// Starts one more service.
    ///
    /// # Errors
    /// [`StartError`]; nothing of it keeps running then.
    pub async fn start(&self, settings: &config::Service) -> Result<(), StartError> {
        let prepared = self.prepare(settings).await?;
        self.launch(prepared);
        Ok(())
    }

    /// Lets a service go: readers miss it at once; when the future ends, its requests are answered,
    /// its commands done and its records kept. Containers go on.
    pub fn release(&self, name: &str) -> impl Future<Output = ()> + Send + use<> {
        self.services.remove(name);
        let unit = self.units().remove(name);
        async {
            if let Some(unit) = unit {
                unit.stopped().await;
            }
        }
    }

    async fn prepare(&self, settings: &config::Service) -> Result<Prepared, StartError> {
        let name = &settings.name;
        let join = |balancer| {
            self.listeners.join(name, balancer).map_err(|error| match error {
                JoinError::Bind(error) => StartError::Listen {
                    key: format!("services.{name}.balancer.listen"),
                    address: balancer.listen,
                    error,
                },
                JoinError::Clash(key, reason) => {
                    StartError::Balancer { service: name.clone(), key, reason }
                }
            })
        };
        let place = settings.balancer.as_ref().map(join).transpose()?;
        let target = self.connect(settings)?;
        let address = place.as_ref().map(Place::address);
        let service = restore(&self.config, settings, &self.store, address).await?;
        Ok(Prepared { service, target, place })
    }

    fn launch(&self, Prepared { service, target, place }: Prepared) {
        let (edges, runners, commands) =
            (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let stop = self.shutdown.child_token();
        let shared = service.shared.clone();
        if let Some(place) = place {
            runners.spawn(balancing::eject(shared.clone(), stop.clone()));
            edges.spawn(place.serve(shared.balancer.subscribe(), stop.clone()));
        }
        if let Some(check) = shared.config.balancer.as_ref().and_then(|it| it.check.clone()) {
            let prober = Prober::new(check);
            runners.spawn(balancing::check(shared.clone(), prober, stop.clone()));
        }
        if let Some(path) = shared.config.calendar.clone() {
            let watch = Watch::new(path, shared.config.settings.training.max_history);
            runners.spawn(calendar::follow(service.clone(), watch, stop.clone()));
        }
        let actuator = target.actuator.clone();
        runners.spawn(runner::run(service.clone(), target, stop.clone(), commands.clone()));
        self.services.insert(service.clone());
        let name = service.config().name.clone();
        let unit = Unit { service, stop, edges, runners, commands, actuator };
        self.units().insert(name, unit);
    }

    fn connect(&self, settings: &config::Service) -> Result<Target, StartError> {
        let key = format!("services.{}.target", settings.name);
        let refused = |reason| StartError::Engine { key: key.clone(), reason };
        match &settings.target {
            config::Target::Process(process) => {
                let actuator = ProcessActuator::new(&settings.name, process);
                let metrics = Arc::new(actuator.metrics());
                Ok(Target { actuator: Arc::new(actuator), metrics })
            }
            config::Target::Docker(docker) => {
                let inventory = self.engine(docker.host.as_deref()).map_err(refused)?;
                let actuator = DockerActuator::on(inventory.clone(), &settings.name, docker)
                    .map_err(|e| refused(e.to_string()))?;
                let metrics = Arc::new(DockerSource::on(inventory));
                Ok(Target { actuator: Arc::new(actuator), metrics })
            }
            config::Target::Compose(compose) => {
                let inventory = self.engine(compose.host.as_deref()).map_err(refused)?;
                let actuator = DockerActuator::compose(inventory.clone(), compose);
                let metrics = Arc::new(DockerSource::on(inventory));
                Ok(Target { actuator: Arc::new(actuator), metrics })
            }
        }
    }

    /// What is known of the engine at `host`.
    fn engine(&self, host: Option<&str>) -> Result<Inventory, String> {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inventory) = engines.get(&host.map(str::to_owned)) {
            return Ok(inventory.clone());
        }
        let inventory = Inventory::follow(Engine::new(host)?);
        engines.insert(host.map(str::to_owned), inventory.clone());
        Ok(inventory)
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<String, Unit>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unit {
    async fn stopped(self) {
        self.stop.cancel();
        for tracker in [&self.edges, &self.runners, &self.commands] {
            tracker.close();
            tracker.wait().await;
        }
        self.actuator.shutdown(SHUTDOWN_GRACE).await;
        runner::save(&self.service).await;
    }
}

async fn listen(key: String, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { key, address, error })
}

/// The service as its recorded load, its model in use and its last decisions left it.
async fn restore(
    config: &Config,
    settings: &config::Service,
    store: &Arc<Store>,
    proxy_address: Option<SocketAddr>,
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
    let kept = folder.with_file_name("startup_delays.json");
    match startup_delays::read(&kept) {
        Ok(measured) => state.autoscaler.restore_startup_delays(&measured),
        Err(refused) => state.startup_delays_refused = Some(refused),
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
    let balancer = settings.balancer.as_ref().map(config::Balancer::rules).unwrap_or_default();
    let balancer = Arc::new(balancer::Snapshot::new(balancer, Vec::new(), None));
    let (ejection, check) = match &settings.balancer {
        Some(balancer) => (balancer.ejection.clone(), balancer.check.clone()),
        None => Default::default(),
    };
    let snapshot = state.snapshot(now, &balancer, BTreeMap::new());
    let shared = Shared {
        config: settings.clone(),
        store: store.clone(),
        models: config.store.models.clone(),
        training: tokio::sync::Mutex::new(()),
        in_use: tokio::sync::Mutex::new(followed),
        decisions: folder,
        startup_delays: kept,
        retention: config.store.retention,
        state: Mutex::new(state),
        snapshot: watch::Sender::new(Arc::new(snapshot)),
        balancer: watch::Sender::new(balancer),
        health: Mutex::new(Health::new(ejection, check)),
        store_failures: AtomicU64::new(0),
        proxy_address,
    };
    Ok(Service { shared: Arc::new(shared) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_comes_and_goes_beside_the_others() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let text = |balancer: &str| {
            format!(
                "api = {{ listen = \"127.0.0.1:0\" }}\nstore = {{ path = {:?} }}\n[services.web]\n\
                 target = {{ process = {{ command = [\"true\"] }} }}\nbalancer = {balancer}\n",
                folder.path()
            )
        };
        let config = config::parse(&text("{ listen = \"127.0.0.1:0\" }")).expect("a good file");
        let mut second = config.services["web"].clone();
        second.name = "api".to_owned();
        let shutdown = CancellationToken::new();
        let running = start(config, shutdown.clone()).await.expect("free ports");
        let names = || running.services.all().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(), ["web"]);

        running.supervisor.start(&second).await.expect("a free port");
        assert_eq!(names(), ["api", "web"]);
        let address = running.services.get("api").and_then(|api| api.proxy_address());
        second.balancer.as_mut().expect("given").listen = address.expect("it listens");
        let taken = running.supervisor.start(&second).await.expect_err("its port is taken");
        assert!(taken.to_string().starts_with("services.api.balancer.routes: "), "{taken}");

        let released = running.supervisor.release("api");
        assert_eq!(names(), ["web"], "gone at once");
        released.await;
        running.supervisor.start(&second).await.expect("its port is free again");
        assert_eq!(names(), ["api", "web"]);
        running.supervisor.release("nobody").await;
        shutdown.cancel();
        running.stopped().await;
    }
}
