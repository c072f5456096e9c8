//! Pure: the step machine of one service; owns window, model and history.
//!
//! The live service and the simulator both call [`Autoscaler::step`]; there is no second
//! implementation of any rule. Training is asked for ([`Autoscaler::training_due`]) and adopted
//! ([`Autoscaler::adopt`]), so that the live service can fit in the background while the simulator
//! fits in line.

pub mod demand;
pub mod learning;
mod source;
mod startup;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use crate::forecast::trainer::TrainOptions;
use crate::forecast::{Forecast, Model, adaptation::Adaptation, drift::Drift, events::Events};
use crate::planner::budget::Budget;
use crate::planner::peers::Memory;
use crate::planner::predictive::Predictive;
use crate::planner::regret::Regret;
use crate::planner::stabilization::History;
use crate::planner::threshold::Threshold;
use crate::planner::trust::Gate;
use crate::planner::{Basis, Behavior, Decision, PlanInput, Policy, Signal, plan};
use crate::series::{Series, Time};
use learning::{Asked, FIRST_TRAINING};
pub use learning::{Learning, TrainingSchedule};
use source::Source;
use startup::StartupDelays;
use window::{Window, elapsed, steps};

/// What one service asks of its autoscaler.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub policy: Policy,
    pub fallback: Threshold,
    pub behavior: Behavior,
    /// Time between steps; also the step of the demand series.
    pub evaluation_interval: Duration,
    /// Age past which demand is not trusted.
    pub max_staleness: Duration,
    pub training: TrainingSchedule,
    /// Startup delay assumed until one was measured.
    pub startup_delay: Duration,
    /// Highest startup delay planned for; bounds the forecast horizon.
    pub max_startup_delay: Duration,
}

/// What the world shows at a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// Newest demand; `None` if nothing could be read.
    pub demand: Option<DemandSample>,
    /// Demand one ready replica carries at full utilization; what is not above 0 is not known.
    pub capacity: f64,
    pub ready_replicas: u32,
    /// Ready replicas whose metric is missing; demand is that of the others.
    pub missing_metrics: u32,
    /// Starting, warming and ready.
    pub current_replicas: u32,
    /// Startup delays measured since the last step.
    pub startup_delays: Vec<Duration>,
}

/// Demand over the interval that ends at `time`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemandSample {
    pub time: Time,
    pub demand: f64,
    /// Workers were saturated: true demand may be higher.
    pub lower_bound: bool,
}

/// Quantiles of demand that the planner asks for: dense where it plans.
const QUANTILES: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999];

/// Fewest and most steps ahead that a model is trained for.
const HORIZON: (usize, usize) = (12, 60);

/// The state of one service between steps.
#[derive(Debug, Clone)]
pub struct Autoscaler {
    settings: Settings,
    source: Source,
    model: Option<Model>,
    window: Window,
    /// Newest demand within the fallback's window, saturated samples at no less than the supply.
    recent: VecDeque<(Time, f64)>,
    history: History,
    peers: Memory,
    budget: Budget,
    regret: Regret,
    gate: Gate,
    drift: Drift,
    adaptation: Adaptation,
    startup_delays: StartupDelays,
    forecast: Option<Forecast>,
    last_step: Option<Time>,
    asked: Option<Asked>,
}

impl Autoscaler {
    pub fn new(settings: Settings) -> Autoscaler {
        let step = settings.evaluation_interval.max(Duration::from_millis(1));
        let predictive = match &settings.policy {
            Policy::Predictive(predictive) => predictive.clone(),
            _ => Predictive::default(),
        };
        Autoscaler {
            window: Window::new(step, steps(settings.training.max_history, step)),
            source: Source::default(),
            recent: VecDeque::new(),
            history: History::default(),
            peers: Memory::default(),
            budget: Budget::new(&predictive),
            regret: Regret::default(),
            gate: Gate::default(),
            drift: Drift::default(),
            adaptation: Adaptation::default(),
            startup_delays: StartupDelays::default(),
            forecast: None,
            last_step: None,
            asked: None,
            model: None,
            settings,
        }
    }

