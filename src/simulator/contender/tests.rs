//! Pure: tests of the specs of policies.

use proptest::prelude::*;

use super::*;

#[test]
fn specs_become_contenders_in_order() {
    let check = |specs: &[&str], want: &[&str]| {
        let all = parse(specs, &[]).expect("valid");
        let labels: Vec<&str> = all.iter().map(|contender| contender.label.as_str()).collect();
        assert_eq!(labels, want, "{specs:?}");
    };
    check(&[USUAL], &["threshold", "target_tracking", "predictive", "oracle"]);
    check(&["oracle", " threshold , oracle"], &["oracle", "threshold"]);
    check(&["static:replicas=5"], &["static:replicas=5"]);
    // In the order of the table, and as a person would write them.
    check(&["threshold: down=0.10, up = 0.9"], &["threshold:up=0.9,down=0.1"]);
    check(&["threshold:window=90s"], &["threshold:window=1m 30s"]);
    check(
        &["oracle,predictive:budget=0.01..0.03/3"],
        &["oracle", "predictive:budget=0.01", "predictive:budget=0.02", "predictive:budget=0.03"],
    );
    // The last key turns fastest; nine values of which only two are whole numbers.
    check(
        &["threshold:step=1..2,up=0.5..0.6/2"],
        &[
            "threshold:up=0.5,step=1",
            "threshold:up=0.5,step=2",
            "threshold:up=0.6,step=1",
            "threshold:up=0.6,step=2",
        ],
    );
    let swept = parse(&["target_tracking:target=0.5..0.9"], &[]).expect("valid");
    let targets: Vec<_> = swept.iter().map(|c| c.parameters["target"].clone()).collect();
    assert_eq!(targets, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]);
}

#[test]
fn parameters_are_replayed_and_shown_with_their_defaults() {
    let presets = [("predictive", "budget", "0.02".to_owned())];
    let one = |spec: &str| parse(&[spec], &presets).expect("valid").remove(0);
    let json = |contender: &Contender| serde_json::to_value(&contender.parameters).expect("json");
    let tracking = one("target_tracking:target=0.6,signal=demand,tolerance=0,down_window=10m");
    assert_eq!(
        json(&tracking),
        serde_json::json!({"target": 0.6, "signal": "demand", "tolerance": 0.0,
            "up_window": "0s", "down_window": "10m"})
    );
    let Replayed::Live { policy, behavior, .. } = &tracking.replayed else { panic!("live") };
    let signal = SignalKind::Demand;
    let want = Policy::TargetTracking(TargetTracking { target_utilization: 0.6, signal });
    assert_eq!(policy, &want);
    assert_eq!(behavior.tolerance, Bidirectional { up: 0.0, down: 0.0 });
    assert_eq!(behavior.stabilization_window.down, Duration::from_secs(600));
    assert_eq!(behavior.rate_limits, Behavior::kubernetes().rate_limits);

    let threshold = one("threshold:up=0.9,window=2m");
    let Replayed::Live { policy, .. } = &threshold.replayed else { panic!("live") };
    let rule = Threshold { up: 0.9, window: Duration::from_secs(120), ..Threshold::default() };
    assert_eq!(policy, &Policy::Threshold(rule));
    let Replayed::Live { policy, .. } = one("static:replicas=3").replayed else { panic!("live") };
    assert_eq!(policy, Policy::Static { replicas: 3 });
    // What is said beside the specification holds where it says nothing itself.
    assert_eq!(json(&one("predictive")), serde_json::json!({"budget": 0.02, "start_cost": "0s"}));
    assert_eq!(
        json(&one("predictive:budget=0.1")),
        serde_json::json!({"budget": 0.1, "start_cost": "0s"})
    );
    assert_eq!(one("oracle").replayed, Replayed::Oracle { budget: 0.0 });
    assert_eq!(one("oracle:budget=0.01").replayed, Replayed::Oracle { budget: 0.01 });
}

#[test]
fn what_people_have_is_replayed_too() {
    let live = |spec: &str| match parse(&[spec], &[]).expect("valid").remove(0).replayed {
        Replayed::Live { policy, behavior, .. } => (policy, behavior),
        oracle => panic!("{oracle:?}"),
    };
    let (policy, behavior) = live("scheduled:table=0 8 * * 1-5 Europe/Berlin min=5 for=10h");
    assert_eq!(policy, Policy::Static { replicas: 1 });
    assert_ne!(behavior.schedule, Behavior::unlimited().schedule);
    let (policy, behavior) = live("phpa:target=0.5,decision=mean");
    let reactive = TargetTracking { target_utilization: 0.5, ..TargetTracking::default() };
    let decision = DecisionType::Mean;
    assert_eq!(policy, Policy::Phpa(Phpa { reactive, decision, ..Phpa::default() }));
    assert_eq!(behavior.rate_limits, Behavior::kubernetes_without().rate_limits);
    let (policy, _) = live("aws_predictive:buffer=10m");
    let scheduling_buffer = Duration::from_secs(600);
    assert_eq!(
        policy,
        Policy::AwsPredictive(AwsPredictive { scheduling_buffer, ..AwsPredictive::default() })
    );
    let refused = parse(&["scheduled:table=25 99 * * * min=1 for=1h"], &[]).expect_err("no hour");
    assert!(refused.contains("table: "), "{refused}");

    let yaml = "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: web}\n\
                spec:\n  maxReplicas: 7\n  targetCPUUtilizationPercentage: 60\n\
                \x20 scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n";
    let (hpa, _) = Contender::hpa(yaml).expect("valid");
    assert_eq!(hpa.label, "hpa:web");
    let Replayed::Live { policy, behavior, .. } = hpa.replayed else { panic!("live") };
    let rule = TargetTracking { target_utilization: 0.6, signal: SignalKind::Cpu };
    assert_eq!((policy, behavior.max_replicas), (Policy::TargetTracking(rule), 7));
    assert!(Contender::hpa("kind: Pod").is_err());
}

