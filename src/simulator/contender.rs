//! Pure: the policies of a comparison: their names and parameters, and what is replayed for each.
//!
//! [`POLICIES`] is the one table of them. A policy more is a row there: its name, its keys with
//! defaults and what they mean, and a function from their values to what is replayed. How the text
//! of a specification becomes values, sweeps included: [`spec`].

mod spec;

use std::collections::BTreeMap;
use std::time::Duration;

use spec::Values;
pub use spec::{CONTENDERS_MAX, Preset, parse};

use crate::planner::aws_predictive::AwsPredictive;
use crate::planner::hpa;
use crate::planner::phpa::{DecisionType, Phpa};
use crate::planner::predictive::Predictive;
use crate::planner::target_tracking::{SignalKind, TargetTracking};
use crate::planner::threshold::Threshold;
use crate::planner::{Behavior, Bidirectional, Policy};

/// What is compared unless asked otherwise.
pub const USUAL: &str = "threshold,target_tracking,predictive,oracle";

/// The name of the clairvoyant, which is a bound and no policy that anybody could use.
pub const ORACLE: &str = "oracle";

/// A policy with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    pub policy: &'static str,
    /// The policy with the parameters that were given, so that no two in a comparison are the same:
    /// `target_tracking:target=0.5`.
    pub label: String,
    /// Every parameter, defaults included, by the key of its specification.
    pub parameters: BTreeMap<String, serde_json::Value>,
    pub replayed: Replayed,
}

/// What stands behind a contender.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "at most a few hundred contenders, nearly all of them live"
)]
pub enum Replayed {
    /// The step that runs live, with this policy. The behavior's bounds hold within those of the
    /// comparison.
    Live { policy: Policy, fallback: Threshold, behavior: Behavior },
    /// Knows all demand beforehand, and may be overloaded in this share of the scored steps.
    Oracle { budget: f64 },
}

/// A row of the table of policies.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub meaning: &'static str,
    pub keys: &'static [Key],
    replayed: fn(&Values) -> Result<Replayed, String>,
}

/// A parameter.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// As it would be written; empty if it must be given.
    pub default: &'static str,
    allowed: Allowed,
    pub meaning: &'static str,
}

/// What a parameter may be; bounds are included.
#[derive(Debug, Clone, Copy)]
enum Allowed {
    Number(f64, f64),
    Whole(u32, u32),
    /// No longer than this; a rule looks at all of its window at each step.
    Span(Duration),
    Word(&'static [&'static str]),
    /// Anything without a comma.
    Text,
}

const LONGEST_WINDOW: Allowed = Allowed::Span(Duration::from_secs(86_400));

const TARGET: Key = key("target", "0.7", Allowed::Number(0.01, 1.0), "utilization aimed at");
const SIGNAL: Key =
    key("signal", "cpu", Allowed::Word(&["cpu", "demand"]), "clipped at full load, or not");
const PHPA_DECISION: Key = key(
    "decision",
    "maximum",
    Allowed::Word(&["maximum", "minimum", "mean", "median"]),
    "over rule and model",
);

