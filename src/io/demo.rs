//! I/O: the demo: real workers under real load on this machine, first by the threshold rule, then
//! by forecast.
//!
//! It is `serve` with a configuration made in code, a load generator in front of it and somebody
//! who watches. What it reports was measured from outside, by the clients and by looking at the
//! replicas; nothing is computed from what should have happened.

pub mod days;
mod load;
mod picture;
pub mod report;
pub mod scenario;
mod screen;
mod view;
pub mod workload;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::Uri;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::days::{Days, Step};
use self::load::Log;
use self::report::Report;
use self::scenario::{SERVICE, Scenario};
use self::screen::Screen;
use self::view::{Point, Scene};
use super::service::{self, Service, Snapshot, StartError};
use super::store::{DemandRow, StoreError};
use crate::planner::Basis;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub scenario: Scenario,
    /// Where the recording stays; a folder that is removed at the end without it.
    pub data: Option<PathBuf>,
    /// Where the API listens; port 8080 or, where that is taken, any other without it.
    pub listen: Option<SocketAddr>,
    pub plot: Option<PathBuf>,
    /// Progress lines go to standard error, as standard output is for the result.
    pub quiet_stdout: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{path}: {reason}")]
    Folder { path: String, reason: String },
    #[error("this program's own path is unknown: {0}")]
    Program(io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the demo has no balancer")]
    Balancer,
}

/// Runs until the end of the demo or `stop`; either way nothing that it started is left. `None` if
/// it was stopped before the first day was over.
///
/// # Errors
/// [`DemoError`] if it cannot start, or its recording cannot be read or written.
pub async fn run(options: &Options, stop: CancellationToken) -> Result<Option<Report>, DemoError> {
    let folder = Folder::new(options.data.as_deref())?;
    let program = std::env::current_exe().map_err(DemoError::Program)?;
    let api = options.listen.unwrap_or_else(default_listen);
    let config = options.scenario.config(&program, &folder.path, api);
    let shutdown = CancellationToken::new();
    let running = service::start(config, shutdown.clone()).await?;
    let watched = match running.services.get(SERVICE) {
        Some(service) => watch(options, &service, running.api_address, &stop).await,
        None => Err(DemoError::Balancer),
    };
    shutdown.cancel();
    running.stopped().await;
    let watched = watched?;
    if options.data.is_some() {
        write_csv(&folder.path, &watched.rows)?;
    }
    if let Some(path) = &options.plot {
        picture::write(path, &watched.points, &options.scenario)
            .map_err(|reason| DemoError::Folder { path: path.display().to_string(), reason })?;
    }
    let recording = options.data.is_some().then(|| folder.path.clone());
    Ok(watched.report(&options.scenario, recording).await)
}

/// What was seen.
struct Watched {
    days: Days,
    points: Vec<Point>,
    rows: Vec<DemandRow>,
    startup_delay: Duration,
}

impl Watched {
    async fn report(self, scenario: &Scenario, recording: Option<PathBuf>) -> Option<Report> {
        if self.days.days.is_empty() {
            return None;
        }
        let (rows, scenario, delay) = (self.rows, *scenario, self.startup_delay);
        let replay = tokio::task::spawn_blocking(move || report::replay(&rows, &scenario, delay));
        // The replay of a run that was stopped early may have too little to score.
        let replay = replay.await.ok().and_then(Result::ok);
        Some(Report {
            seed: scenario.seed,
            startup_delay: delay,
            days: self.days,
            replay,
            recording,
        })
    }
}

