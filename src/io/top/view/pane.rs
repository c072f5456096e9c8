//! Pure: the last decision, the replicas and the model of a service as lines of text.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::super::moment::Focus;
use super::super::state::Tab;
use super::super::text::{age, age_of, clean, number, percent};
use super::{ALARM, BOLD, GREY, unit};
use crate::fleet::Phase;
use crate::io::api::view::{ReplicaView, ServiceDetail};
use crate::io::artifact::catalog::ModelInfo;
use crate::planner::{Basis, Decision, Signal};
use crate::series::Time;

/// Draws a tab, from line `scroll` on.
pub fn draw(tab: Tab, focus: &Focus, scroll: u16, area: Rect, buffer: &mut Buffer) {
    let lines = match tab {
        Tab::Decision => decision(&focus.detail),
        Tab::Replicas => replicas(&focus.replicas, focus.detail.summary.time),
        Tab::Model => model(&focus.detail),
        Tab::Load => Vec::new(),
    };
    // The last line stays in sight.
    let scroll = scroll.min(lines.len().saturating_sub(1) as u16);
    Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((scroll, 0)).render(area, buffer);
}

fn line(text: impl AsRef<str>) -> Line<'static> {
    Line::raw(clean(text.as_ref()))
}

fn decision(detail: &ServiceDetail) -> Vec<Line<'static>> {
    let summary = &detail.summary;
    let mut lines = Vec::new();
    if let Some(override_) = &summary.override_ {
        let until = override_.until.format("%Y-%m-%d %H:%M:%S");
        let text = format!(
            "override: {} until {until} UTC: {}",
            count(override_.replicas),
            override_.reason
        );
        lines.push(Line::styled(clean(&text), Style::new().fg(Color::Magenta)));
    }
    match &detail.decision {
        Some(decision) => lines.extend(reasons(decision, detail)),
        None => lines.push(line("nothing is decided yet")),
    }
    let notes = summary.notes.iter().map(|note| Line::styled(clean(&format!("! {note}")), ALARM));
    lines.extend(notes);
    lines
}

fn reasons(decision: &Decision, detail: &ServiceDetail) -> Vec<Line<'static>> {
    let summary = &detail.summary;
    let passed = age_of(summary.time - decision.time);
    let (basis, unit) = (basis(decision.basis), unit(summary.demand_unit));
    let mut lines = vec![
        Line::from(vec![
            Span::styled(format!("{} wanted", count(decision.desired_replicas)), BOLD),
            Span::raw(format!(", {basis}, {passed} ago: ")),
            Span::raw(clean(&decision.reason)),
        ]),
        line(format!(
            "load {}; {} of {} ready, each carries {} {unit}; {} without the forecast",
            signal(&decision.signal, unit),
            decision.ready_replicas,
            decision.current_replicas,
            number(decision.capacity),
            decision.without_forecast,
        )),
    ];
    if let Some(used) = &decision.forecast {
        lines.push(line(format!(
            "peak within {}: {} (80 %: {} to {}); {} risk of overload with {}",
            age(Duration::from_millis(used.lookahead_ms)),
            number(used.peak_median),
            number(used.peak_low),
            number(used.peak_high),
            percent(used.overload_risk),
            count(used.planned),
        )));
    }
    let trust = &decision.trust;
    let trusted = match (trust.trusted, trust.doubted) {
        (true, _) => "trusted",
        (false, true) => "doubted",
        (false, false) => "not trusted",
    };
    let skill = trust.skill.map(|skill| format!(", skill {skill:.2}")).unwrap_or_default();
    lines.push(line(format!("forecast {trusted}{skill}: {}", trust.reason)));
    let rules = decision.proposals.iter().map(|proposal| {
        line(format!("rule {}: {}, {}", proposal.rule, proposal.replicas, proposal.reason))
    });
    lines.extend(rules);
    let limits = decision.limits.iter().map(|applied| {
        let (limit, before, after) = (applied.limit.name(), applied.before, applied.after);
        line(format!("limit {limit}: {before} to {after}, {}", applied.reason))
    });
    lines.extend(limits);
    lines
}

fn count(replicas: u32) -> String {
    if replicas == 1 { "1 replica".into() } else { format!("{replicas} replicas") }
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Forecast => "by forecast",
        Basis::Reactive => "by the reactive rule",
        Basis::Hold => "held",
    }
}

fn signal(signal: &Signal, unit: &str) -> String {
    let ms = |ms: &u64| age(Duration::from_millis(*ms));
    match signal {
        Signal::Fresh { demand, lower_bound, .. } => {
            let at_least = if *lower_bound { "at least " } else { "" };
            format!("{at_least}{} {unit}", number(*demand))
        }
        Signal::Stale { age_ms } => format!("unknown since {}", ms(age_ms)),
        Signal::Doubted { zero_ms } => format!("0 since {}, not believed yet", ms(zero_ms)),
        Signal::Missing => "unknown".into(),
    }
}

