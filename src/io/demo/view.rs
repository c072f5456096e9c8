//! Pure: what the demo shows while it runs: one line a second, or a live picture on a terminal.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Wrap};

use super::days::{Outcome, Request};
use super::scenario::Scenario;
use crate::fleet::{Phase, Replica};
use crate::io::service::Snapshot;
use crate::planner::{Basis, Decision};

/// Days that the chart shows behind now, and ahead.
const DAYS_BEHIND: f64 = 1.6;
const DAYS_AHEAD: f64 = 0.4;
/// Quantiles of the forecast's band.
const BAND: [f64; 2] = [0.1, 0.9];

/// One step of the chart, in cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at: Duration,
    pub demand: Option<f64>,
    /// Ready replicas x capacity.
    pub supply: f64,
    /// The band in which demand was expected one lookahead later, and when that is.
    pub expected: Option<(Duration, [f64; 2])>,
}

/// Latency and outcome of the newest requests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Latest {
    pub latency_ms_p99: f64,
    /// Requests that were not answered, since the start: refused or failed.
    pub unanswered: usize,
}

/// All that there is to see at one instant.
pub struct Scene<'a> {
    pub scenario: &'a Scenario,
    pub at: Duration,
    pub points: &'a [Point],
    pub snapshot: &'a Snapshot,
    pub latest: Latest,
    pub api: SocketAddr,
}

pub fn ready(snapshot: &Snapshot) -> u32 {
    count(snapshot, |r| r.serves())
}

/// All that are paid for.
pub fn running(snapshot: &Snapshot) -> u32 {
    count(snapshot, |r| r.phase != Phase::Gone)
}

fn count(snapshot: &Snapshot, which: impl Fn(&Replica) -> bool) -> u32 {
    snapshot.replicas.iter().filter(|r| which(r)).count() as u32
}

impl Point {
    pub fn new(at: Duration, snapshot: &Snapshot) -> Point {
        let expected = snapshot.forecast.as_ref().and_then(|forecast| {
            let step = Duration::from_millis(forecast.step_ms);
            let steps = snapshot.startup_delay.as_millis().div_ceil(step.as_millis().max(1));
            let h = (steps as usize).min(forecast.horizon().checked_sub(1)?);
            let band = [forecast.at(h, BAND[0])?, forecast.at(h, BAND[1])?];
            Some((at + step * (h as u32 + 1), band))
        });
        let supply = f64::from(ready(snapshot)) * snapshot.capacity;
        Point { at, demand: snapshot.demand, supply, expected }
    }
}

impl Latest {
    /// Latency of the newest few hundred.
    pub fn of(requests: &[Request]) -> Latest {
        let newest = &requests[requests.len().saturating_sub(300)..];
        let mut latencies: Vec<Duration> = newest.iter().map(|r| r.latency).collect();
        latencies.sort_unstable();
        let p99 =
            latencies.get((latencies.len() * 99 / 100).min(latencies.len().saturating_sub(1)));
        Latest {
            latency_ms_p99: p99.map_or(0.0, |latency| latency.as_secs_f64() * 1e3),
            unanswered: requests.iter().filter(|r| r.outcome != Outcome::Answered).count(),
        }
    }
}