    /// One decision. `now` never goes back; a repeated or earlier `now` holds.
    pub fn step(&mut self, now: Time, observation: &Observation) -> Decision {
        if self.last_step.is_some_and(|last| now <= last) {
            return self.decide(now, Signal::Missing, observation);
        }
        self.last_step = Some(now);
        self.startup_delays.add(&observation.startup_delays);
        self.history.observe(now, observation.current_replicas);
        let rule = self.fallback().clone();
        let signal = self.source.judge(now, observation, &self.settings, &rule);
        let news = self.take_in(now, signal, observation);
        let (forecast, steps) = (self.look_ahead(now), self.lookahead_steps());
        self.forecast = forecast.clone().map(|forecast| self.adaptation.adapt(forecast));
        if let (Some(demand), Policy::Predictive(_)) = (news, &self.settings.policy) {
            self.gate.expect(demand, steps, self.forecast.as_ref());
            // The model drifts in what it says itself, however well that is adapted.
            self.drift.expect(steps, forecast.as_ref());
        }
        let decision = self.decide(now, signal, observation);
        self.history.decided(decision.desired_replicas);
        self.peers.record(&self.settings.policy, &decision);
        if decision.basis != Basis::Hold {
            self.history.record(now, decision.recommendation, self.settings.behavior.memory());
            self.regret = self.regret.carried(&decision);
        }
        decision
    }

    /// What [`Autoscaler::step`] would decide; changes nothing.
    pub fn preview(&self, now: Time, observation: &Observation) -> Decision {
        self.clone().step(now, observation)
    }

    /// Loads recorded demand before the first step (restart, import). Its step must be the
    /// evaluation interval or a part of it, else it is passed over.
    pub fn restore(&mut self, history: Series) {
        self.window.restore(&history);
    }

    /// What to train on, if a training is due at `now` (see [`learning`]); asking marks it as asked
    /// for, so that one that fails is not tried again at every step.
    pub fn training_due(&mut self, now: Time) -> Option<(Series, TrainOptions)> {
        if !matches!(self.settings.policy, Policy::Predictive(_)) {
            return None;
        }
        let (schedule, history) = (&self.settings.training, self.window.series());
        let drifting = self.drift.alarm().is_some();
        self.asked = Some(Asked::due(schedule, self.asked, now, history, drifting)?);
        Some(self.training_set())
    }

    /// What to train on if somebody asks for it now.
    pub fn training_set(&self) -> (Series, TrainOptions) {
        let step = self.settings.evaluation_interval;
        let longest = match self.settings.max_startup_delay {
            Duration::ZERO => self.startup_delay() * 2,
            given => given,
        };
        let series = self.window.newest_steps();
        let options = TrainOptions {
            horizon: (steps(longest, step) + 1).clamp(HORIZON.0, HORIZON.1),
            max_history: steps(self.settings.training.max_history, step),
            ..TrainOptions::default()
        };
        (series, options)
    }

    /// Takes a model into use.
    pub fn adopt(&mut self, model: Model) {
        let schedule = &self.settings.training;
        self.gate.remember(model.season_lengths.first().copied(), schedule.cold_start(&model));
        self.gate.retry();
        self.drift.settle();
        self.adaptation.inherit();
        self.asked.get_or_insert(Asked::of(schedule, &model));
        self.model = Some(model);
    }

    /// Takes over a calendar that changed since the model was trained.
    pub fn schedule(&mut self, events: &Events) {
        if let Some(model) = &mut self.model {
            model.schedule(events);
        }
    }

