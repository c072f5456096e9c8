//! I/O: `foresail config`: an example configuration, and a check of the user's.

use std::path::{Path, PathBuf};

use super::CommandError;
use crate::config::{self, Config, ConfigError};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a commented example with every key.
    Example,
    /// Say everything that is wrong with a file, or "ok".
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    match args.command {
        Command::Example => print!("{}", config::EXAMPLE),
        Command::Check { file } => {
            let count = load(&file)?.services.len();
            println!("ok: {count} service{}", if count == 1 { "" } else { "s" });
        }
    }
    Ok(())
}

/// Reads and validates a file, with the environment laid over it.
///
/// # Errors
/// [`CommandError::BadInput`] with every error, one a line: `FILE:LINE: key: message`.
pub fn load(file: &Path) -> Result<Config, CommandError> {
    let shown = file.display();
    let text = std::fs::read(file).map_err(|e| CommandError::BadInput(format!("{shown}: {e}")))?;
    let text = String::from_utf8(text)
        .map_err(|e| CommandError::BadInput(format!("{shown}: no UTF-8 text: {e}")))?;
    config::parse_with_env(&text, &variables())
        .map_err(|errors| CommandError::BadInput(listed(file, &errors)))
}

/// What holds without a file: services are found by the labels of their containers.
///
/// # Errors
/// [`CommandError::BadInput`] with what is wrong in the environment.
pub fn discover() -> Result<Config, CommandError> {
    config::parse_with_env("[discovery]\ndocker = true\n", &variables())
        .map_err(|errors| CommandError::BadInput(listed(Path::new("environment"), &errors)))
}

/// A variable that is no UTF-8 can be none of ours: addresses, tokens and paths that we can show.
fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The command line puts its name before the first line; a list starts below it.
fn listed(file: &Path, errors: &[ConfigError]) -> String {
    let mut text = match errors.len() {
        1 => "the configuration has an error:".to_string(),
        n => format!("the configuration has {n} errors:"),
    };
    for error in errors {
        let colon = if error.line.is_some() { "" } else { " " };
        text.push_str(&format!("\n{}:{colon}{error}", file.display()));
    }
    text
}