fn replicas(replicas: &[ReplicaView], now: Time) -> Vec<Line<'static>> {
    let head = format!(
        "{:<9}{:>6} {:>9} {:>6} {:>6} {:<21} {}",
        "state", "for", "in flight", "weight", "p99", "address", "replica"
    );
    let mut lines = vec![Line::styled(head, GREY)];
    lines.extend(replicas.iter().map(|view| {
        let replica = &view.replica;
        let (phase, color) = phase(replica.phase);
        let address = replica.address.map_or_else(|| "-".into(), |address| address.to_string());
        let standing = &view.standing;
        let p99 = standing.latency_p99_ms.map_or_else(|| "-".into(), latency);
        let health = match (standing.ejected_for_ms, standing.passes_checks) {
            (Some(left), _) => format!("  (ejected for {} more)", latency(left as f64)),
            (None, Some(false)) => "  (fails its checks)".into(),
            (None, _) => String::new(),
        };
        let others = if replica.managed { "" } else { "  (not started by Foresail)" };
        Line::from(vec![
            Span::styled(format!("{phase:<9}"), Style::new().fg(color)),
            Span::raw(clean(&format!(
                "{:>6} {:>9} {:>6} {p99:>6} {address:<21} {}{others}{health}",
                age_of(now - replica.since),
                replica.in_flight,
                percent(standing.weight),
                short(&replica.id),
            ))),
        ])
    }));
    if replicas.is_empty() {
        lines.push(line("there is none"));
    }
    lines
}

/// Three digits, as the clock of a request has no more to say.
fn latency(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.1}ms"),
        ..1000.0 => format!("{ms:.0}ms"),
        _ => format!("{:.1}s", ms / 1000.0),
    }
}

/// Containers have names of 64 digits, of which people use twelve.
fn short(id: &str) -> String {
    let hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.chars().take(if hex { 12 } else { 40 }).collect()
}

fn phase(phase: Phase) -> (&'static str, Color) {
    match phase {
        Phase::Starting => ("starting", Color::Yellow),
        Phase::Warming => ("warming", Color::Cyan),
        Phase::Ready => ("ready", Color::Green),
        Phase::Draining => ("draining", Color::Magenta),
        Phase::Gone => ("stopping", Color::DarkGray),
    }
}

fn model(detail: &ServiceDetail) -> Vec<Line<'static>> {
    let settings = &detail.settings;
    let budget = settings
        .overload_budget
        .map(|budget| format!(", may be overloaded {} of the time", percent(budget)));
    let mut lines = match &detail.model {
        Some(model) => learned(model, detail.summary.time),
        None => vec![line("no model yet: it is learning")],
    };
    lines.push(line(format!(
        "policy {}{}; {} to {} replicas; a start takes {}; target {}",
        detail.summary.policy,
        budget.unwrap_or_default(),
        settings.min_replicas,
        settings.max_replicas,
        age(Duration::from_millis(detail.startup_delay_ms)),
        settings.target,
    )));
    lines
}

fn learned(model: &ModelInfo, now: Time) -> Vec<Line<'static>> {
    let training = &model.training;
    let steps =
        |steps: usize| age(Duration::from_millis(model.step_ms.saturating_mul(steps as u64)));
    let version =
        model.version.map_or_else(|| "an unsaved model".into(), |v| format!("version {v}"));
    let seasons: Vec<String> = model.season_lengths.iter().map(|&season| steps(season)).collect();
    let seasons = if seasons.is_empty() { "none".into() } else { seasons.join(", ") };
    let mut lines = vec![
        line(format!(
            "{version} ({}), trained {} ago on {} steps{}",
            model.method.name(),
            age_of(now - training.trained_at),
            training.points,
            if training.cold_start { ", a cold start" } else { "" },
        )),
        line(format!("seasons: {seasons}; looks {} ahead", steps(model.horizon))),
    ];
    lines.extend(training.scores.iter().map(|score| {
        line(format!(
            "{} on held-out load: MASE {:.2}, pinball {:.2}, {} within 80 %, {} above 99 %",
            score.method.name(),
            score.mase,
            score.pinball,
            percent(score.coverage_80),
            percent(score.exceed_99),
        ))
    }));
    let members: Vec<String> = training
        .members
        .iter()
        .map(|member| format!("{} {}", member.method.name(), percent(member.weight)))
        .collect();
    if !members.is_empty() {
        lines.push(line(format!("made of {}", members.join(", "))));
    }
    lines.extend(model.notes.iter().map(|note| Line::styled(clean(&format!("! {note}")), ALARM)));
    lines
}
