//! Pure: what a comparison says: which policy did best, what it would have saved, who lost.
//!
//! Best on a trace is the policy with the least replica-hours of those within the overload budget;
//! where none is, the one with the least overload. Two policies are held against each other at
//! equal or lower overload alone: whoever spends less and is overloaded more has not won. Of
//! several members of a family, which differ in their parameters, the best on the trace stands for
//! it, as if it had been chosen in hindsight. The oracle is a bound, and nobody's rival.

use std::cmp::Ordering;

use crate::simulator::contender::ORACLE;
use crate::simulator::report::{PolicyReport, TraceReport};

pub const PREDICTIVE: &str = "predictive";

/// The best of all that anybody could use.
pub fn best(report: &TraceReport, budget: f64) -> Option<&PolicyReport> {
    let usable = report.policies.iter().filter(|p| p.policy != ORACLE);
    usable.min_by(|a, b| rank(a, b, budget))
}

/// The best of a family.
pub fn member<'a>(report: &'a TraceReport, family: &str, budget: f64) -> Option<&'a PolicyReport> {
    let members = report.policies.iter().filter(|p| p.policy == family);
    members.min_by(|a, b| rank(a, b, budget))
}

/// Names of policies, each once, in their order.
pub fn families<'a>(reports: &[&'a TraceReport]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for policy in reports.iter().flat_map(|report| &report.policies) {
        if !names.contains(&policy.policy.as_str()) {
            names.push(policy.policy.as_str());
        }
    }
    names
}

/// A trace on which `predictive` lost.
#[derive(Debug, Clone, Copy)]
pub struct Loss<'a> {
    pub to: &'a PolicyReport,
    /// Replica-hours of `predictive` over those of the policy it lost to, at least 1.
    pub ratio: f64,
}

/// The policy that beats `predictive` by most: it costs less at equal or lower overload. Of several
/// members of `predictive` the best is judged.
pub fn loss(report: &TraceReport, budget: f64) -> Option<Loss<'_>> {
    let own = member(report, PREDICTIVE, budget)?;
    let rivals = report.policies.iter().filter(|p| ![PREDICTIVE, ORACLE].contains(&&*p.policy));
    rivals
        .filter(|rival| beats(rival, own) && rival.replica_hours > 0.0)
        .map(|to| Loss { to, ratio: own.replica_hours / to.replica_hours })
        .max_by(|a, b| a.ratio.total_cmp(&b.ratio))
}

/// Sentences for somebody who does not know Foresail.
pub fn sentences(reports: &[&TraceReport], budget: f64) -> Vec<String> {
    let firsts: Vec<&PolicyReport> = reports.iter().filter_map(|r| best(r, budget)).collect();
    let mut families = families(reports);
    families.retain(|family| *family != ORACLE);
    let wins = |family: &str| firsts.iter().filter(|first| first.policy == family).count();
    // The first of equals.
    let Some(winner) = families.iter().rev().max_by_key(|family| wins(family)).copied() else {
        return Vec::new();
    };
    let mut said = match (reports, firsts.as_slice()) {
        ([_], [first]) => vec![first_of_one(first, budget)],
        _ => vec![format!(
            "{winner} did best on {} of {} traces: the least replica-hours of all policies that \
             kept the overload budget of {}, or the least overload where none did.",
            wins(winner),
            reports.len(),
            percent(budget)
        )],
    };
    for rival in families.iter().filter(|family| **family != winner) {
        let pair = |report| Some((member(report, winner, budget)?, member(report, rival, budget)?));
        let pairs: Vec<_> = reports.iter().copied().filter_map(pair).collect();
        said.extend(match pairs.as_slice() {
            [(own, other)] => Some(against_one(own, other)),
            [] => None,
            _ => Some(against(rival, &pairs)),
        });
    }
    if reports.iter().any(|r| r.policies.len() > self::families(&[r]).len()) {
        said.push(
            "Of a policy with several parameters, the best on each trace counts, as if it \
             had been chosen in hindsight."
                .into(),
        );
    }
    let judged = reports.iter().filter(|r| member(r, PREDICTIVE, budget).is_some()).count();
    let lost = reports.iter().filter(|r| loss(r, budget).is_some()).count();
    if judged > 1 {
        let first = if lost > 0 { "; they come first" } else { "" };
        said.push(format!(
            "On {lost} of {judged} traces another policy cost less than {PREDICTIVE} at equal or \
             lower overload{first}."
        ));
    }
    said
}

fn first_of_one(first: &PolicyReport, budget: f64) -> String {
    let PolicyReport { label, replica_hours, overload_share, .. } = first;
    let (share, budget_text) = (percent(*overload_share), percent(budget));
    if *overload_share <= budget {
        return format!(
            "{label} did best: {replica_hours:.1} replica-hours, the least of all policies that \
             kept the overload budget of {budget_text}. It was overloaded {share} of the time."
        );
    }
    format!(
        "No policy kept the overload budget of {budget_text}. {label} came closest: overloaded \
         {share} of the time, for {replica_hours:.1} replica-hours."
    )
}

