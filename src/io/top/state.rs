//! Pure: what `foresail top` knows, and what each event makes of it.
//!
//! One reading is under way at a time. After one that failed the next waits twice as long, up to
//! half a minute, and the picture stays as it was, marked as old. Time is that since the start, so
//! a clock that is set changes nothing; ages of what the service did are in the service's time.

use std::collections::BTreeMap;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::moment::{Focus, Moment, TRENDS, Wanted};
use super::prompt::{Outcome, Prompt};
use crate::config::Mode;
use crate::io::api::view::ServiceSummary;
use crate::series::Time;

/// Longest wait for the next try.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long what an action came to stays on the screen.
const MESSAGE: Duration = Duration::from_secs(8);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time since the start.
    Tick(Duration),
    Key(KeyEvent),
    /// Somebody wants a new reading now.
    Refresh,
    /// What a reading brought, or why it failed.
    Read(Result<Box<Moment>, String>),
    /// What came of an action, in a sentence.
    Acted(Result<String, String>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Read(Wanted),
    Act(Action),
    Quit,
}

/// A change that a user asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Override { service: String, replicas: u32, until: Time, reason: String },
    EndOverride { service: String },
    SetMode { service: String, mode: Mode },
}

/// Whether the API answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    Connecting,
    Up,
    Away { since: Duration, reason: String, failures: u32 },
}

/// What the lower half shows of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Decision,
    Replicas,
    Model,
    /// The chart alone, large.
    Load,
}

impl Tab {
    pub const ALL: [Tab; 4] = [Tab::Decision, Tab::Replicas, Tab::Model, Tab::Load];

    pub fn name(self) -> &'static str {
        match self {
            Tab::Decision => "decision",
            Tab::Replicas => "replicas",
            Tab::Model => "model",
            Tab::Load => "load",
        }
    }

    fn moved(self, by: usize) -> Tab {
        let at = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Tab::ALL[(at + by) % Tab::ALL.len()]
    }
}

/// Everything that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Where the API is, for people.
    pub url: String,
    interval: Duration,
    pub now: Duration,
    pub link: Link,
    /// When the next reading is due.
    pub next: Duration,
    /// One is under way; and another is wanted right after it.
    reading: bool,
    again: bool,
    pub services: Vec<ServiceSummary>,
    /// By name: services come and go.
    pub selected: Option<String>,
    pub focus: Option<Focus>,
    /// When the picture was read.
    pub read_at: Duration,
    pub trends: BTreeMap<String, (Duration, Vec<Option<f64>>)>,
    pub tab: Tab,
    /// First line of the lower half.
    pub scroll: u16,
    zoom: i32,
    pub prompt: Option<Prompt>,
    message: Option<(Duration, Result<String, String>)>,
    pub help: bool,
}

impl State {
    pub fn new(url: &str, interval: Duration, service: Option<String>) -> State {
        State {
            url: url.to_string(),
            interval,
            now: Duration::ZERO,
            link: Link::Connecting,
            next: Duration::ZERO,
            reading: false,
            again: false,
            services: Vec::new(),
            selected: service,
            focus: None,
            read_at: Duration::ZERO,
            trends: BTreeMap::new(),
            tab: Tab::Decision,
            scroll: 0,
            zoom: 0,
            prompt: None,
            message: None,
            help: false,
        }
    }

    /// Place of the selected service in the list.
    pub fn place(&self) -> Option<usize> {
        let name = self.selected.as_ref()?;
        self.services.iter().position(|service| service.name == *name)
    }

    /// What is known of the selected service.
    pub fn shown(&self) -> Option<&Focus> {
        let focus = self.focus.as_ref()?;
        (Some(&focus.detail.summary.name) == self.selected.as_ref()).then_some(focus)
    }

    /// What the last action came to, while it is new.
    pub fn message(&self) -> Option<&Result<String, String>> {
        self.message.as_ref().filter(|(at, _)| self.now < *at + MESSAGE).map(|(_, message)| message)
    }

    /// Why the selected service is not shown: there is none of that name.
    pub fn missing(&self) -> Option<String> {
        let name = self.selected.as_ref().filter(|_| self.place().is_none())?;
        let known: Vec<&str> = self.services.iter().map(|s| s.name.as_str()).collect();
        Some(format!("no service `{name}`; known: {}", known.join(", ")))
    }

    fn say(&mut self, message: Result<String, String>) {
        self.message = Some((self.now, message));
    }