    /// Keeps the model in use, which has stood up to a new one: a drift that was noticed is
    /// answered.
    pub fn keep(&mut self) {
        self.drift.settle();
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    /// What moves the model's quantiles until the next training.
    pub fn adaptation(&self) -> &Adaptation {
        &self.adaptation
    }

    /// How the model in use is doing.
    pub fn learning(&self) -> Learning {
        let schedule = &self.settings.training;
        Learning {
            drift: self.drift.alarm(),
            drift_evidence: self.drift.evidence(),
            cold_start: self.model.as_ref().and_then(|model| schedule.cold_start(model)),
        }
    }

    /// What people should know of the forecast, with every decision.
    pub fn notes(&self) -> Vec<String> {
        if !matches!(self.settings.policy, Policy::Predictive(_)) {
            return Vec::new();
        }
        let (known, learning) = (self.window.series().len(), self.learning());
        let waiting = (self.model.is_none() && known < FIRST_TRAINING)
            .then(|| format!("no model yet: {known} of {FIRST_TRAINING} samples"));
        let cold = learning.cold_start.map(|points| format!("cold start: {points} samples"));
        let drift = learning.drift.map(|alarm| alarm.sentence());
        waiting.into_iter().chain(cold).chain(drift).collect()
    }

    /// Demand as recorded, newest last.
    pub fn window(&self) -> &Series {
        self.window.series()
    }

    /// The forecast that the last step used.
    pub fn last_forecast(&self) -> Option<&Forecast> {
        self.forecast.as_ref()
    }

    /// Startup delay plus one interval: until then, this decision is the last that can act.
    fn lookahead(&self) -> Duration {
        self.startup_delay() + self.settings.evaluation_interval
    }

    fn lookahead_steps(&self) -> usize {
        steps(self.lookahead(), self.settings.evaluation_interval).max(1)
    }

    /// Adds a sample to the window, and learns from it if it opens a new step: what was forecast
    /// for that step is scored, and the planning quantile is steered by whether the step was
    /// overloaded. Gives the demand then.
    fn take_in(&mut self, now: Time, signal: Signal, observation: &Observation) -> Option<f64> {
        let mut news = None;
        let reliable = matches!(signal, Signal::Fresh { .. } | Signal::Doubted { .. });
        if let Some(sample) = observation.demand.filter(|_| reliable) {
            let DemandSample { demand, lower_bound, .. } = sample;
            let supply = observation.supply();
            let offered = if lower_bound { demand.max(supply) } else { demand };
            let grown = self.window.push(sample.time, demand, lower_bound);
            if let Some(grown) = grown {
                // A zero that is doubted must not weigh on the rule's mean either.
                if matches!(signal, Signal::Fresh { .. }) {
                    self.notice(now, offered);
                }
                (1..grown).for_each(|_| self.realise(now, None, false));
            }
            if grown.is_some_and(|grown| grown > 0) {
                self.budget = self.budget.demanded(demand / observation.capacity);
                // While the fallback acts alone, its overload says nothing about the price.
                if self.gate.trust().acts() {
                    self.budget = self.budget.observe(lower_bound || demand > supply);
                }
                self.realise(now, Some(demand), lower_bound);
                news = Some(demand);
            }
        }
        let given_up = self.window.expire(now);
        (0..given_up).for_each(|_| self.realise(now, None, false));
        news
    }

    /// Scores what was expected of the next step. Drift costs trust at once.
    fn realise(&mut self, now: Time, demand: Option<f64>, lower_bound: bool) {
        self.gate.realise(demand, lower_bound);
        self.adaptation.observe(demand.filter(|_| !lower_bound));
        if self.drift.realise(now, demand) {
            self.gate.demote("the model drifted");
        }
    }

    /// Keeps the demand that the fallback's window still holds, and the sample before it, which
    /// shows that the window is filled even where some steps were missed. A gap as long as the
    /// window starts it anew.
    fn notice(&mut self, now: Time, offered: f64) {
        self.recent.push_back((now, offered));
        let window = self.fallback().window;
        while let (Some(&(first, _)), Some(&(second, _))) =
            (self.recent.front(), self.recent.get(1))
            && (elapsed(second, now) >= window || elapsed(first, second) > window)
        {
            self.recent.pop_front();
        }
    }

    /// A forecast from the end of the window to the end of the lookahead.
    fn look_ahead(&self, now: Time) -> Option<Forecast> {
        let model = self.model.as_ref()?;
        let series = self.window.series();
        let behind = elapsed(series.end(), now).as_millis() / series.step().as_millis().max(1);
        let steps = self.lookahead_steps().saturating_add(behind as usize).min(model.horizon);
        model.forecast(series, steps, &QUANTILES).ok()
    }

    fn decide(&self, now: Time, signal: Signal, observation: &Observation) -> Decision {
        let input = PlanInput {
            now,
            signal,
            capacity: observation.known_capacity(),
            ready_replicas: observation.ready_replicas,
            missing_metrics: observation.missing_metrics,
            current_replicas: observation.current_replicas,
            utilization_window: self.utilization(now, observation),
            forecast: self.forecast.as_ref(),
            lookahead: self.lookahead(),
            prices: self.budget.prices(self.settings.evaluation_interval, self.lookahead_steps()),
            regret: self.regret,
            trust: &self.gate.trust(),
            history: &self.history,
            peers: &self.peers,
            behavior: &self.settings.behavior,
            fallback: &self.settings.fallback,
        };
        Decision { notes: self.notes(), ..plan(&self.settings.policy, &input) }
    }

    /// Mean recent demand over the supply of all current replicas; `None` until the fallback's
    /// window is filled.
    fn utilization(&self, now: Time, observation: &Observation) -> Option<f64> {
        let &(oldest, _) = self.recent.front()?;
        // Half an interval of grace, because samples jitter.
        let filled = elapsed(oldest, now) + self.settings.evaluation_interval * 3 / 2;
        let supply = f64::from(observation.current_replicas) * observation.known_capacity();
        if filled < self.fallback().window || supply <= 0.0 {
            return None;
        }
        let window = self.fallback().window.max(Duration::from_millis(1));
        let within = self.recent.iter().filter(|(time, _)| elapsed(*time, now) < window);
        let (sum, count) = within.fold((0.0, 0), |(sum, n), (_, demand)| (sum + demand, n + 1));
        (count > 0).then(|| sum / f64::from(count) / supply)
    }

    fn fallback(&self) -> &Threshold {
        match &self.settings.policy {
            Policy::Threshold(rule) => rule,
            _ => &self.settings.fallback,
        }
    }
}

#[cfg(test)]
mod tests;
