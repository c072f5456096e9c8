//! I/O: where the demo shows itself: a terminal that is given back as it was found, or a pipe.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio_util::sync::CancellationToken;

use super::view::Scene;

/// Time between lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time in which a key press is noticed, and in which the key thread ends.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

pub enum Screen {
    Live { terminal: DefaultTerminal, closed: CancellationToken },
    Lines { to_stderr: bool, next: Duration },
}

impl Screen {
    /// Live where standard output is a terminal. The keys q and Ctrl-C cancel `stop`.
    pub fn new(to_stderr: bool, stop: CancellationToken) -> Screen {
        let both = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        match both.then(ratatui::try_init) {
            Some(Ok(terminal)) => {
                let closed = CancellationToken::new();
                std::thread::spawn({
                    let closed = closed.clone();
                    move || watch_keys(&closed, &stop)
                });
                Screen::Live { terminal, closed }
            }
            // A terminal that cannot be drawn on can still take lines.
            Some(Err(_)) | None => Screen::Lines { to_stderr, next: Duration::ZERO },
        }
    }

    /// A line for a pipe; the live view shows the same in its own place.
    pub fn say(&self, text: &str) {
        let Screen::Lines { to_stderr, .. } = self else { return };
        // A reader that is gone must not end the demo: workers must be stopped first.
        let _ = if *to_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }

    pub fn show(&mut self, scene: &Scene) {
        match self {
            Screen::Live { terminal, .. } => {
                // The next one may succeed; a picture is worth no failure.
                let _ = terminal.draw(|frame| scene.draw(frame));
            }
            Screen::Lines { next, .. } if scene.at >= *next => {
                *next = scene.at + LINE_INTERVAL;
                self.say(&scene.line());
            }
            Screen::Lines { .. } => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Screen::Live { closed, .. } = self {
            closed.cancel();
            ratatui::restore();
        }
    }
}

/// In raw mode Ctrl-C is a key like any other.
fn watch_keys(closed: &CancellationToken, stop: &CancellationToken) {
    while !closed.is_cancelled() && !stop.is_cancelled() {
        if event::poll(KEY_INTERVAL).is_ok_and(|ready| ready)
            && let Ok(Event::Key(key)) = event::read()
            && quits(&key)
        {
            stop.cancel();
        }
    }
}

fn quits(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && (key.code == KeyCode::Char('q') || key.code == KeyCode::Char('c') && control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_ctrl_c_quit_and_nothing_else() {
        let press = |code, modifiers| quits(&KeyEvent::new(code, modifiers));
        assert!(press(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(press(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!press(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!press(KeyCode::Enter, KeyModifiers::NONE));
    }
}
