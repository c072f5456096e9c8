//! Pure: tests of what holds commands back, tick by tick.

use chrono::TimeDelta;

use super::*;
use crate::balancer;
use crate::config;
use crate::fleet::{End, ReplicaReport};
use crate::io::service::Override;

fn at(second: i64) -> Time {
    Time::UNIX_EPOCH + TimeDelta::seconds(second)
}

/// A service that wants two replicas, and at least one.
fn state() -> State {
    let text = r#"
        [services.web]
        target = { docker = {} }
        policy = "static"
        static_replicas = 2
        replicas = { min = 1, max = 3 }
        evaluation_interval = "1s"
    "#;
    let config = config::parse(text).expect("valid").services.remove("web").expect("given");
    State::new(config, Mode::Act)
}

fn ready(id: &str) -> ReplicaReport {
    ReplicaReport { id: id.into(), ready: true, managed: true, ..ReplicaReport::default() }
}

fn exited(id: &str) -> ReplicaReport {
    let end = Some(End::Exited { code: 1 });
    ReplicaReport { ready: false, exited: true, end, ..ready(id) }
}

/// One evaluation. Replicas are looked at a little after its boundary.
fn tick(state: &mut State, second: i64, reports: &[ReplicaReport]) -> Vec<Command> {
    let nobody = balancer::Snapshot::new(balancer::Algorithm::default(), Vec::new(), None);
    state.sample(at(second) + TimeDelta::milliseconds(100), reports, &[], &nobody, Vec::new());
    state.evaluate(at(second), None).commands
}

const START: [Command; 1] = [Command::Start { count: 1 }];

#[test]
fn nobody_is_stopped_while_another_stop_may_be_under_way() {
    let mut state = state();
    let three = ["a", "b", "c"].map(ready);
    let drains = |state: &State| {
        state.fleet.replicas().any(|replica| replica.phase == crate::fleet::Phase::Draining)
    };
    // Two are wanted, but the Foresail before this one may have told one of three to stop.
    for second in 0..15 {
        assert_eq!(tick(&mut state, second, &three), []);
        assert!(!drains(&state), "at {second}");
    }
    tick(&mut state, 15, &three);
    assert!(drains(&state));
}

fn limits(state: &State) -> Vec<Limit> {
    let decision = state.decisions.back().expect("one at least");
    decision.limits.iter().map(|applied| applied.limit).collect()
}

#[test]
fn a_count_changed_by_somebody_else_is_left_alone_from_the_same_tick_on() {
    let mut state = state();
    let (a, both) = ([ready("a")], [ready("a"), ready("b")]);
    (0..=20).for_each(|second| assert_eq!(tick(&mut state, second, &both), []));
    assert_eq!(limits(&state), []);
    for second in [21, 22, 80, 140] {
        assert_eq!(tick(&mut state, second, &a), [], "{second}");
        assert_eq!(limits(&state), [Limit::Yielded], "{second}");
    }
    let decision = state.decisions.back().expect("one at least");
    assert_eq!((decision.desired_replicas, decision.current_replicas), (1, 1));
    let words = "replica b was removed by somebody else: the count is left alone until 00:02:21";
    assert!(decision.notes.iter().any(|note| note == words), "{:?}", decision.notes);
    assert_eq!(tick(&mut state, 141, &a), START, "two minutes later");
    assert_eq!(limits(&state), []);
}

#[test]
fn the_minimum_and_an_operator_s_word_come_before_yielding() {
    let mut state = state();
    let (a, both) = ([ready("a")], [ready("a"), ready("b")]);
    (0..=20).for_each(|second| assert_eq!(tick(&mut state, second, &both), []));
    assert_eq!(tick(&mut state, 21, &a), []);
    let until = at(1000);
    state.override_ = Some(Override { replicas: 2, until, reason: "more".into() });
    assert_eq!(tick(&mut state, 22, &a), START);
    assert_eq!(limits(&state), [Limit::Override]);
    state.fleet.start_failed(at(22));
    state.override_ = None;
    assert_eq!(tick(&mut state, 23, &[]), START, "one, not two");
    assert_eq!(limits(&state), [Limit::Yielded]);
}

#[test]
fn starts_that_fail_wait_longer_each_time_from_the_same_tick_on() {
    let mut state = state();
    let a = ready("a");
    let mut started = Vec::new();
    for second in 0..20 {
        let name = format!("b{second}");
        let ordered = started.last().is_some_and(|last| *last == second - 1);
        let b = ordered.then(|| exited(&format!("b{}", second - 1)));
        let reports: Vec<_> = [a.clone()].into_iter().chain(b).collect();
        let commands = tick(&mut state, second, &reports);
        if commands == START {
            started.push(second);
            state.started(at(second), at(second) + TimeDelta::milliseconds(200), Ok(name));
        } else {
            assert_eq!(commands, [], "{second}");
        }
    }
    // Each fails a second and a tenth after its order; then come pauses of 1, 2, 4, 8 seconds,
    // whose ends a tick just meets.
    assert_eq!(started, [0, 2, 5, 10, 19]);
    assert_eq!(state.counters.command_failures, [("exited", 4)].into());
    let notes = state.notes(at(19));
    assert!(notes[0].contains("replica b10 ended with exit code 1"), "{notes:?}");
}
