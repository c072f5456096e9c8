//! I/O: `foresail plan`: what would be done now, and why; changes nothing.
//!
//! The services run for one evaluation in mode `observe`, over a copy of the recorded demand and
//! the models, without API and balancer ports of their own; so a plan may be made beside a running
//! `foresail serve`. Known limits: the children of a process target are seen only by the Foresail
//! that started them, and requests only by its balancer; ask that one's API
//! (`/v1/services/{service}/plan`).

mod explain;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::config::load;
use super::{CommandError, Format, output};
use crate::config::{Config, Mode};
use crate::io::service::{self, Service};
use crate::planner::Decision;
use crate::series::Time;

/// Longest wait for the target beyond the evaluation itself.
const GRACE: Duration = Duration::from_secs(12);

/// Prints what would be decided now for each service; nothing is started, stopped or recorded.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  foresail plan --config foresail.toml
  foresail plan --config foresail.toml --format json

Each service is observed for one evaluation interval. Beside a running `foresail serve`,
its API knows more: GET /v1/services/{service}/plan.")]
pub struct Args {
    /// The configuration; `foresail config example` prints a commented one.
    #[arg(long, env = "FORESAIL_CONFIG", value_name = "FILE")]
    config: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let config = load(&args.config)?;
    let folder = Scratch::new().map_err(|e| CommandError::Failed(format!("no folder: {e}")))?;
    let config = harmless(config, &folder.0)
        .map_err(|e| CommandError::Failed(format!("recorded load cannot be copied: {e}")))?;
    let begun = Utc::now();
    let shutdown = CancellationToken::new();
    let running = service::start(config, shutdown.clone())
        .await
        .map_err(|e| CommandError::BadInput(format!("{}: {e}", args.config.display())))?;
    if io::stderr().is_terminal() {
        eprintln!("foresail: observing for one evaluation interval");
    }
    let mut plans = Vec::new();
    for service in running.services.all().values() {
        let patience = service.config().settings.evaluation_interval + GRACE;
        // A service without data in time is planned too: its decision says that it holds, and why.
        let _ = tokio::time::timeout(patience, evaluated(service, begun)).await;
        plans.push((service.config().name.clone(), service.plan().await));
    }
    shutdown.cancel();
    running.stopped().await;
    output::print(&match args.format {
        Format::Table => explain::all(&plans),
        Format::Json => format!("{:#}\n", as_json(&plans)),
    })
}

/// The services as configured, but with nothing that acts, listens, trains, or writes outside
/// `folder`.
fn harmless(mut config: Config, folder: &Path) -> io::Result<Config> {
    for (name, service) in &mut config.services {
        service.mode = Mode::Observe;
        // A balancer that nobody sends requests to would measure a demand of zero.
        service.balancer = None;
        service.settings.training.interval = Duration::MAX;
        let demand = Path::new(name).join("demand");
        copy(&config.store.path.join(&demand), &folder.join(&demand))?;
        copy(&config.store.models.join(name), &folder.join("models").join(name))?;
    }
    config.discovery = None;
    config.api.listen = ([127, 0, 0, 1], 0).into();
    config.store.path = folder.to_path_buf();
    config.store.models = folder.join("models");
    Ok(config)
}

/// Copies a folder; files that a running Foresail replaces meanwhile are passed over, as is a
/// missing folder.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) => return gone(error),
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match source.is_dir() {
            true => copy(&source, &target)?,
            false => fs::copy(&source, &target).map(drop).or_else(gone)?,
        }
    }
    Ok(())
}

/// Waits for a decision made after `begun`.
async fn evaluated(service: &Service, begun: Time) {
    while service.snapshot().decisions.last().is_none_or(|decision| decision.time < begun) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn as_json(plans: &[(String, Decision)]) -> serde_json::Value {
    let plan = |(name, decision): &(String, Decision)| json!({"service": name, "plan": decision});
    json!({"services": plans.iter().map(plan).collect::<Vec<_>>()})
}

/// A folder of this command alone, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let name = format!("foresail-plan-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary folder is left over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_plan_writes_acts_and_listens_nowhere() {
        let store = tempfile::tempdir().expect("a folder");
        let segment = store.path().join("web/demand/2026-01-05/1.parquet");
        fs::create_dir_all(segment.parent().expect("a parent")).expect("folders");
        fs::write(&segment, "rows").expect("a file");
        let text = format!(
            "[store]\npath = {:?}\n[services.web]\nmode = \"act\"\n\
             target = {{ docker = {{}} }}\nbalancer = {{ listen = \"127.0.0.1:9000\" }}\n",
            store.path()
        );
        let config = config::parse(&text).expect("a good file");
        let folder = Scratch::new().expect("a folder");
        let plan = harmless(config, &folder.0).expect("copied");
        let web = &plan.services["web"];
        assert_eq!((web.mode, &web.balancer, plan.api.listen.port()), (Mode::Observe, &None, 0));
        assert!(plan.store.models.starts_with(&folder.0));
        let copied = folder.0.join("web/demand/2026-01-05/1.parquet");
        assert_eq!(fs::read_to_string(copied).expect("copied"), "rows");
        let path = folder.0.clone();
        drop(folder);
        assert!(!path.exists());
    }
}
