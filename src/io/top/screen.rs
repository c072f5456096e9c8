//! I/O: the terminal of `foresail top`, given back as it was found, however the program ends.

use std::io::{IsTerminal, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, KeyEvent};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// Longest time in which the key thread notices that the screen is closed.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

/// What the terminal tells.
pub enum Input {
    Key(KeyEvent),
    /// Its size changed, or its window is back.
    Redraw,
}

/// A terminal in raw mode on its alternate screen; both end when it is dropped, and before the
/// message of a panic.
pub struct Screen {
    terminal: DefaultTerminal,
    inputs: mpsc::Receiver<Input>,
    closed: Arc<AtomicBool>,
}

impl Screen {
    /// # Errors
    /// A sentence if standard input or output is no terminal, or cannot be drawn on.
    pub fn open() -> Result<Screen, String> {
        for (is_terminal, name) in
            [(stdout().is_terminal(), "output"), (stdin().is_terminal(), "input")]
        {
            if !is_terminal {
                return Err(format!("standard {name} is no terminal; `--once` prints one picture"));
            }
        }
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            format!("the terminal cannot be drawn on: {error}; `--once` prints one picture")
        })?;
        let (sender, inputs) = mpsc::channel(16);
        let closed = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let closed = closed.clone();
            move || watch(&closed, &sender)
        });
        Ok(Screen { terminal, inputs, closed })
    }

    /// `None` once nothing can come any more.
    pub async fn input(&mut self) -> Option<Input> {
        self.inputs.recv().await
    }

    /// # Errors
    /// A sentence if the terminal is gone.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame)) -> Result<(), String> {
        let drawn = self.terminal.draw(picture);
        drawn.map(|_| ()).map_err(|error| format!("the terminal cannot be drawn on: {error}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // The terminal may be gone; nobody is left to be told.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Ends, and with it the channel, when the terminal is gone.
fn watch(closed: &AtomicBool, inputs: &mpsc::Sender<Input>) {
    while !closed.load(Ordering::Relaxed) {
        let input = match event::poll(KEY_INTERVAL) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let Ok(input) = input else { return };
        let input = match input {
            event::Event::Key(key) => Input::Key(key),
            _ => Input::Redraw,
        };
        if inputs.blocking_send(input).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set for the copy of this test that runs on a terminal, and panics there.
    const INSIDE: &str = "FORESAIL_TEST_PANIC";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_so() {
        if std::env::var_os(INSIDE).is_some() {
            let _screen = Screen::open().expect("a terminal");
            panic!("on purpose");
        }
        let this = std::env::current_exe().expect("a path");
        let name = "io::top::screen::tests::a_panic_gives_the_terminal_back_before_it_says_so";
        let command = format!(
            "stty rows 24 cols 80; echo before $(stty -g); \
             {INSIDE}=1 {} --exact {name} --nocapture; echo after $(stty -g)",
            this.display()
        );
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("SHELL", "/bin/sh");
        let Ok(output) = script.stdin(std::process::Stdio::null()).output() else {
            return eprintln!(
                "left out: what needs `script` of util-linux, which is not installed"
            );
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let settings = |name: &str| {
            text.lines().find_map(|line| line.trim().split(name).nth(1)).map(String::from)
        };
        assert!(settings("before ").is_some(), "{text:?}");
        assert_eq!(settings("before "), settings("after "), "{text:?}");
        let places = ["\x1b[?1049h", "\x1b[?1049l", "on purpose"].map(|part| text.find(part));
        assert!(places.is_sorted() && places[0].is_some(), "{places:?} in {text:?}");
    }
}
