//! I/O: the command line: parse, dispatch, exit code.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use foresail::io::command::{
    CommandError, backtest, compare, config, demo, forecast, import, models, plan, serve, top,
    train, worker,
};
use foresail::io::memory;
use tracing_subscriber::EnvFilter;

/// Less memory is kept for connections that have fallen idle than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A predictive autoscaler: records the load of a service's workers, forecasts it and starts
/// workers ahead of the peak.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    /// What to log, for instance `info` or `foresail=debug`; logs go to standard error.
    /// [default: warn; error for `demo` and `top`, whose live view has the terminal]
    #[arg(long, global = true, env = "FORESAIL_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  foresail demo                                    two minutes of real workers under real load
  foresail config example > foresail.toml          a commented configuration
  foresail serve --config foresail.toml            observe, forecast, and scale where mode = \"act\"
  foresail top                                     watch it, hold it, switch its mode
  foresail compare load.csv                        what each policy would have cost on recorded load
  foresail backtest load.csv                       how well each method would have forecast it";

#[derive(Subcommand)]
enum Command {
    /// Everything on this machine, no Docker, no config: real workers, real load, two minutes.
    Demo(demo::Args),
    /// The service: record, forecast, decide and, in mode `act`, scale.
    Serve(serve::Args),
    /// A live view of every service over the API, with keys to hold, override and switch mode.
    Top(top::Args),
    /// Take recorded load (CSV `timestamp,value` or Parquet) into the store.
    Import(import::Args),
    /// Fit a model from recorded load, backtest it and write it.
    Train(train::Args),
    /// List, inspect, promote and roll back the models of a service.
    Models(models::Args),
    /// Forecast a service: a table, JSON or a picture.
    Forecast(forecast::Args),
    /// Score forecasters on recorded load.
    Backtest(backtest::Args),
    /// Policies side by side on recorded load.
    Compare(compare::Args),
    /// What would be done now, and why; changes nothing.
    Plan(plan::Args),
    /// An example configuration, or a check of yours.
    Config(config::Args),
    /// A CPU-bound HTTP worker with a limited capacity, for the demo and for trying things out.
    Worker(worker::Args),
}

fn main() -> ExitCode {
    memory::give_back();
    let cli = Cli::parse();
    let quiet = matches!(cli.command, Command::Demo(_) | Command::Top(_));
    let log = cli.log.unwrap_or_else(|| if quiet { "error" } else { "warn" }.into());
    let filter = match EnvFilter::try_new(&log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("foresail: --log {log}: {error}; for instance `info` or `foresail=debug`");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("foresail: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::Failed(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Import(args) => import::run(args).await,
            Command::Train(args) => train::run(args).await,
            Command::Models(args) => models::run(args).await,
            Command::Forecast(args) => forecast::run(args).await,
            Command::Backtest(args) => backtest::run(args).await,
            Command::Compare(args) => compare::run(args).await,
            Command::Plan(args) => plan::run(args).await,
            Command::Config(args) => config::run(args).await,
            Command::Worker(args) => worker::run(args).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        super::Cli::command().debug_assert();
    }
}
