//! Pure: a decision for people: what went in and how old it was, what each rule proposed, what bit,
//! and what would have been decided otherwise.

use chrono::TimeDelta;

use crate::planner::{Decision, ForecastUsed, Signal};

/// One paragraph a service.
pub fn all(plans: &[(String, Decision)]) -> String {
    plans.iter().map(|(name, decision)| paragraph(name, decision)).collect::<Vec<_>>().join("\n")
}

fn paragraph(name: &str, decision: &Decision) -> String {
    let Decision { current_replicas: now, desired_replicas: desired, .. } = decision;
    let basis = format!("{:?}", decision.basis).to_lowercase();
    let s = if *now == 1 { "" } else { "s" };
    let mut text = format!("{name}: {now} replica{s} now, {desired} desired, by {basis}\n");
    let mut line = |what: &str, words: String| text += &format!("  {what:<17} {words}\n");
    line("why", decision.reason.clone());
    line("demand", demand(decision));
    match &decision.forecast {
        Some(used) => {
            line("forecast", forecast(used, decision));
            line("price of overload", price(used));
        }
        None => line("forecast", "none that reaches through the lookahead".into()),
    }
    line("trust", format!("{}: {}", trust(decision), decision.trust.reason));
    for proposal in &decision.proposals {
        let words = format!("{} by {}: {}", proposal.replicas, proposal.rule, proposal.reason);
        line("proposed", words);
    }
    for limit in &decision.limits {
        let words = format!(
            "{} made {} of {}: {}",
            limit.limit.name(),
            limit.after,
            limit.before,
            limit.reason
        );
        line("limit", words);
    }
    line("without forecast", format!("{} desired", decision.without_forecast));
    if let Some(used) = &decision.forecast {
        let saved = i64::from(used.cheapest) - i64::from(used.cheapest_larger_budget);
        let words = format!(
            "{} would be cheapest instead of {}: {saved} saved",
            used.cheapest_larger_budget, used.cheapest
        );
        line("budget + 1 point", words);
    }
    for note in &decision.notes {
        line("note", note.clone());
    }
    text
}

fn demand(decision: &Decision) -> String {
    let supply = format!("{} ready x {:.3}", decision.ready_replicas, decision.capacity);
    match decision.signal {
        Signal::Fresh { demand, lower_bound, age_ms } => {
            let least = if lower_bound { "at least " } else { "" };
            let utilization = decision.utilization.map(|u| format!(" = {:.0} %", 100.0 * u));
            let utilization = utilization.unwrap_or_default();
            format!("{least}{demand:.3} on {supply}{utilization}, {} old", seconds(age_ms))
        }
        Signal::Stale { age_ms } => format!("stale: the newest is {} old", seconds(age_ms)),
        Signal::Doubted { zero_ms } => {
            format!("0 for {}, right after load: doubted; {supply}", seconds(zero_ms))
        }
        Signal::Missing => format!("missing; {supply}"),
    }
}

fn forecast(used: &ForecastUsed, decision: &Decision) -> String {
    let age = decision.time.signed_duration_since(used.origin).max(TimeDelta::zero());
    format!(
        "{}, {} old: peak within {} {:.3} (80 % between {:.3} and {:.3})",
        used.method.name(),
        seconds(age.num_milliseconds() as u64),
        seconds(used.lookahead_ms),
        used.peak_median,
        used.peak_low,
        used.peak_high,
    )
}

/// Which quantile is planned for follows from it: that beyond which demand exceeds the count.
fn price(used: &ForecastUsed) -> String {
    format!(
        "{:.2} replica steps for each step, steered by the overload so far: {} replicas carry the \
         {:.2} % quantile",
        used.overload_price,
        used.planned,
        100.0 * (1.0 - used.overload_risk),
    )
}

fn trust(decision: &Decision) -> &'static str {
    match (decision.trust.trusted, decision.trust.doubted) {
        (true, _) => "trusted",
        (false, true) => "doubted",
        (false, false) => "not trusted",
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::forecast::Method;
    use crate::planner::{Basis, Limit, LimitApplied, Proposal, Trust};

    fn decision() -> Decision {
        let time = DateTime::UNIX_EPOCH + TimeDelta::seconds(100);
        Decision {
            time,
            basis: Basis::Forecast,
            signal: Signal::Fresh { demand: 2.4, lower_bound: true, age_ms: 1_200 },
            capacity: 1.0,
            ready_replicas: 3,
            current_replicas: 3,
            utilization: Some(0.8),
            forecast: Some(ForecastUsed {
                method: Method::Foresail,
                origin: time - TimeDelta::seconds(5),
                lookahead_ms: 45_000,
                overload_price: 12.5,
                overload_risk: 0.008,
                peak_low: 2.0,
                peak_median: 3.0,
                peak_high: 4.5,
                cheapest: 5,
                cheapest_larger_budget: 4,
                planned: 5,
                regret: 0.0,
                patience: 0.0,
            }),
            trust: Trust {
                trusted: true,
                doubted: false,
                skill: Some(0.34),
                evidence: 90,
                reason: "skill 34 %".into(),
            },
            proposals: vec![Proposal { rule: "forecast".into(), replicas: 5, reason: "p".into() }],
            recommendation: 5,
            limits: vec![LimitApplied {
                limit: Limit::MaxReplicas,
                before: 5,
                after: 4,
                reason: "max".into(),
            }],
            desired_replicas: 4,
            without_forecast: 3,
            reason: "because".into(),
            notes: vec!["no CPU limit".into()],
        }
    }

    #[test]
    fn a_decision_is_told_in_full() {
        let want = "\
web: 3 replicas now, 4 desired, by forecast
  why               because
  demand            at least 2.400 on 3 ready x 1.000 = 80 %, 1.2 s old
  forecast          foresail, 5.0 s old: peak within 45.0 s 3.000 (80 % between 2.000 and 4.500)
  price of overload 12.50 replica steps for each step, steered by the overload so far: 5 replicas \
carry the 99.20 % quantile
  trust             trusted: skill 34 %
  proposed          5 by forecast: p
  limit             max_replicas made 4 of 5: max
  without forecast  3 desired
  budget + 1 point  4 would be cheapest instead of 5: 1 saved
  note              no CPU limit
";
        assert_eq!(all(&[("web".into(), decision())]), want);
    }

    #[test]
    fn what_is_missing_is_said() {
        let missing =
            |signal| all(&[("web".into(), Decision { signal, forecast: None, ..decision() })]);
        let told = missing(Signal::Missing);
        assert!(told.contains("missing; 3 ready x 1.000"), "{told}");
        assert!(told.contains("none that reaches through the lookahead"), "{told}");
        assert!(!told.contains("budget + 1"), "{told}");
        let told = missing(Signal::Stale { age_ms: 90_000 });
        assert!(told.contains("stale: the newest is 90.0 s old"), "{told}");
        let told = missing(Signal::Doubted { zero_ms: 15_000 });
        assert!(told.contains("0 for 15.0 s, right after load: doubted"), "{told}");
    }
}