/// Every policy, in the order in which messages list them.
pub const POLICIES: &[Kind] = &[
    Kind {
        name: "static",
        meaning: "a fixed count",
        keys: &[key("replicas", "", Allowed::Whole(0, 1_000_000), "how many")],
        replayed: |values| {
            live(Policy::Static { replicas: values.whole("replicas") }, Behavior::unlimited())
        },
    },
    Kind {
        name: "threshold",
        meaning: "a step up above one utilization, a step down below another",
        keys: &[
            key("up", "0.8", Allowed::Number(0.01, 100.0), "mean utilization above which to add"),
            key("down", "0.2", Allowed::Number(0.0, 100.0), "and below which to remove"),
            key("window", "1m", LONGEST_WINDOW, "that the mean is over"),
            key("step", "1", Allowed::Whole(1, 1_000_000), "replicas added or removed at once"),
        ],
        replayed: |values| {
            let rule = Threshold {
                up: values.number("up"),
                down: values.number("down"),
                window: values.span("window"),
                step: values.whole("step"),
            };
            if rule.down >= rule.up {
                return Err(format!("down={} is not below up={}", rule.down, rule.up));
            }
            live(Policy::Threshold(rule), Behavior::unlimited())
        },
    },
    Kind {
        name: "target_tracking",
        meaning: "the ratio rule of the Kubernetes HPA, with its defaults",
        keys: &[
            TARGET,
            SIGNAL,
            key("tolerance", "0.1", Allowed::Number(0.0, 1.0), "dead band around ratio 1"),
            key("up_window", "0s", LONGEST_WINDOW, "stabilization on the way up"),
            key("down_window", "5m", LONGEST_WINDOW, "and on the way down"),
        ],
        replayed: |values| {
            let (tolerance, usual) = (values.number("tolerance"), Behavior::kubernetes());
            let rule = tracking(values);
            let behavior = Behavior {
                tolerance: Bidirectional { up: tolerance, down: tolerance },
                stabilization_window: Bidirectional {
                    up: values.span("up_window"),
                    down: values.span("down_window"),
                },
                ..usual
            };
            live(Policy::TargetTracking(rule), behavior)
        },
    },
    Kind {
        name: "predictive",
        meaning: "forecast, steered to an overload budget; falls back to threshold",
        keys: &[
            key("budget", "0.01", Allowed::Number(1e-6, 0.5), "share of steps overloaded"),
            key("start_cost", "0s", LONGEST_WINDOW, "a start is worth a replica for so long"),
        ],
        replayed: |values| {
            let policy = Policy::Predictive(Predictive {
                overload_budget: values.number("budget"),
                start_cost: values.span("start_cost"),
            });
            live(policy, Behavior::unlimited())
        },
    },
    Kind {
        name: "scheduled",
        meaning: "bounds by the clock, and else a fixed count",
        keys: &[
            key("replicas", "1", Allowed::Whole(0, 1_000_000), "how many at other times"),
            key("table", "", Allowed::Text, "`0 8 * * 1-5 Europe/Berlin min=5 for=10h; ...`"),
        ],
        replayed: |values| {
            let schedule = values.text("table").parse().map_err(|e| format!("table: {e}"))?;
            let behavior = Behavior { schedule, ..Behavior::unlimited() };
            live(Policy::Static { replicas: values.whole("replicas") }, behavior)
        },
    },
    Kind {
        name: "phpa",
        meaning: "Predictive HPA with a line through the last counts",
        keys: &[TARGET, SIGNAL, PHPA_DECISION],
        replayed: |values| {
            let decision = match values.word("decision") {
                "minimum" => DecisionType::Minimum,
                "mean" => DecisionType::Mean,
                "median" => DecisionType::Median,
                _ => DecisionType::Maximum,
            };
            let policy =
                Policy::Phpa(Phpa { reactive: tracking(values), decision, ..Phpa::default() });
            let behavior = Behavior::of(&policy);
            live(policy, behavior)
        },
    },
    Kind {
        name: "aws_predictive",
        meaning: "AWS predictive scaling beside its target tracking",
        keys: &[
            TARGET,
            SIGNAL,
            key("buffer", "5m", Allowed::Span(Duration::from_secs(3599)), "before each hour"),
        ],
        replayed: |values| {
            let policy = Policy::AwsPredictive(AwsPredictive {
                target: tracking(values),
                scheduling_buffer: values.span("buffer"),
            });
            let behavior = Behavior::of(&policy);
            live(policy, behavior)
        },
    },
    Kind {
        name: ORACLE,
        meaning: "clairvoyant: the least that any policy could cost",
        keys: &[key("budget", "0", Allowed::Number(0.0, 1.0), "share of steps overloaded")],
        replayed: |values| Ok(Replayed::Oracle { budget: values.number("budget") }),
    },
];

const fn key(
    name: &'static str,
    default: &'static str,
    allowed: Allowed,
    meaning: &'static str,
) -> Key {
    Key { name, default, allowed, meaning }
}

fn tracking(values: &Values) -> TargetTracking {
    let signal = if values.word("signal") == "cpu" { SignalKind::Cpu } else { SignalKind::Demand };
    TargetTracking { target_utilization: values.number("target"), signal }
}

/// With the bounds of the comparison alone.
fn live(policy: Policy, behavior: Behavior) -> Result<Replayed, String> {
    let behavior = Behavior { min_replicas: 0, ..behavior };
    Ok(Replayed::Live { policy, fallback: Threshold::default(), behavior })
}

impl Contender {
    /// An autoscaler of Kubernetes from the `text` of its YAML, and what of it cannot be replayed.
    ///
    /// # Errors
    /// A sentence: which key, what is wrong, what is allowed.
    pub fn hpa(text: &str) -> Result<(Contender, Vec<String>), String> {
        let hpa::Hpa { name, policy, behavior, notes } = hpa::parse(text)?;
        let parameters = [
            ("name", serde_json::Value::from(name.clone())),
            ("rule", policy.name().into()),
            ("min_replicas", behavior.min_replicas.into()),
            ("max_replicas", behavior.max_replicas.into()),
        ];
        let contender = Contender {
            policy: "hpa",
            label: format!("hpa:{name}"),
            parameters: parameters.map(|(key, value)| (key.into(), value)).into(),
            replayed: Replayed::Live { policy, fallback: Threshold::default(), behavior },
        };
        Ok((contender, notes))
    }
}

/// The table for people.
pub fn help() -> String {
    let mut text = String::from("Policies and their parameters:\n");
    for kind in POLICIES {
        text += &format!("  {:16} {}\n", kind.name, kind.meaning);
        for key in kind.keys {
            let default = if key.default.is_empty() { "must be given" } else { key.default };
            text += &format!("    {:14} {} [{default}]\n", key.name, key.meaning);
        }
    }
    text
}

#[cfg(test)]
mod tests;
