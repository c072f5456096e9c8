//! I/O: `foresail top`: a live view of every service over the API.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use super::{CommandError, output};
use crate::io::top::client::Client;
use crate::io::top::state::State;
use crate::io::top::{self, TopError};

/// Size of a picture that is not for a terminal.
const SIZE: (u16, u16) = (100, 36);

/// Shows load, forecast, replicas and the last decision of every service of a running Foresail.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  foresail top                                 every service of the Foresail on this machine
  foresail top web --url http://10.0.0.5:8080  start on one, elsewhere
  foresail top --once --size 120x40            one picture, for scripts and mails

Keys: arrows choose a service, tab what is shown of it, h holds its replicas as they are,
o overrides them, d ends that, m switches between observe and act, ? lists all, q quits.")]
pub struct Args {
    /// The service to start on; the first without it.
    service: Option<String>,
    /// Where the API listens.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// The token that the API was given.
    #[arg(long, env = "FORESAIL_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Time between two readings.
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = interval)]
    interval: Duration,
    /// Print one picture and end; needs no terminal.
    #[arg(long)]
    once: bool,
    /// Of that picture, in columns and lines; the terminal's, else 100x36, without it.
    #[arg(long, requires = "once", value_name = "WxH", value_parser = size)]
    size: Option<(u16, u16)>,
}

pub async fn run(args: Args) -> Result<(), CommandError> {
    let token = args.token.as_deref().filter(|token| !token.is_empty());
    let client = Client::new(&args.url, token).map_err(CommandError::BadInput)?;
    let state = State::new(client.url(), args.interval, args.service);
    if !args.once {
        return top::live(&client, state).await.map_err(|error| failed(&client, &error));
    }
    let terminal = stdout().is_terminal().then(ratatui::crossterm::terminal::size);
    let size = args.size.or(terminal.and_then(Result::ok)).unwrap_or(SIZE);
    let picture = top::once(&client, state, size).await;
    output::print(&picture.map_err(|error| failed(&client, &error))?)
}

fn failed(client: &Client, error: &TopError) -> CommandError {
    match error {
        TopError::Terminal(_) => CommandError::BadInput(error.to_string()),
        TopError::UnknownService(_) => CommandError::BadInput(format!("{}: {error}", client.url())),
        TopError::Api(_) => CommandError::Failed(format!("{}: {error}", client.url())),
    }
}

/// # Errors
/// A sentence if it is no duration within bounds.
fn interval(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    let parsed = humantime::parse_duration(text).ok().filter(|time| bounds.contains(time));
    parsed.ok_or_else(|| "write a duration from 100ms to 1h, for instance 2s".to_string())
}

/// # Errors
/// A sentence if it is no size within bounds.
fn size(text: &str) -> Result<(u16, u16), String> {
    let numbers = text.split_once('x').and_then(|(width, height)| {
        Some((width.parse::<u16>().ok()?, height.parse::<u16>().ok()?))
    });
    let bounds = 1..=500;
    let within = |(width, height): &(u16, u16)| bounds.contains(width) && bounds.contains(height);
    numbers
        .filter(within)
        .ok_or_else(|| "write columns x lines, each 1 to 500, for instance 120x40".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_intervals_are_bounded() {
        assert_eq!(size("120x40"), Ok((120, 40)));
        for wrong in ["", "x", "120", "0x40", "120x501", "-1x4", "1x2x3", "70000x1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "2", "99ms", "2h", "soon"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