/// Load on, eyes open, until the end or `stop`.
async fn watch(
    options: &Options,
    service: &Service,
    api: SocketAddr,
    stop: &CancellationToken,
) -> Result<Watched, DemoError> {
    let scenario = &options.scenario;
    let proxy = service.proxy_address().ok_or(DemoError::Balancer)?;
    let url: Uri = format!("http://{proxy}/work").parse().map_err(|_| DemoError::Balancer)?;
    let mut screen = Screen::new(options.quiet_stdout, stop.clone());
    screen.say(&format!("API: http://{api}   balancer: http://{proxy}   seed: {}", scenario.seed));
    let mut eyes =
        Eyes { scenario: *scenario, api, log: Log::default(), steps: vec![], points: vec![] };
    let mut until = Duration::ZERO;
    let began = Utc::now();
    if until_ready(service, stop).await {
        let start = Instant::now();
        let load = load::generate(
            scenario.workload(),
            url,
            start,
            scenario.duration,
            eyes.log.clone(),
            stop.clone(),
        );
        // On its own task, so that drawing does not delay a request.
        let mut load = tokio::spawn(load);
        let mut ticks = tokio::time::interval_at(start + scenario.step(), scenario.step());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut answered = false;
        while !answered || start.elapsed() < scenario.duration && !stop.is_cancelled() {
            tokio::select! {
                _ = &mut load, if !answered => answered = true,
                tick = ticks.tick() => eyes.look(tick - start, &service.snapshot(), &mut screen),
            }
        }
        until = start.elapsed().min(scenario.duration);
    }
    drop(screen);
    let startup_delay = service.snapshot().startup_delay;
    let rows = service.history(began, Utc::now()).await?;
    Ok(Watched { days: eyes.days(until), points: eyes.points, rows, startup_delay })
}

/// Waits for the first two replicas; false if stopped before.
async fn until_ready(service: &Service, stop: &CancellationToken) -> bool {
    let ready = async {
        while view::ready(&service.snapshot()) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    stop.run_until_cancelled(ready).await.is_some()
}

/// Looks once a step and remembers.
struct Eyes {
    scenario: Scenario,
    api: SocketAddr,
    log: Log,
    steps: Vec<Step>,
    points: Vec<Point>,
}

impl Eyes {
    fn look(&mut self, at: Duration, snapshot: &Snapshot, screen: &mut Screen) {
        if at > self.scenario.duration {
            return;
        }
        let acts = snapshot.decisions.last().is_some_and(|d| d.basis == Basis::Forecast);
        self.steps.push(Step {
            at,
            ready_replicas: view::ready(snapshot),
            running_replicas: view::running(snapshot),
            forecast_acts: acts,
        });
        self.points.push(Point::new(at, snapshot));
        let scene = Scene {
            scenario: &self.scenario,
            at,
            points: &self.points,
            snapshot,
            latest: view::Latest::of(&self.log.requests()),
            api: self.api,
        };
        screen.show(&scene);
    }

    fn days(&self, until: Duration) -> Days {
        Days::new(&self.log.requests(), &self.steps, &self.scenario.terms(), until)
    }
}

fn default_listen() -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if TcpListener::bind(usual).is_ok() { usual } else { any }
}

/// Where the recording is; removed with this value unless it is the user's.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn new(data: Option<&Path>) -> Result<Folder, DemoError> {
        let temporary = data.is_none();
        let path = data.map_or_else(
            || std::env::temp_dir().join(format!("foresail-demo-{}", std::process::id())),
            Path::to_owned,
        );
        let failed =
            |reason: String| DemoError::Folder { path: path.display().to_string(), reason };
        std::fs::create_dir_all(&path).map_err(|e| failed(e.to_string()))?;
        let mut entries = std::fs::read_dir(&path).map_err(|e| failed(e.to_string()))?;
        if !temporary && entries.next().is_some() {
            return Err(failed("is not empty; name a new folder for the recording".to_owned()));
        }
        Ok(Folder { path, temporary })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "temporary folder is left");
        }
    }
}

/// The recorded demand in the form that `import`, `compare` and `backtest` read.
fn write_csv(folder: &Path, rows: &[DemandRow]) -> Result<(), DemoError> {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let lines = rows.iter().filter_map(|r| Some(format!("{},{}\n", time(r.time), r.demand?)));
    let text: String = std::iter::once("timestamp,value\n".to_owned()).chain(lines).collect();
    let path = folder.join("demand.csv");
    std::fs::write(&path, text)
        .map_err(|e| DemoError::Folder { path: path.display().to_string(), reason: e.to_string() })
}