/// `own` did best.
fn against_one(own: &PolicyReport, other: &PolicyReport) -> String {
    // Of the dearer one.
    let dearer = own.replica_hours.max(other.replica_hours).max(f64::MIN_POSITIVE);
    let saved = percent((own.replica_hours - other.replica_hours).abs() / dearer);
    let [own_share, other_share] = [own, other].map(|p| percent(p.overload_share));
    let rival = &other.label;
    if beats(own, other) {
        return format!(
            "Instead of {rival} it would have saved {saved} of the replica-hours at equal or lower \
             overload ({own_share} against {other_share} of the time)."
        );
    }
    if own.replica_hours <= other.replica_hours {
        return format!("{rival} costs more, and was overloaded less: {other_share} of the time.");
    }
    format!("{rival} costs {saved} less, but was overloaded {other_share} of the time.")
}

/// The winner and a rival on several traces.
fn against(rival: &str, pairs: &[(&PolicyReport, &PolicyReport)]) -> String {
    let those = |is: &dyn Fn(&PolicyReport, &PolicyReport) -> bool| -> Group {
        Group::of(pairs.iter().filter(|(own, other)| is(own, other)))
    };
    let (won, lost) = (those(&|a, b| beats(a, b)), those(&|a, b| beats(b, a)));
    let open = |a: &PolicyReport, b: &PolicyReport| !beats(a, b) && !beats(b, a);
    let dearer = those(&|a, b| open(a, b) && a.replica_hours > b.replica_hours);
    let cheaper = those(&|a, b| open(a, b) && a.replica_hours <= b.replica_hours);
    let change = |group: &Group| percent((group.ratio - 1.0).abs());
    let shares = |group: &Group| group.shares.map(percent).join(" of the time instead of ");
    let mut parts = Vec::new();
    if won.traces > 0 {
        let (saved, traces) = (change(&won), won.traces);
        parts.push(format!("saved {saved} at equal or lower overload on {traces}"));
    }
    if lost.traces > 0 {
        let (more, traces) = (change(&lost), lost.traces);
        parts.push(format!("cost {more} more at equal or higher overload on {traces}"));
    }
    for (group, word) in [(&cheaper, "less"), (&dearer, "more")] {
        if group.traces > 0 {
            let (change, shares, traces) = (change(group), shares(group), group.traces);
            parts.push(format!("cost {change} {word} and was overloaded {shares} on {traces}"));
        }
    }
    let traces = pairs.len();
    format!("Against {rival}, of {traces} traces, it {} (means).", parts.join("; it "))
}

/// How two policies compare on some traces.
struct Group {
    traces: usize,
    /// Geometric mean of the ratio of their replica-hours.
    ratio: f64,
    /// Mean overload shares.
    shares: [f64; 2],
}

impl Group {
    fn of<'a>(pairs: impl Iterator<Item = &'a (&'a PolicyReport, &'a PolicyReport)>) -> Group {
        let pairs: Vec<_> =
            pairs.filter(|(a, b)| a.replica_hours.min(b.replica_hours) > 0.0).collect();
        let mean = |of: &dyn Fn(&PolicyReport, &PolicyReport) -> f64| {
            pairs.iter().map(|(a, b)| of(a, b)).sum::<f64>() / pairs.len() as f64
        };
        Group {
            traces: pairs.len(),
            ratio: mean(&|a, b| (a.replica_hours / b.replica_hours).ln()).exp(),
            shares: [mean(&|a, _| a.overload_share), mean(&|_, b| b.overload_share)],
        }
    }
}

/// No worse in either, better in one.
fn beats(a: &PolicyReport, b: &PolicyReport) -> bool {
    let (overload, hours) = (a.overload_share <= b.overload_share, a.replica_hours);
    overload
        && hours <= b.replica_hours
        && (a.overload_share < b.overload_share || hours < b.replica_hours)
}

/// The better first.
fn rank(a: &PolicyReport, b: &PolicyReport, budget: f64) -> Ordering {
    let beyond = |p: &PolicyReport| if p.overload_share > budget { p.overload_share } else { 0.0 };
    beyond(a).total_cmp(&beyond(b)).then(a.replica_hours.total_cmp(&b.replica_hours))
}

