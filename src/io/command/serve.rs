//! I/O: `foresail serve`: the service, until SIGTERM or Ctrl-C.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::config::load;
use super::{CommandError, output};
use crate::io::service;
use crate::io::signal;

/// Observe (the default) or act on the services of a configuration file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  foresail serve --config foresail.toml
  FORESAIL_API_LISTEN=127.0.0.1:9090 foresail serve --config foresail.toml --log info

SIGTERM and Ctrl-C end it: requests in flight are answered, recorded load is written,
processes it started are stopped, containers go on.")]
pub struct Args {
    /// The configuration; `foresail config example` prints a commented one.
    #[arg(long, env = "FORESAIL_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let config = load(&args.config)?;
    let shutdown = CancellationToken::new();
    let running = service::start(config, shutdown.clone())
        .await
        .map_err(|e| CommandError::BadInput(format!("{}: {e}", args.config.display())))?;
    let mut text = format!("API       http://{}\n", running.api_address);
    for service in running.services.values() {
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
    output::print(&text)?;
    signal::interrupted().await;
    eprintln!("foresail: stopping");
    shutdown.cancel();
    running.stopped().await;
    Ok(())
}
