//! I/O: `foresail serve`: the service, until SIGTERM or Ctrl-C.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::config::{discover, load};
use super::{CommandError, output};
use crate::io::service;
use crate::io::signal;

/// Observe (the default) or act on services: those of a configuration file, or those that
/// containers with the label `foresail.enable=true` tell of.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  foresail serve
  foresail serve --config foresail.toml
  FORESAIL_API_LISTEN=127.0.0.1:9090 foresail serve --config foresail.toml --log info

SIGTERM and Ctrl-C end it: requests in flight are answered, recorded load is written,
processes it started are stopped, containers go on.")]
pub struct Args {
    /// The configuration; `foresail config example` prints a commented one. Without it services
    /// are found by the labels of their containers.
    #[arg(long, env = "FORESAIL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let config = match &args.config {
        Some(file) => load(file)?,
        None => discover()?,
    };
    let discovers = config.discovery.is_some();
    let shutdown = CancellationToken::new();
    let running = service::start(config, shutdown.clone()).await.map_err(|error| {
        CommandError::BadInput(match &args.config {
            Some(file) => format!("{}: {error}", file.display()),
            None => error.to_string(),
        })
    })?;
    let mut text = format!("API       http://{}\n", running.api_address);
    for service in running.services.all().values() {
        let name = &service.config().name;
        let mode = match service.snapshot().mode {
            crate::config::Mode::Observe => "observing",
            crate::config::Mode::Act => "scaling",
        };
        text += &format!("{name:<9} {mode}");
        if let Some(address) = service.proxy_address() {
            text += &format!(", balancer http://{address}");
        }
        text += "\n";
    }
    if discovers {
        text += "discovery containers with the label foresail.enable=true\n";
    }
    output::print(&text)?;
    signal::interrupted().await;
    eprintln!("foresail: stopping");
    shutdown.cancel();
    running.stopped().await;
    Ok(())
}
