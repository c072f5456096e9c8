//! I/O: `foresail worker`: the demo's replica, also good for trying Foresail on containers.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CommandError;
use crate::io::worker::{self, Settings};

/// A CPU-bound HTTP server that needs a while to become ready: GET /healthz, and work on any other
/// path
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on [default: 127.0.0.1 at --port]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Port on 127.0.0.1, unless --listen is given
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
    /// Time until it is ready, as a model that must be loaded takes
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Cores it may use, at most 1
    #[arg(long, default_value = "0.1", value_parser = parse_cpu_limit)]
    cpu_limit: f64,
    /// CPU time of one request
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration)]
    cost: Duration,
    /// Longest wait of a request for its answer; 503 beyond
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    queue_timeout: Duration,
    /// Memory that it fills at its start and holds, in MiB, as a loaded model does
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    memory: u32,
    /// Stop when standard input closes, that is when the parent is gone
    #[arg(long)]
    parent: bool,
}

/// Serves until SIGTERM, SIGINT or, with `--parent`, the end of standard input.
///
/// # Errors
/// If the memory is not to be had, or the address cannot be bound.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let listen = args.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)));
    let Args { warm_up, cpu_limit, cost, queue_timeout, memory, .. } = args;
    let stop = stop_on_signal()
        .map_err(|e| CommandError::Failed(format!("cannot listen for signals: {e}")))?;
    if args.parent {
        stop_with_parent(stop.clone());
    }
    let settings = Settings { listen, warm_up, cpu_limit, cost, queue_timeout, memory };
    worker::serve(settings, stop).await.map_err(|e| CommandError::Failed(e.to_string()))
}

/// Handlers are set before the first await: as process 1 of a container there are no default ones.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let on_signal = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
    });
    Ok(stop)
}

/// A blocked read cannot be cancelled, so it has a thread of its own that ends with the process.
fn stop_with_parent(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
        stop.cancel();
    });
}

fn parse_cpu_limit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cores) if 0.0 < cores && cores <= 1.0 => Ok(cores),
        _ => Err("not a number of cores above 0 and at most 1, for instance 0.1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_share_of_one_core_is_a_cpu_limit() {
        for (text, want) in [("0.1", Some(0.1)), ("1", Some(1.0)), ("1e-3", Some(0.001))] {
            assert_eq!(parse_cpu_limit(text).ok(), want, "{text}");
        }
        for text in ["", "0", "-0.1", "1.01", "NaN", "inf", "0,1", "a lot"] {
            assert!(parse_cpu_limit(text).is_err(), "{text}");
        }
    }
}
