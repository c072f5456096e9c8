//! Pure: the report of a comparison as one HTML page that needs nothing else, losses first; and its
//! pictures.

use std::cmp::Reverse;
use std::time::Duration;

use super::verdict::{self, percent};
use super::{Compared, Trace};
use crate::io::command::page;
use crate::io::plot::{COLORS, Family, Frontier, Line, Mark, Replicas, ZOOM, escape};
use crate::simulator::contender::ORACLE;
use crate::simulator::report::{HEADER, PolicyReport, TraceReport, cells};

const LEGEND: &str = "\
<p class=\"quiet\">A <b>replica-hour</b> is one ready replica for an hour: the cost. A step is \
<b>overloaded</b> if demand is above what the ready replicas carry. <b>oracle</b> knows all demand \
beforehand: no policy can cost less at its overload. <b>changes</b> are steps in which another \
count was asked for. The best policy is <b>bold</b>, and has a ring in the pictures.</p>\n";

pub fn html(compared: &Compared) -> String {
    let mut html = page::begin("Comparison of policies");
    let reports: Vec<&TraceReport> = compared.traces.iter().map(|trace| &trace.report).collect();
    html +=
        &format!("<p>{}</p>\n", escape(&verdict::sentences(&reports, compared.budget).join(" ")));
    html += LEGEND;
    let ordered = losses_first(compared);
    if ordered.len() > 1 {
        html += &overview(&ordered, compared.budget);
    }
    for trace in ordered {
        html += &section(trace, compared.budget);
    }
    if !compared.failures.is_empty() {
        html += "<h2>Not compared</h2>\n";
        html.extend(compared.failures.iter().map(|why| format!("<p>{}</p>\n", escape(why))));
    }
    html + ZOOM
}

/// The pictures of a trace as files: what each shows, and its content.
pub fn pictures(trace: &Trace, budget: f64) -> [(&'static str, String); 2] {
    let demand = in_replicas(trace);
    let frontier = frontier(&trace.report, budget).file();
    [("frontier", frontier), ("replicas", replicas(trace, &demand, budget).file())]
}

/// By how much `predictive` lost, then in the order of the command line.
fn losses_first(compared: &Compared) -> Vec<&Trace> {
    let ratio = |trace: &&Trace| verdict::loss(&trace.report, compared.budget).map(|l| l.ratio);
    let mut ordered: Vec<&Trace> = compared.traces.iter().collect();
    ordered.sort_by(|a, b| {
        let [a, b] = [a, b].map(|trace| ratio(trace).unwrap_or(0.0));
        b.total_cmp(&a)
    });
    ordered
}

/// A row for each trace: what did best, and how `predictive` did.
fn overview(traces: &[&Trace], budget: f64) -> String {
    let header = ["trace", "best", "overload", "replica-hours", "predictive lost by"];
    let header: String = header.iter().map(|name| format!("<th>{name}</th>")).collect();
    let mut html =
        format!("<h2>All traces</h2>\n<div class=\"scroll\"><table>\n<tr>{header}</tr>\n");
    for report in traces.iter().map(|trace| &trace.report) {
        let Some(best) = verdict::best(report, budget) else { continue };
        let lost = match verdict::loss(report, budget) {
            Some(loss) => format!("<td class=\"lost\">{}</td>", percent(loss.ratio - 1.0)),
            None => "<td></td>".to_owned(),
        };
        html += &format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td>{lost}</tr>\n",
            escape(&report.name),
            escape(&best.label),
            percent(best.overload_share),
            best.replica_hours
        );
    }
    html + "</table></div>\n"
}

fn section(trace: &Trace, budget: f64) -> String {
    let report = &trace.report;
    let step = humantime::format_duration(Duration::from_secs_f64(report.step_seconds));
    let mut html = format!(
        "<h2>{}</h2>\n<p class=\"quiet\">{} steps of {step} scored; a replica carries {:.4}.</p>\n",
        escape(&report.name),
        report.scored_steps,
        report.capacity
    );
    if let Some(loss) = verdict::loss(report, budget) {
        html += &format!(
            "<p class=\"lost\">predictive lost: {} cost {} less at equal or lower overload.</p>\n",
            escape(&loss.to.label),
            percent(1.0 - 1.0 / loss.ratio)
        );
    }
    html += &table(report, budget);
    let demand = in_replicas(trace);
    html += &format!("<figure>{}</figure>\n", frontier(report, budget).inline());
    html += &format!(
        "<figure>{}<figcaption>Grey: demand, in replicas at full utilization; shaded: not scored. \
         The wheel zooms, dragging moves, a double click shows all.</figcaption></figure>\n",
        replicas(trace, &demand, budget).inline()
    );
    html
}

fn table(report: &TraceReport, budget: f64) -> String {
    let header: String = HEADER.iter().map(|name| format!("<th>{name}</th>")).collect();
    let mut html = format!("<div class=\"scroll\"><table>\n<tr>{header}</tr>\n");
    let best = verdict::best(report, budget).map(|policy| &policy.label);
    for policy in &report.policies {
        let class = if Some(&policy.label) == best { " class=\"best\"" } else { "" };
        let cells = cells(policy).map(|cell| format!("<td>{}</td>", escape(&cell)));
        html += &format!("<tr{class}>{}</tr>\n", cells.concat());
    }
    html + "</table></div>\n"
}

fn frontier<'a>(report: &'a TraceReport, budget: f64) -> Frontier<'a> {
    let best = verdict::best(report, budget).map(|policy| &policy.label);
    let mark = |policy: &'a PolicyReport| Mark {
        label: &policy.label,
        overload_share: policy.overload_share,
        replica_hours: policy.replica_hours,
        is_best: Some(&policy.label) == best,
    };
    let families = verdict::families(&[report]).into_iter().enumerate().map(|(i, name)| Family {
        name,
        color: i % COLORS,
        marks: report.policies.iter().filter(|p| p.policy == name).map(mark).collect(),
    });
    Frontier { title: &report.name, families: families.collect(), budget }
}

/// A line for the best of each family; that of the oracle would lie on the demand.
fn replicas<'a>(trace: &'a Trace, demand: &'a [f64], budget: f64) -> Replicas<'a> {
    let report = &trace.report;
    let member = |(i, family): (usize, &str)| -> Option<(&'a PolicyReport, Line<'a>)> {
        let member = verdict::member(report, family, budget).filter(|_| family != ORACLE)?;
        let place = report.policies.iter().position(|policy| policy.label == member.label)?;
        let ready = &trace.trails.get(place)?.ready;
        Some((member, Line { name: &member.label, color: i % COLORS, ready }))
    };
    let families = verdict::families(&[report]).into_iter().enumerate();
    let mut members: Vec<_> = families.filter_map(member).collect();
    // Restless lines below, or they would hide the others.
    members.sort_by_key(|(p, _)| (p.policy == verdict::PREDICTIVE, Reverse(p.scaling_events)));
    Replicas {
        title: &report.name,
        start_ms: trace.series.start().timestamp_millis(),
        step_ms: trace.series.step().as_millis() as i64,
        scored_from: trace.scored_from,
        demand,
        lines: members.into_iter().map(|(_, line)| line).collect(),
    }
}

fn in_replicas(trace: &Trace) -> Vec<f64> {
    trace.series.values().iter().map(|demand| demand / trace.report.capacity).collect()
}
