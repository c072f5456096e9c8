//! Pure: the questions before a change: how many replicas, for how long, are you sure.

use std::time::Duration;

use chrono::TimeDelta;
use ratatui::crossterm::event::KeyCode;

use super::moment::Focus;
use super::state::Action;
use crate::config::Mode;
use crate::series::Time;

/// Longest override, as the API takes it.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// How long an override lasts if the user just presses enter.
const USUAL: &str = "10m";
/// Most characters of an answer.
const MAX_ANSWER: usize = 20;

/// A question about one service, with the answer as far as it is typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    service: String,
    /// The service's time when it was asked; overrides count from there.
    asked: Time,
    question: Question,
    pub typed: String,
    /// What is wrong with the last answer.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Question {
    HowMany { min: u32, max: u32 },
    HowLong { replicas: u32, reason: &'static str },
    Switch { to: Mode },
}

/// What a key made of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Open(Prompt),
    Done(Action),
    Cancelled,
}

impl Prompt {
    /// Keep as many replicas as are desired now; `None` before the first decision.
    pub fn hold(focus: &Focus) -> Option<Prompt> {
        let replicas = focus.detail.summary.desired_replicas?;
        let question = Question::HowLong { replicas, reason: "held in foresail top" };
        Some(Prompt { typed: USUAL.into(), ..Prompt::new(focus, question) })
    }

    pub fn replicas(focus: &Focus) -> Prompt {
        let settings = &focus.detail.settings;
        let (min, max) = (settings.min_replicas, settings.max_replicas);
        Prompt::new(focus, Question::HowMany { min, max })
    }

    pub fn mode(focus: &Focus) -> Prompt {
        let to = match focus.detail.summary.mode {
            Mode::Observe => Mode::Act,
            Mode::Act => Mode::Observe,
        };
        Prompt::new(focus, Question::Switch { to })
    }

    fn new(focus: &Focus, question: Question) -> Prompt {
        let summary = &focus.detail.summary;
        let (service, asked) = (summary.name.clone(), summary.time);
        Prompt { service, asked, question, typed: String::new(), error: None }
    }

    /// One line that ends where the answer begins.
    pub fn text(&self) -> String {
        let service = &self.service;
        match &self.question {
            Question::HowMany { min, max } => {
                format!("{service}: how many replicas ({min} to {max})?")
            }
            Question::HowLong { replicas, .. } => {
                format!("{service}: hold {replicas} replicas for how long?")
            }
            Question::Switch { to: Mode::Act } => {
                format!("{service}: let Foresail start and stop replicas? y/n")
            }
            Question::Switch { to: Mode::Observe } => {
                format!("{service}: stop scaling, only observe? y/n")
            }
        }
    }

    /// Takes in one key. Esc cancels, enter answers; a wrong answer stays, with what is wrong.
    pub fn press(mut self, key: KeyCode) -> Outcome {
        if let Question::Switch { to } = self.question {
            return match key {
                KeyCode::Char('y' | 'Y') => {
                    Outcome::Done(Action::SetMode { service: self.service, mode: to })
                }
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Outcome::Cancelled,
                _ => Outcome::Open(self),
            };
        }
        match key {
            KeyCode::Esc => return Outcome::Cancelled,
            KeyCode::Enter => {
                return match self.answered() {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Open(Prompt { error: Some(error), ..self }),
                };
            }
            KeyCode::Backspace => {
                self.typed.pop();
            }
            KeyCode::Char(c) if !c.is_control() && self.typed.chars().count() < MAX_ANSWER => {
                self.typed.push(c);
            }
            _ => {}
        }
        Outcome::Open(Prompt { error: None, ..self })
    }

    /// # Errors
    /// What is wrong with the answer.
    fn answered(&self) -> Result<Outcome, String> {
        let typed = self.typed.trim();
        match self.question {
            Question::HowMany { min, max } => {
                let replicas = typed.parse().ok().filter(|n| (min..=max).contains(n));
                let replicas =
                    replicas.ok_or_else(|| format!("a whole number from {min} to {max}"))?;
                let question = Question::HowLong { replicas, reason: "set in foresail top" };
                let typed = USUAL.to_string();
                Ok(Outcome::Open(Prompt { question, typed, error: None, ..self.clone() }))
            }
            Question::HowLong { replicas, reason } => {
                let held = humantime::parse_duration(typed).ok();
                let held = held.filter(|held| (Duration::from_secs(1)..=LONGEST).contains(held));
                let held = held.ok_or("from 1s to 30d, for instance 10m or 2h 30m")?;
                // The question took a moment to answer, and the API refuses what lies beyond.
                let held = held.min(LONGEST - Duration::from_secs(60));
                let until = self.asked + TimeDelta::from_std(held).unwrap_or_default();
                let (service, reason) = (self.service.clone(), reason.to_string());
                Ok(Outcome::Done(Action::Override { service, replicas, until, reason }))
            }
            // Answered by single keys.
            Question::Switch { .. } => Ok(Outcome::Open(self.clone())),
        }
    }
}