    fn wanted(&self) -> Wanted {
        // Trends are read in turn, so one stays fresh until all others had theirs.
        let rounds = (self.services.len() / TRENDS + 2) as u32;
        let age = self.interval.saturating_mul(rounds) + Duration::from_secs(10);
        let fresh = self.trends.iter().filter(|(_, (at, _))| self.now < *at + age);
        Wanted {
            service: self.selected.clone(),
            zoom: self.zoom,
            fresh: fresh.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// A new reading, unless one is under way; then right after it.
    fn read(&mut self) -> Vec<Effect> {
        self.again = self.reading;
        self.next = self.now;
        self.due()
    }

    fn due(&mut self) -> Vec<Effect> {
        if self.reading || self.now < self.next {
            return Vec::new();
        }
        self.reading = true;
        vec![Effect::Read(self.wanted())]
    }

    fn take_in(&mut self, moment: Moment) {
        self.link = Link::Up;
        self.read_at = self.now;
        self.services = moment.services;
        if let Some(missing) = self.missing() {
            self.say(Err(missing));
        }
        if self.place().is_none() {
            self.selected = self.services.first().map(|service| service.name.clone());
            self.scroll = 0;
        }
        self.focus = moment.focus;
        let (now, services) = (self.now, &self.services);
        self.trends.extend(moment.trends.into_iter().map(|(name, trend)| (name, (now, trend))));
        self.trends.retain(|name, _| services.iter().any(|service| service.name == *name));
    }

    fn lost(&mut self, reason: String) {
        let (since, failures) = match &self.link {
            Link::Away { since, failures, .. } => (*since, *failures + 1),
            Link::Connecting | Link::Up => (self.now, 1),
        };
        let pause = self.interval.saturating_mul(2u32.saturating_pow(failures)).min(PAUSE_MAX);
        (self.next, self.again) = (self.now + pause, false);
        self.link = Link::Away { since, reason, failures };
    }

    fn select(&mut self, by: isize) -> Vec<Effect> {
        let Some(last) = self.services.len().checked_sub(1) else { return Vec::new() };
        let place = self.place().unwrap_or(0).saturating_add_signed(by).min(last);
        self.selected = Some(self.services[place].name.clone());
        self.scroll = 0;
        self.read()
    }
}

/// Takes in one event.
pub fn update(state: &mut State, event: Event) -> Vec<Effect> {
    match event {
        Event::Tick(now) => {
            state.now = now;
            state.due()
        }
        Event::Refresh => state.read(),
        Event::Read(outcome) => {
            state.reading = false;
            match outcome {
                Ok(moment) => {
                    state.take_in(*moment);
                    let pause = if state.again { Duration::ZERO } else { state.interval };
                    (state.next, state.again) = (state.now + pause, false);
                    state.due()
                }
                Err(reason) => {
                    state.lost(reason);
                    Vec::new()
                }
            }
        }
        Event::Acted(outcome) => {
            state.say(outcome);
            state.read()
        }
        Event::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Event::Key(key) => press(state, key),
    }
}

fn press(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
        return vec![Effect::Quit];
    }
    if let Some(prompt) = state.prompt.take() {
        return answer(state, prompt, key.code);
    }
    if state.help {
        state.help = false;
        return Vec::new();
    }
    match key.code {
        KeyCode::Char('q') => return vec![Effect::Quit],
        KeyCode::Char('?') => state.help = true,
        KeyCode::Down | KeyCode::Char('j') => return state.select(1),
        KeyCode::Up | KeyCode::Char('k') => return state.select(-1),
        KeyCode::Home => return state.select(isize::MIN),
        KeyCode::End => return state.select(isize::MAX),
        KeyCode::Tab | KeyCode::Enter | KeyCode::Right => {
            (state.tab, state.scroll) = (state.tab.moved(1), 0)
        }
        KeyCode::BackTab | KeyCode::Left => (state.tab, state.scroll) = (state.tab.moved(3), 0),
        KeyCode::PageDown => state.scroll = state.scroll.saturating_add(5).min(1000),
        KeyCode::PageUp => state.scroll = state.scroll.saturating_sub(5),
        KeyCode::Char('-') => return zoom(state, 1),
        KeyCode::Char('+' | '=') => return zoom(state, -1),
        KeyCode::Char('r') => return state.read(),
        KeyCode::Char(c @ ('h' | 'o' | 'd' | 'm')) => return begin(state, c),
        _ => {}
    }
    Vec::new()
}

fn zoom(state: &mut State, by: i32) -> Vec<Effect> {
    state.zoom = (state.zoom + by).clamp(-4, 8);
    state.read()
}

/// Asks what there is to ask before an action.
fn begin(state: &mut State, key: char) -> Vec<Effect> {
    if state.link != Link::Up {
        state.say(Err("the API does not answer: nothing can be changed now".into()));
        return Vec::new();
    }
    let Some(focus) = state.shown() else { return Vec::new() };
    let summary = &focus.detail.summary;
    let service = summary.name.clone();
    let overridden = summary.override_.is_some();
    match key {
        'h' => state.prompt = Prompt::hold(focus),
        'o' => state.prompt = Some(Prompt::replicas(focus)),
        'm' => state.prompt = Some(Prompt::mode(focus)),
        _ if overridden => return vec![Effect::Act(Action::EndOverride { service })],
        _ => state.say(Err(format!("{service} has no override"))),
    }
    if state.prompt.is_none() && key == 'h' {
        state.say(Err("nothing is decided yet that could be held".into()));
    }
    Vec::new()
}

fn answer(state: &mut State, prompt: Prompt, key: KeyCode) -> Vec<Effect> {
    match prompt.press(key) {
        Outcome::Open(prompt) => {
            state.prompt = Some(prompt);
            Vec::new()
        }
        Outcome::Cancelled => {
            state.say(Ok("nothing was changed".into()));
            Vec::new()
        }
        Outcome::Done(action) => vec![Effect::Act(action)],
    }
}
