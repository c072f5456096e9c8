//! I/O: `foresail top`: every service of a running Foresail on a terminal, over the HTTP API.
//!
//! What is known, and what each key does, is [`state`], and pure: [`state::update`] takes an event
//! and answers with effects. [`view::render`] draws a state on a buffer. This file carries out the
//! effects, and everything runs in one task: no lock, and a panic leaves the terminal as it was.

pub mod client;
mod moment;
mod prompt;
mod screen;
pub mod state;
mod text;
pub mod view;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use self::client::Client;
use self::screen::{Input, Screen};
use self::state::{Effect, Event, State, update};
use super::signal;

/// Time between looks at the clock; ages on the screen are at most so much behind.
const TICK: Duration = Duration::from_millis(250);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    #[error("{0}")]
    Terminal(String),
    #[error("{0}")]
    UnknownService(String),
    #[error("{0}")]
    Api(String),
}

/// Shows the services until the user quits, or SIGTERM. An API that does not answer is tried again.
///
/// # Errors
/// [`TopError::Terminal`] if there is no terminal to draw on.
pub async fn live(client: &Client, mut state: State) -> Result<(), TopError> {
    let mut screen = Screen::open().map_err(TopError::Terminal)?;
    let started = Instant::now();
    let mut work: FuturesUnordered<BoxFuture<'_, Event>> = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(TICK);
    let mut interrupted = std::pin::pin!(signal::interrupted());
    loop {
        let event = tokio::select! {
            input = screen.input() => match input {
                Some(Input::Key(key)) => Event::Key(key),
                Some(Input::Redraw) => Event::Tick(started.elapsed()),
                // Nobody can press a key any more: the terminal is gone.
                None => return Ok(()),
            },
            Some(event) = work.next() => event,
            _ = ticks.tick() => Event::Tick(started.elapsed()),
            () = &mut interrupted => return Ok(()),
        };
        for effect in update(&mut state, event) {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Read(wanted) => work.push(
                    async move { Event::Read(client.read(&wanted).await.map(Box::new)) }.boxed(),
                ),
                Effect::Act(action) => {
                    work.push(async move { Event::Acted(client.act(&action).await) }.boxed());
                }
            }
        }
        let drawn = screen.draw(|frame| view::render(&state, frame.area(), frame.buffer_mut()));
        drawn.map_err(TopError::Terminal)?;
    }
}

/// One picture as text, without the live view's colours and key help.
///
/// # Errors
/// [`TopError`] if the API does not answer, or does not know the service.
pub async fn once(client: &Client, mut state: State, size: (u16, u16)) -> Result<String, TopError> {
    // Each reading brings the trends of some more services.
    let mut effects = update(&mut state, Event::Tick(Duration::ZERO));
    while let Some(Effect::Read(wanted)) = effects.pop() {
        let read = client.read(&wanted).await.map_err(TopError::Api)?;
        let more = !read.all_trends();
        state.services.clone_from(&read.services);
        if let Some(missing) = state.missing() {
            return Err(TopError::UnknownService(missing));
        }
        update(&mut state, Event::Read(Ok(Box::new(read))));
        if more {
            effects = update(&mut state, Event::Refresh);
        }
    }
    let area = Rect::new(0, 0, size.0, size.1);
    let mut buffer = Buffer::empty(area);
    view::render(&state, area, &mut buffer);
    Ok(text::of(&buffer))
}

#[cfg(test)]
mod tests;