#[test]
fn a_malformed_spec_says_what_is_wrong_where_and_what_is_allowed() {
    let check = |spec: &str, want: &str| {
        let error = parse(&[spec], &[]).expect_err(spec);
        assert!(error.starts_with(&format!("`{spec}`: {want}")), "{error}");
    };
    check("hpa2", "no policy `hpa2`; there are: static, threshold, target_tracking, predictive,");
    check("", "no policy ``; there are:");
    check("threshold,", "no policy ``; there are:");
    check("static", "`replicas` must be given: a whole number from 0 to 1000000");
    check("threshold:up", "`up` is not key=value; another policy has a --policy of its own");
    check("threshold:up=0.9,oracle", "`oracle` is not key=value; another policy");
    check("threshold:upp=1", "threshold has no `upp`; it has: up (0.01 to 100), down (0 to 100),");
    check("threshold:up=1,up=2", "`up` is given twice");
    check("threshold:up=0.1", "down=0.2 is not below up=0.1");
    check("threshold:step=1.5", "step=1.5 is not a whole number from 1 to 1000000");
    check("threshold:window=2d", "window=2d is not a duration such as 90s, at most 1day");
    check("target_tracking:target=2", "target=2 is not 0.01 to 1");
    check("target_tracking:target=NaN", "target=NaN is not 0.01 to 1");
    check("target_tracking:target=", "target= is not 0.01 to 1");
    check("target_tracking:signal=gpu", "signal=gpu is not cpu or demand");
    check("target_tracking:signal=cpu..demand", "signal=cpu..demand: a word cannot be swept");
    check("predictive:budget=0", "budget=0 is not 0.000001 to 0.5");
    check("target_tracking:target=0.9..0.5", "target=0.9..0.5: a sweep goes from the lower");
    check("target_tracking:target=0.5..0.5", "target=0.5..0.5: a sweep goes from the lower");
    check("target_tracking:target=0.5..2", "target=2 is not 0.01 to 1");
    check("target_tracking:target=0.5..0.9/1", "target=0.5..0.9/1: a sweep has 2 to 200 values");
    check("target_tracking:target=0.5..0.9/many", "target=0.5..0.9/many: a sweep has 2 to 200");
    check(
        "target_tracking:target=0.5..0.9/20,tolerance=0..1/11",
        "220 policies more; at most 200 in one comparison",
    );
    let many = ["target_tracking:target=0.1..0.9/150", "predictive:budget=0.01..0.1/51"];
    assert!(parse(&many, &[]).expect_err("201").contains("51 policies more; at most 200"));
    let presets = [("predictive", "budget", "7".to_owned())];
    let preset = parse(&["predictive"], &presets).expect_err("beyond");
    assert_eq!(preset, "`predictive`: budget=7 is not 0.000001 to 0.5");
    assert!(parse::<&str>(&[], &[]).expect_err("nothing").contains("no policy"));
}

#[test]
fn the_help_has_every_key_and_every_default_is_allowed() {
    let help = help();
    for kind in POLICIES {
        assert!(help.contains(kind.name) && help.contains(kind.meaning));
        assert!(kind.keys.iter().all(|key| help.contains(key.meaning)), "{}", kind.name);
        let required = kind.keys.iter().filter(|key| key.default.is_empty());
        let value = |key: &Key| match key.allowed {
            Allowed::Text => "0 8 * * * UTC min=1 for=1h",
            _ => "1",
        };
        let given: Vec<String> =
            required.map(|key| format!("{}={}", key.name, value(key))).collect();
        let parsed = parse(&[format!("{}:{}", kind.name, given.join(","))], &[]);
        assert_eq!(parsed.expect("allowed").len(), 1, "{}", kind.name);
    }
}

proptest! {
    #[test]
    fn no_spec_panics_and_what_is_taken_is_bounded(
        spec in "\\PC{0,40}|[a-z_]{0,9}(:[a-z_]{0,9}=[0-9a-z.,=/]{0,20}){0,3}\
            |(threshold|target_tracking|static|oracle):\
            ((up|down|step|window|target|signal|replicas|budget)=[0-9.]{0,6}[smhd]?(\\.\\.[0-9.]{0,6}[smhd]?(/[0-9]{0,4})?)?,?){0,4}",
    ) {
        match parse(&[&spec], &[]) {
            Ok(all) => prop_assert!((1..=CONTENDERS_MAX).contains(&all.len())),
            Err(error) => prop_assert!(error.chars().count() < 600, "{error}"),
        }
    }
}
