//! Pure: autoscalers of Kubernetes as text, right and wrong ones.

use super::super::average_value::{AverageValue, Metric};
use super::super::hpa::{Hpa, parse};
use super::super::rate_limit::{Change, RateLimit, Select};
use super::*;

/// An autoscaler with `lines` in its spec, at the indentation of the spec.
fn v2(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata:\n  name: web\nspec:\n  \
         scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web }}\n{lines}"
    )
}

fn ok(text: &str) -> Hpa {
    parse(text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

fn tracking(target_utilization: f64) -> Policy {
    Policy::TargetTracking(TargetTracking { target_utilization, signal: SignalKind::Cpu })
}

fn average(target: f64, of: Metric) -> Policy {
    Policy::AverageValue(AverageValue { target, of })
}

const CPU: &str = "\
metrics:
- type: Resource
  resource: { name: cpu, target: { type: Utilization, averageUtilization: 60 } }
";

#[test]
fn what_is_absent_is_as_the_api_server_fills_it() {
    let hpa = ok(&v2(&format!("minReplicas: 2\nmaxReplicas: 30\n{CPU}")));
    assert_eq!((hpa.name.as_str(), &hpa.policy), ("web", &tracking(0.6)));
    let limits = Behavior { min_replicas: 2, max_replicas: 30, ..Behavior::kubernetes_without() };
    assert_eq!(hpa.behavior, limits);
    assert_eq!(hpa.notes.len(), 1, "{:?}", hpa.notes);
    // No minimum is 1, no metric is CPU at 80 %.
    let bare = ok(&v2("maxReplicas: 3"));
    assert_eq!((bare.policy, bare.behavior.min_replicas), (tracking(0.8), 1));
    // v2beta2 is spelled the same; v1 has one key.
    let old = v2(&format!("maxReplicas: 30\n{CPU}")).replace("/v2", "/v2beta2");
    assert_eq!(ok(&old).policy, tracking(0.6));
    let first = v2("maxReplicas: 9\ntargetCPUUtilizationPercentage: 150").replace("/v2", "/v1");
    assert_eq!(ok(&first).policy, tracking(1.5));
    assert_eq!(ok(&v2("maxReplicas: 9").replace("/v2", "/v1")).policy, tracking(0.8));
}

#[test]
fn behavior_is_laid_over_its_defaults() {
    let hpa = ok(&v2(&format!(
        "maxReplicas: 30\n{CPU}behavior:\n  scaleUp:\n    stabilizationWindowSeconds: 120\n    \
         tolerance: 50m\n  scaleDown:\n    selectPolicy: Min\n    policies:\n    - {{ type: Pods, \
         value: 3, periodSeconds: 60 }}\n    - {{ type: Percent, value: 10, periodSeconds: 1800 }}"
    )));
    let Behavior { stabilization_window: windows, rate_limits: limits, tolerance, .. } =
        hpa.behavior;
    let seconds = Duration::from_secs;
    assert_eq!((windows.up, windows.down), (seconds(120), seconds(300)));
    assert_eq!((tolerance.up, tolerance.down), (0.05, 0.1));
    assert_eq!(limits.up, Behavior::kubernetes().rate_limits.up);
    assert_eq!(limits.down.select, Select::Min);
    assert_eq!(
        limits.down.limits,
        [
            RateLimit { most: Change::Replicas(3), period: seconds(60) },
            RateLimit { most: Change::Percent(10), period: seconds(1800) },
        ]
    );
    let empty = ok(&v2("maxReplicas: 3\nbehavior: {}")).behavior;
    assert_eq!(empty, Behavior { max_replicas: 3, ..Behavior::kubernetes() });
}

#[test]
fn of_several_metrics_cpu_is_replayed_and_the_rest_is_named() {
    let metric = |text: &str| ok(&v2(&format!("maxReplicas: 3\nmetrics:\n{text}")));
    let value = "target: { type: AverageValue, averageValue: ";
    let pods = format!("- type: Pods\n  pods: {{ metric: {{ name: rps }}, {value} 1.5k }} }}\n");
    let external =
        format!("- type: External\n  external: {{ metric: {{ name: queue }}, {value} 30 }} }}\n");
    let cpu = format!("- type: Resource\n  resource: {{ name: cpu, {value} 500m }} }}\n");
    let memory = "- type: Resource\n  resource: { name: memory, target: { type: Utilization, \
                  averageUtilization: 70 } }\n";
    assert_eq!(metric(&pods).policy, average(1500.0, Metric::Pods));
    assert_eq!(metric(&external).policy, average(30.0, Metric::Total));
    assert_eq!(metric(&cpu).policy, average(0.5, Metric::Cpu));
    let all = metric(&[memory, &pods, &external, &cpu].concat());
    assert_eq!(all.policy, average(0.5, Metric::Cpu));
    let named = ["Resource memory", "Pods rps", "External queue"];
    for name in named {
        let told = all.notes.iter().any(|n| n.contains(&format!("metric {name} is not replayed")));
        assert!(told, "{name} in {:?}", all.notes);
    }
    assert_eq!(metric(&[memory, &pods].concat()).policy, average(1500.0, Metric::Pods));
    // From 0 only for a total.
    let zero = v2(&format!("minReplicas: 0\nmaxReplicas: 3\nmetrics:\n{external}"));
    assert_eq!(ok(&zero).behavior.min_replicas, 0);
    assert_eq!(ok(&format!("{zero}  {}", cpu.replace('\n', "\n  "))).policy, all.policy);
}

#[test]
fn one_autoscaler_among_several_documents_is_found() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\n---\n";
    let hpa = v2("maxReplicas: 3");
    assert_eq!(ok(&format!("---\n{deployment}{hpa}---\n")).name, "web");
    let twice = format!("{hpa}---\n{hpa}");
    assert_eq!(parse(&twice).unwrap_err(), "more than one HorizontalPodAutoscaler; keep one");
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    let target =
        |kind: &str, rest: &str| format!("maxReplicas: 3\nmetrics:\n- type: {kind}\n  {rest}");
    let down = |rest: &str| format!("maxReplicas: 3\nbehavior: {{ scaleDown: {{ {rest} }} }}");
    let cases = [
        ("minReplicas: 1".into(), "spec: missing field `maxReplicas`"),
        ("maxReplicas: many".into(), "spec.maxReplicas: invalid type: string \"many\", expected"),
        ("maxReplicas: -1".into(), "spec.maxReplicas: invalid type: integer `-1`, expected u32"),
        ("maxReplicas: 1e99".into(), "spec.maxReplicas: invalid type: floating point"),
        ("maxReplicas: 0".into(), "spec.maxReplicas: 0 is less than minReplicas = 1, or 0"),
        ("maxReplicas: 2\nminReplicas: 5".into(), "spec.maxReplicas: 2 is less than minReplicas"),
        ("maxReplicas: 2\nminReplicas: 0".into(), "spec.minReplicas: 0 needs an Object or"),
        ("maxReplicas: 2\nminReplica: 1".into(), "spec: unknown field `minReplica`, expected one"),
        (
            "maxReplicas: 2\ntargetCPUUtilizationPercentage: 50".into(),
            "spec.targetCPUUtilizationPercentage: only in autoscaling/v1",
        ),
        (target("Resource", "{}"), "no YAML of Kubernetes"),
        (target("Resource", "pods: {}"), "spec.metrics[0].resource: missing; metric type Resource"),
        (
            target("Gauge", "pods: {}"),
            "spec.metrics[0].type: \"Gauge\" is none of Resource, ContainerResource, Pods",
        ),
        (target("Pods", "pods: {}"), "spec.metrics[0].pods.target: missing; write its type"),
        (
            target("Pods", "pods: { target: { type: Utilization } }"),
            "spec.metrics[0].pods.target.type: Utilization is not allowed for pods",
        ),
        (
            target("Pods", "pods: { target: { type: Mean } }"),
            "spec.metrics[0].pods.target.type: \"Mean\" is none of Utilization, AverageValue",
        ),
        (
            target("Pods", "pods: { target: { type: AverageValue } }"),
            "spec.metrics[0].pods.target.averageValue: missing; target type AverageValue needs",
        ),
        (
            target("Pods", "pods: { target: { type: AverageValue, averageValue: 3 apples } }"),
            "spec.metrics[0].pods.target.averageValue: \"3 apples\" is no quantity; write",
        ),
        (
            target("Pods", "pods: { target: { type: AverageValue, averageValue: -5 } }"),
            "spec.metrics[0].pods.target.averageValue: -5 is no quantity",
        ),
        (
            target("Pods", "pods: { target: { type: AverageValue, averageValue: 0 } }"),
            "spec.metrics[0].pods.target.averageValue: 0 is no target; write more",
        ),
        (
            target(
                "Resource",
                "resource: { name: cpu, target: { type: Utilization, averageUtilization: 0 } }",
            ),
            "spec.metrics[0].resource.target.averageUtilization: 0 is no target",
        ),
        (
            target("Object", "object: { target: { type: Value, value: 10 } }"),
            "spec.metrics: Object cannot be replayed; one of Resource cpu, Pods, or",
        ),
        (
            down("stabilizationWindowSeconds: 3601"),
            "spec.behavior.scaleDown.stabilizationWindowSeconds: 3601 is not in 0 to 3600",
        ),
        (down("selectPolicy: Mean"), "spec.behavior.scaleDown.selectPolicy: \"Mean\" is none of"),
        (down("tolerance: x"), "spec.behavior.scaleDown.tolerance: \"x\" is no quantity"),
        (down("policies: []"), "spec.behavior.scaleDown.policies: empty; write at least one"),
        (
            down("policies: [{ type: Pods, value: 1, periodSeconds: 0 }]"),
            "spec.behavior.scaleDown.policies[0].periodSeconds: 0 is not in 1 to 1800",
        ),
        (
            down("policies: [{ type: Pods, value: 0, periodSeconds: 9 }]"),
            "spec.behavior.scaleDown.policies[0].value: 0 allows nothing",
        ),
        (
            down("policies: [{ type: Share, value: 1, periodSeconds: 9 }]"),
            "spec.behavior.scaleDown.policies[0].type: \"Share\" is neither Pods nor Percent",
        ),
    ];
    for (lines, want) in cases {
        let error = parse(&v2(&lines)).map(|_| ()).unwrap_err();
        assert!(error.starts_with(want), "{lines}\ngave {error}\nnot {want}");
    }
    let other = parse(&v2("maxReplicas: 3").replace("/v2", "/v2beta1")).unwrap_err();
    assert!(other.starts_with("apiVersion: \"autoscaling/v2beta1\" is not supported"), "{other}");
    let first = parse(&v2("maxReplicas: 3\nbehavior: {}").replace("/v2", "/v1")).unwrap_err();
    assert_eq!(first, "apiVersion: metrics and behavior need autoscaling/v2");
    let deep = "[".repeat(100_000);
    for text in ["", "3", "[]", "kind: Deployment", "kind: [", "- kind: x", "\t", &deep] {
        assert!(parse(text).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text);
        let _ = parse(&String::from_utf8_lossy(&bytes));
        let _ = parse(&v2(&text));
    }

    /// Nearly right files reach deeper than noise does.
    #[test]
    fn no_value_panics(
        key in prop::sample::select(vec![
            "minReplicas", "maxReplicas", "metrics", "behavior", "scaleTargetRef",
            "targetCPUUtilizationPercentage",
        ]),
        value in prop::sample::select(vec![
            "", "~", "1", "-1", "4294967296", "1e999", ".nan", "''", "[]", "[{}]", "{}", "true",
            "{ scaleUp: ~, scaleDown: { tolerance: .nan } }", "{ scaleUp: { tolerance: 1e308Ei } }",
            "[{ type: Resource, resource: { name: cpu, target: { type: AverageValue, \
             averageValue: é } } }]", "&a [*a]", "!!binary x", "0x7fffffffffffffffffffff",
        ]),
        version in prop::sample::select(vec!["/v2", "/v1"]),
    ) {
        let _ = parse(&v2(&format!("maxReplicas: 3\n{key}: {value}")).replace("/v2", version));
    }
}