impl Scene<'_> {
    fn decision(&self) -> Option<&Decision> {
        self.snapshot.decisions.last().map(AsRef::as_ref)
    }

    fn day(&self) -> usize {
        (self.at.as_nanos() / self.scenario.day.as_nanos().max(1)) as usize + 1
    }

    fn rule(&self) -> &'static str {
        match self.decision().map(|d| d.basis) {
            Some(Basis::Forecast) => "forecast",
            Some(Basis::Reactive) => "threshold",
            Some(Basis::Hold) | None => "hold",
        }
    }

    /// One line for a pipe.
    pub fn line(&self) -> String {
        let point = self.points.last();
        format!(
            "{:5.1} s  day {:2}  {:9}  load {:.2} of {:.2} cores  {:2} ready of {:2}  \
             p99 {:5.0} ms  {} unanswered  {}",
            self.at.as_secs_f64(),
            self.day(),
            self.rule(),
            point.and_then(|p| p.demand).unwrap_or(0.0),
            point.map_or(0.0, |p| p.supply),
            ready(self.snapshot),
            running(self.snapshot),
            self.latest.latency_ms_p99,
            self.latest.unanswered,
            self.decision().map_or("", |d| d.reason.as_str()),
        )
    }

    /// The live picture.
    pub fn draw(&self, frame: &mut Frame) {
        let rows = [Constraint::Length(2), Constraint::Min(6), Constraint::Length(6)];
        let [head, chart, foot] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        self.draw_chart(frame, chart);
        let foot_text = Paragraph::new(self.foot()).wrap(Wrap { trim: true });
        frame.render_widget(foot_text.block(Block::bordered().title(" decision ")), foot);
    }

    fn head(&self) -> Vec<Line<'static>> {
        let days = self.scenario.duration.as_secs_f64() / self.scenario.day.as_secs_f64();
        let bold = Style::new().add_modifier(Modifier::BOLD);
        vec![
            Line::from(vec![
                Span::styled("Foresail demo", bold),
                Span::raw(format!("   day {} of {days:.0}   rule: ", self.day())),
                Span::styled(self.rule(), bold.fg(Color::Yellow)),
                Span::raw(format!("   http://{}   q: quit", self.api)),
            ]),
            Line::from(format!(
                "{} ready of {} replicas   p99 latency {:.0} ms   unanswered requests {}",
                ready(self.snapshot),
                running(self.snapshot),
                self.latest.latency_ms_p99,
                self.latest.unanswered
            )),
        ]
    }

    fn foot(&self) -> Vec<Line<'static>> {
        let Some(decision) = self.decision() else { return vec![Line::from("none yet")] };
        let method = self.snapshot.model.as_ref().map_or_else(
            || "no model yet: learning".to_owned(),
            |model| format!("model: {:?}, seasons {:?}", model.method, model.season_lengths),
        );
        vec![
            Line::from(decision.reason.clone()),
            Line::from(format!(
                "{} replicas wanted, {} without the forecast",
                decision.desired_replicas, decision.without_forecast
            )),
            Line::from(format!("{method}; trust: {}", decision.trust.reason)),
        ]
    }

    fn draw_chart(&self, frame: &mut Frame, area: ratatui::layout::Rect) {
        let day = self.scenario.day.as_secs_f64();
        let now = self.at.as_secs_f64();
        let [from, to] = [(now - DAYS_BEHIND * day).max(0.0), now + DAYS_AHEAD * day];
        let shown = || self.points.iter().filter(|p| p.at.as_secs_f64() >= from);
        let demand: Vec<(f64, f64)> =
            shown().filter_map(|p| Some((p.at.as_secs_f64(), p.demand?))).collect();
        let supply: Vec<(f64, f64)> = shown().map(|p| (p.at.as_secs_f64(), p.supply)).collect();
        let [low, median, high] = [BAND[0], 0.5, BAND[1]].map(|q| self.ahead(q));
        let line = |name, color, data| {
            let style = Style::new().fg(color);
            Dataset::default()
                .name(name)
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(style)
                .data(data)
        };
        let datasets = vec![
            line("ready capacity", Color::Green, &supply),
            line("load", Color::Cyan, &demand),
            line("forecast", Color::Yellow, &median),
            line("", Color::DarkGray, &low),
            line("", Color::DarkGray, &high),
        ];
        let all = [&demand, &supply, &high].into_iter().flatten().map(|&(_, y)| y);
        let top = all.fold(0.5, f64::max) * 1.1;
        let label = |x: f64| format!("{x:.1}");
        let x = Axis::default().bounds([from, to]).labels([label(from), label(to)]).title("s");
        let y =
            Axis::default().bounds([0.0, top]).labels(["0".to_owned(), label(top)]).title("cores");
        frame.render_widget(Chart::new(datasets).x_axis(x).y_axis(y), area);
    }

    /// Quantile `q` of the forecast from now on.
    fn ahead(&self, q: f64) -> Vec<(f64, f64)> {
        let Some(forecast) = &self.snapshot.forecast else { return vec![] };
        let lag = seconds_between(forecast.origin, self.snapshot.time);
        let step = forecast.step_ms as f64 / 1e3;
        let at = |h: usize| self.at.as_secs_f64() - lag + step * (h + 1) as f64;
        (0..forecast.horizon()).filter_map(|h| Some((at(h), forecast.at(h, q)?))).collect()
    }
}

fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use crate::forecast::{Forecast, Method};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn snapshot(forecast: Option<Forecast>) -> Snapshot {
        Snapshot {
            time: DateTime::UNIX_EPOCH,
            mode: Mode::Act,
            demand: Some(0.3),
            capacity: 0.1,
            replicas: vec![],
            decisions: vec![],
            forecast: forecast.map(Into::into),
            model: None,
            learning: Default::default(),
            startup_delay: Duration::from_millis(400),
            override_: None,
            counters: Default::default(),
            notes: vec![],
            standings: Default::default(),
            arrivals_total: 0,
            waiting: 0,
            refused_total: 0,
            retries_total: 0,
            retries_refused_total: 0,
            requests_total: 0,
            request_failures_total: 0,
        }
    }

    /// Three steps of 250 ms, from a tenth of a core up.
    fn forecast() -> Forecast {
        let path = |first: f64| vec![first, first + 0.1, first + 0.2];
        let paths = vec![path(0.1), path(0.2), path(0.3)];
        Forecast {
            method: Method::Naive,
            origin: DateTime::UNIX_EPOCH,
            step_ms: 250,
            quantiles: vec![0.1, 0.5, 0.9],
            point: path(0.2),
            peaks: paths.clone(),
            paths,
        }
    }

    #[test]
    fn a_point_tells_what_is_expected_one_startup_delay_later() {
        let at = Duration::from_secs(9);
        let point = Point::new(at, &snapshot(Some(forecast())));
        // 400 ms are two steps, so the third one counts: it ends 750 ms from now.
        let (when, band) = point.expected.unwrap();
        assert_eq!(when, at + Duration::from_millis(750));
        assert!((band[0] - 0.3).abs() < 1e-9 && (band[1] - 0.5).abs() < 1e-9, "{band:?}");
        assert_eq!(Point::new(at, &snapshot(None)).expected, None);
        let empty = Forecast { point: vec![], paths: vec![vec![]; 3], ..forecast() };
        assert_eq!(Point::new(at, &snapshot(Some(empty))).expected, None);
    }

    #[test]
    fn it_draws_on_every_size_of_terminal() {
        let scenario = Scenario::new(Duration::from_secs(120), 1);
        let at = Duration::from_secs(12);
        for (width, height, forecast) in
            [(120, 40, Some(forecast())), (80, 24, None), (20, 5, None), (1, 1, None)]
        {
            let snapshot = snapshot(forecast);
            let points =
                [Point::new(Duration::from_secs(11), &snapshot), Point::new(at, &snapshot)];
            let latest = Latest::of(&[]);
            let api = ([127, 0, 0, 1], 8080).into();
            let scene = Scene {
                scenario: &scenario,
                at,
                points: &points,
                snapshot: &snapshot,
                latest,
                api,
            };
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| scene.draw(frame)).unwrap();
            let screen = terminal.backend().to_string();
            assert_eq!(screen.contains("day 2 of 12"), width >= 80, "{screen}");
            assert!(scene.line().contains("day  2") && scene.line().contains("load 0.30"));
        }
    }
}