/// Two digits where they matter.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, overload_share: f64, replica_hours: f64) -> PolicyReport {
        let policy = label.split(':').next().unwrap_or_default().into();
        PolicyReport {
            policy,
            label: label.into(),
            parameters: Default::default(),
            overload_share,
            unserved_share: 0.0,
            replica_hours,
            oracle_ratio: 1.0,
            scaling_events: 0,
            theta_u: 0.0,
            theta_o: 0.0,
            tau_u: 0.0,
            tau_o: 0.0,
            upsilon: 0.0,
            days: vec![],
        }
    }

    fn trace(rows: &[(&str, f64, f64)]) -> TraceReport {
        let policies = rows.iter().map(|(label, share, hours)| row(label, *share, *hours));
        let policies = policies.collect();
        let name = "t".into();
        TraceReport { name, step_seconds: 60.0, capacity: 1.0, scored_steps: 9, policies }
    }

    #[test]
    fn the_best_keeps_the_budget_at_the_least_cost() {
        let check = |rows: &[(&str, f64, f64)], want: Option<&str>| {
            let trace = trace(rows);
            assert_eq!(best(&trace, 0.01).map(|p| p.label.as_str()), want);
        };
        check(&[("a", 0.02, 10.0), ("b", 0.01, 30.0), ("c", 0.0, 40.0)], Some("b"));
        check(&[("a", 0.02, 10.0), ("b", 0.03, 5.0)], Some("a"));
        check(&[("oracle", 0.0, 1.0), ("a", 0.5, 10.0)], Some("a"));
        check(&[("oracle", 0.0, 1.0)], None);
    }

    #[test]
    fn predictive_loses_only_to_what_costs_less_at_equal_or_lower_overload() {
        let check = |rows: &[(&str, f64, f64)], want: Option<(&str, f64)>| {
            let trace = trace(&[&[("predictive", 0.01, 30.0)], rows].concat());
            let loss = loss(&trace, 0.01).map(|loss| (loss.to.label.clone(), loss.ratio));
            assert_eq!(loss, want.map(|(label, ratio)| (label.to_owned(), ratio)), "{rows:?}");
        };
        check(&[("a", 0.01, 20.0), ("b", 0.005, 25.0)], Some(("a", 1.5)));
        check(&[("a", 0.02, 10.0), ("b", 0.0, 40.0), ("oracle", 0.0, 1.0)], None);
        check(&[("a", 0.01, 30.0)], None);
        check(&[("a", 0.009, 30.0)], Some(("a", 1.0)));
        // The dearer member of the same policy is not what is judged.
        check(&[("predictive:budget=0.001", 0.001, 60.0), ("a", 0.0005, 50.0)], None);
    }

    #[test]
    fn the_words_say_what_the_numbers_do() {
        let one = trace(&[
            ("threshold", 0.076, 27.0),
            ("target_tracking:target=0.5", 0.012, 40.0),
            ("target_tracking:target=0.3", 0.009, 50.0),
            ("predictive", 0.009, 30.0),
            ("oracle", 0.0, 20.0),
        ]);
        let said = sentences(&[&one], 0.01);
        let want = [
            "predictive did best: 30.0 replica-hours, the least of all policies that kept the \
             overload budget of 1.00 %. It was overloaded 0.90 % of the time.",
            "Instead of target_tracking:target=0.3 it would have saved 40 % of the replica-hours \
             at equal or lower overload (0.90 % against 0.90 % of the time).",
            "Of a policy with several parameters, the best on each trace counts, as if it had been \
             chosen in hindsight.",
        ];
        assert_eq!([said[0].as_str(), &said[2], &said[3]], want);
        // 30 / 27 = 1.11: what threshold costs less is 3 of 30.
        assert_eq!(said[1], "threshold costs 10 % less, but was overloaded 7.60 % of the time.");

        let lost = trace(&[("threshold", 0.01, 20.0), ("predictive", 0.01, 25.0)]);
        let won = trace(&[("threshold", 0.02, 40.0), ("predictive", 0.01, 25.0)]);
        let open = trace(&[("threshold", 0.03, 20.0), ("predictive", 0.01, 25.0)]);
        let said = sentences(&[&lost, &won, &open], 0.01);
        // 25 / 40 = 0.625; 25 / 20 = 1.25.
        let want = [
            "predictive did best on 2 of 3 traces: the least replica-hours of all policies that \
             kept the overload budget of 1.00 %, or the least overload where none did.",
            "Against threshold, of 3 traces, it saved 38 % at equal or lower overload on 1; it \
             cost 25 % more at equal or higher overload on 1; it cost 25 % more and was overloaded \
             1.00 % of the time instead of 3.00 % on 1 (means).",
            "On 1 of 3 traces another policy cost less than predictive at equal or lower \
             overload; they come first.",
        ];
        assert_eq!(said, want);
        let none = sentences(&[&trace(&[("a", 0.05, 2.0)])], 0.01);
        assert!(none[0].starts_with("No policy kept the overload budget of 1.00 %. a came"));
        assert!(sentences(&[], 0.01).is_empty());
    }
}
