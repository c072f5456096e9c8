//! Pure: tests of the life cycle, as a table of moments, and of an obedient world.

use super::*;
use chrono::DateTime;
use proptest::prelude::*;

fn at(s: i64) -> Time {
    DateTime::from_timestamp(s, 0).expect("in range")
}

fn fleet() -> Fleet {
    Fleet::new(FleetSettings {
        slow_start: Duration::from_secs(2),
        drain_timeout: Duration::from_secs(10),
        start_timeout: Duration::from_secs(30),
        yield_for: Duration::from_secs(60),
    })
}

fn report(id: &str, ready: bool, managed: bool) -> ReplicaReport {
    ReplicaReport { id: id.into(), ready, managed, ..ReplicaReport::default() }
}

fn stop(id: &str) -> Command {
    Command::Stop { replica: id.into() }
}

fn check_phases(fleet: &Fleet, want: &[(&str, Phase)]) {
    let got: Vec<(&str, Phase)> = fleet.replicas().map(|r| (r.id.as_str(), r.phase)).collect();
    assert_eq!(got, want);
}

#[test]
fn a_start_is_measured_from_its_order_to_ready_and_then_warms() {
    let mut f = fleet();
    assert_eq!(f.reconcile(at(0), 1), [Command::Start { count: 1 }]);
    assert_eq!((f.current_replicas(), f.ready_replicas()), (1, 0));
    assert_eq!(f.reconcile(at(1), 1), [], "an ordered start is not ordered again");
    f.started(at(0), at(1), "a".into());
    f.observe(at(2), &[report("a", false, true)], |_| 0);
    check_phases(&f, &[("a", Phase::Starting)]);
    f.observe(at(3), &[report("a", true, true)], |_| 0);
    check_phases(&f, &[("a", Phase::Warming)]);
    assert_eq!(f.take_startup_delays(), [Duration::from_secs(3)]);
    f.observe(at(5), &[report("a", true, true)], |_| 0);
    check_phases(&f, &[("a", Phase::Ready)]);
    assert_eq!(f.take_startup_delays(), []);
}

#[test]
fn a_replica_seen_before_its_start_answered_is_not_counted_twice() {
    let mut f = fleet();
    f.reconcile(at(0), 1);
    f.observe(at(1), &[report("a", false, true)], |_| 0);
    f.started(at(0), at(2), "a".into());
    assert_eq!(f.current_replicas(), 1);
}

#[test]
fn what_failed_but_serves_after_all_is_drained_before_it_is_stopped() {
    let mut f = fleet();
    f.observe(at(0), &[report("a", false, true)], |_| 0);
    f.observe(at(30), &[report("a", false, true)], |_| 0);
    assert_eq!(f.reconcile(at(30), 1), [stop("a"), Command::Start { count: 1 }]);
    // The stop is refused, and meanwhile it becomes ready.
    f.stop_failed("a", at(31));
    f.observe(at(31), &[report("a", true, true)], |_| 1);
    assert_eq!(f.reconcile(at(32), 2), [Command::Start { count: 1 }], "it is not taken back");
    check_phases(&f, &[("a", Phase::Draining)]);
    f.observe(at(33), &[report("a", true, true)], |_| 0);
    assert_eq!(f.reconcile(at(33), 2), [stop("a")]);

    // Ready between the look that condemned it and the command.
    let mut f = fleet();
    f.observe(at(0), &[report("b", false, true)], |_| 0);
    f.observe(at(30), &[report("b", false, true)], |_| 0);
    f.observe(at(31), &[report("b", true, true)], |_| 0);
    assert_eq!(f.reconcile(at(31), 1), [Command::Start { count: 1 }]);
    check_phases(&f, &[("b", Phase::Draining)]);
}

#[test]
fn the_outdated_leave_first() {
    let mut f = fleet();
    let old = ReplicaReport { outdated: true, ..report("old", true, false) };
    // Otherwise ours would go before others', the one that starts before those that serve.
    let reports = [report("new", true, true), old, report("starting", false, true)];
    f.observe(at(0), &reports, |id| u32::from(id == "old"));
    assert_eq!(f.reconcile(at(1), 2), []);
    check_phases(
        &f,
        &[("new", Phase::Ready), ("old", Phase::Draining), ("starting", Phase::Starting)],
    );
}

#[test]
fn ours_of_an_older_configuration_are_replaced_one_by_one() {
    let mut f = fleet();
    let old = |id: &str| ReplicaReport { outdated: true, ..report(id, true, true) };
    let reconcile = |f: &mut Fleet, second| {
        let desired = 2 + f.surge(2);
        f.reconcile(at(second), desired)
    };
    f.observe(at(0), &[old("a"), old("b")], |_| 0);
    assert_eq!(reconcile(&mut f, 1), [Command::Start { count: 1 }]);
    f.started(at(1), at(2), "c".into());
    assert_eq!(reconcile(&mut f, 2), [], "nobody leaves before its successor serves");
    f.observe(at(3), &[old("a"), old("b"), report("c", true, true)], |_| 0);
    assert_eq!(reconcile(&mut f, 3), []);
    check_phases(&f, &[("a", Phase::Draining), ("b", Phase::Ready), ("c", Phase::Warming)]);
    assert_eq!(reconcile(&mut f, 4), [stop("a"), Command::Start { count: 1 }]);
    f.started(at(4), at(5), "d".into());
    f.observe(at(6), &[old("b"), report("c", true, true), report("d", true, true)], |_| 0);
    reconcile(&mut f, 6);
    assert_eq!(reconcile(&mut f, 7), [stop("b")]);
    f.observe(at(8), &[report("c", true, true), report("d", true, true)], |_| 0);
    assert_eq!(reconcile(&mut f, 8), []);
    // Those that somebody else started stay until the load falls.
    let users = ReplicaReport { managed: false, ..old("e") };
    f.observe(at(9), &[report("c", true, true), report("d", true, true), users], |_| 0);
    assert_eq!(f.surge(3), 0);
}

#[test]
fn replicas_that_were_there_before_are_ready_and_not_measured() {
    let mut f = fleet();
    f.observe(at(0), &[report("a", true, false)], |_| 0);
    check_phases(&f, &[("a", Phase::Ready)]);
    assert_eq!(f.take_startup_delays(), []);
}

#[test]
fn a_leaving_replica_drains_until_idle_and_is_stopped_once() {
    let mut f = fleet();
    let seen = [report("a", true, false), report("b", true, true)];
    f.observe(at(0), &seen, |_| 1);
    assert_eq!(f.reconcile(at(0), 1), [], "drained first, never stopped at once");
    check_phases(&f, &[("a", Phase::Ready), ("b", Phase::Draining)]);
    f.observe(at(1), &seen, |_| 1);
    assert_eq!(f.reconcile(at(1), 1), [], "still a request in flight");
    f.observe(at(2), &seen, |_| 0);
    assert_eq!(f.reconcile(at(2), 1), [stop("b")]);
    assert_eq!(f.reconcile(at(3), 1), [], "told once");
    f.stop_failed("b", at(3));
    assert_eq!(f.reconcile(at(4), 1), [stop("b")], "told again after a failure");
    f.observe(at(5), &seen[..1], |_| 0);
    check_phases(&f, &[("a", Phase::Ready)]);
}

#[test]
fn a_stuck_request_holds_a_draining_replica_no_longer_than_the_timeout() {
    let mut f = fleet();
    f.observe(at(0), &[report("a", true, true)], |_| 1);
    f.reconcile(at(0), 0);
    f.observe(at(9), &[report("a", true, true)], |_| 1);
    assert_eq!(f.reconcile(at(9), 0), []);
    assert_eq!(f.reconcile(at(10), 0), [stop("a")]);
}

#[test]
fn load_that_returns_takes_back_a_draining_replica() {
    let mut f = fleet();
    f.observe(at(0), &[report("a", true, true), report("b", true, true)], |_| 0);
    f.reconcile(at(0), 1);
    // Also when it has drained just now.
    assert_eq!(f.reconcile(at(1), 3), [Command::Start { count: 1 }]);
    assert_eq!((f.ready_replicas(), f.current_replicas()), (2, 3));
}

#[test]
fn what_is_outdated_is_not_taken_back() {
    let mut f = fleet();
    let old = ReplicaReport { outdated: true, ..report("old", true, true) };
    f.observe(at(0), &[old, report("new", true, true)], |_| 1);
    f.reconcile(at(0), 1);
    assert_eq!(f.reconcile(at(1), 2), [Command::Start { count: 1 }]);
    check_phases(&f, &[("new", Phase::Ready), ("old", Phase::Draining)]);
}

#[test]
fn those_that_start_leave_first_then_ours_then_the_idle_then_the_young() {
    let mut f = fleet();
    let ready = [report("old", true, false), report("busy", true, true)];
    f.observe(at(0), &ready, |_| 0);
    let all = [&ready[..], &[report("idle", true, true), report("new", false, true)]].concat();
    f.observe(at(1), &all, |id| u32::from(id == "busy"));
    assert_eq!(f.reconcile(at(1), 3), [stop("new")]);
    f.reconcile(at(2), 1);
    let draining: Vec<&str> =
        f.replicas().filter(|r| r.phase == Phase::Draining).map(|r| &r.id[..]).collect();
    assert_eq!(draining, ["busy", "idle"]);
}

#[test]
fn the_unhealthy_leave_first_and_are_not_taken_back() {
    let mut f = fleet();
    let all = |well| [report("a", well, false), report("b", true, true), report("c", true, true)];
    f.observe(at(0), &all(true), |_| 0);
    f.reconcile(at(0), 4);
    f.started(at(0), at(0), "new".into());
    // Unhealthy with a request in flight: drained like the others, although it takes no new ones.
    f.observe(at(1), &all(false), |id| u32::from(id == "a"));
    assert_eq!(f.reconcile(at(1), 3), []);
    let phase = |f: &Fleet, id| f.replicas().find(|r| r.id == id).map(|r| r.phase);
    assert_eq!(phase(&f, "a"), Some(Phase::Draining));
    assert_eq!((f.current_replicas(), f.recoverable_replicas()), (3, 0));
    assert_eq!(f.reconcile(at(1), 2), [stop("new")], "then the one that still starts");
    assert_eq!(f.reconcile(at(1), 1), [], "b or c drains");
    assert_eq!((f.recoverable_replicas(), f.ready_replicas()), (1, 1));
    assert_eq!(f.reconcile(at(1), 3), [Command::Start { count: 1 }]);
    assert_eq!(phase(&f, "a"), Some(Phase::Draining));
}

/// A moment as the target shows it, and what becomes of it.
#[derive(Default)]
struct Moment {
    second: i64,
    reports: Vec<ReplicaReport>,
    failures: Vec<&'static str>,
    changes: Vec<&'static str>,
}

/// Plays the moments to a fleet with the ready replica `mine`, whose start of `new` is ordered and
/// named at second 100, long after it came in sight.
fn check_judged(mut moments: Vec<Moment>) {
    let mut f = fleet();
    f.observe(at(0), &[report("mine", true, true)], |_| 0);
    f.observe(at(99), &[report("mine", true, true)], |_| 0);
    f.reconcile(at(100), 2);
    f.started(at(100), at(100), "new".into());
    for moment in &mut moments {
        f.observe(at(moment.second), &moment.reports, |_| 0);
        let failures = f.take_failures();
        let failures: Vec<&str> = failures.iter().map(|(_, failure)| failure.reason()).collect();
        assert_eq!(failures, moment.failures, "at {}", moment.second);
        let changes = f.take_changes();
        let same = changes.iter().map(|c| c.trim_end_matches(" by somebody else"));
        assert_eq!(same.collect::<Vec<_>>(), moment.changes, "at {}", moment.second);
    }
}

fn ended(id: &str, end: Option<End>) -> ReplicaReport {
    ReplicaReport { exited: true, end, ..report(id, false, true) }
}

#[test]
fn an_end_is_a_failed_start_or_a_crash_or_somebody_else_s_doing() {
    let (mine, new) = (report("mine", true, true), report("new", true, true));
    let exited = |code| Some(End::Exited { code });
    let check = |second, reports: Vec<ReplicaReport>, failures: &[&'static str], changes: &[_]| {
        let (failures, changes) = (failures.to_vec(), changes.to_vec());
        let ready = vec![mine.clone(), new.clone()];
        let served = |second| Moment { second, reports: ready.clone(), ..Moment::default() };
        let last = Moment { second, reports, failures, changes };
        check_judged(vec![served(101), served(second - 1), last]);
    };
    let (mine, new) = (mine.clone(), new.clone());
    check(102, vec![mine.clone(), ended("new", exited(1))], &["exited"], &[]);
    check(102, vec![mine.clone(), ended("new", Some(End::OutOfMemory))], &["out_of_memory"], &[]);
    check(161, vec![mine.clone(), ended("new", exited(1))], &["exited"], &[]);
    // It has served for a minute.
    check(162, vec![mine.clone(), ended("new", exited(1))], &[], &[]);
    check(102, vec![new.clone(), ended("mine", exited(1))], &[], &[]);
    check(102, vec![new.clone(), ended("mine", exited(143))], &[], &["replica mine was stopped"]);
    check(102, vec![mine.clone()], &[], &["replica new was removed"]);
    let other = report("other", true, false);
    let three = vec![mine.clone(), new.clone(), other];
    check(102, three, &[], &["replica other was started"]);
    let looping = ReplicaReport { restarts: 3, ..new };
    check(102, vec![mine, looping], &["restart_loop"], &[]);
}

#[test]
fn before_it_has_served_every_end_is_a_failed_start() {
    let mine = report("mine", true, true);
    let check = |second, reports: &[ReplicaReport], failures: &[&'static str]| {
        let (reports, failures) = (reports.to_vec(), failures.to_vec());
        check_judged(vec![Moment { second, reports, failures, ..Moment::default() }]);
    };
    check(101, &[mine.clone(), ended("new", Some(End::Exited { code: 0 }))], &["exited"]);
    check(101, &[mine.clone(), ended("new", None)], &["exited"]);
    check(130, &[mine.clone(), report("new", false, true)], &["not_ready"]);
    // It was named and not listed yet; then it is believed to be gone.
    let mine = [mine];
    check(104, &mine, &[]);
    check(105, &mine, &["exited"]);
}

#[test]
fn what_changed_out_of_sight_or_soon_after_is_nobody_s_doing() {
    let mut f = fleet();
    let both = [report("a", true, true), report("b", true, true)];
    let judged = |f: &mut Fleet| (f.take_failures().len(), f.take_changes().len());
    f.observe(at(0), &both, |_| 0);
    f.observe(at(14), &both[..1], |_| 0);
    assert_eq!(judged(&mut f), (0, 0));
    f.observe(at(20), &both, |_| 0);
    assert_eq!(judged(&mut f), (0, 1));
    f.lose_sight();
    f.observe(at(30), &[both[0].clone(), ended("b", Some(End::Exited { code: 1 }))], |_| 0);
    assert_eq!(judged(&mut f), (0, 0));
    f.observe(at(44), &both, |_| 0);
    assert_eq!(judged(&mut f), (0, 0));
}

#[test]
fn it_sees_clearly_once_all_that_may_be_stopping_is_gone() {
    let check = |grace: u64, clear_after: i64| {
        let mut f = fleet();
        assert!(!f.sees_clearly(at(0)));
        let slow =
            ReplicaReport { stop_grace: Duration::from_secs(grace), ..report("a", true, true) };
        f.observe(at(0), &[report("b", true, true), slow], |_| 0);
        assert!(!f.sees_clearly(at(clear_after - 1)), "{grace}");
        assert!(f.sees_clearly(at(clear_after)), "{grace}");
    };
    check(0, 15);
    check(10, 15);
    // 5 s more than it may take.
    check(30, 35);
}

#[test]
fn what_a_killed_foresail_left_is_stopped_once_and_holds_its_place_until_it_is_gone() {
    let created = |id| ReplicaReport { created: true, ..report(id, false, true) };
    let stopped = ended("stopped", Some(End::Exited { code: 0 }));
    let crashed = ended("crashed", Some(End::Exited { code: 1 }));
    let mut f = fleet();
    f.observe(at(0), &[created("made"), stopped, crashed], |_| 0);
    assert_eq!(f.replicas().count(), 0);
    let clear = [stop("made"), stop("stopped")];
    assert_eq!(f.reconcile(at(0), 1), clear, "the start waits: `made` may yet run");
    // It ran after all; it was told to stop, and is no replica.
    f.observe(at(1), &[report("made", false, true)], |_| 0);
    assert_eq!((f.reconcile(at(1), 1), f.replicas().count()), (vec![], 0));
    f.stop_failed("made", at(1));
    f.observe(at(2), &[created("made")], |_| 0);
    assert_eq!(f.reconcile(at(2), 1), [stop("made")], "told again after a failure");
    f.observe(at(3), &[], |_| 0);
    assert_eq!(f.reconcile(at(3), 1), [Command::Start { count: 1 }]);
    // Made and not started yet, by the start that was just ordered.
    f.observe(at(4), &[created("ours")], |_| 0);
    assert_eq!(f.reconcile(at(4), 1), []);
    f.started(at(3), at(5), "ours".into());
    f.observe(at(5), &[created("ours")], |_| 0);
    check_phases(&f, &[("ours", Phase::Starting)]);
}

#[test]
fn a_start_that_never_becomes_ready_is_replaced() {
    let mut f = fleet();
    f.reconcile(at(0), 1);
    f.started(at(0), at(0), "a".into());
    f.observe(at(30), &[report("a", false, true)], |_| 0);
    assert_eq!(f.reconcile(at(30), 1), [stop("a"), Command::Start { count: 1 }]);
}

#[test]
fn a_replica_that_loses_its_readiness_gets_no_requests_until_it_is_back() {
    let mut f = fleet();
    f.observe(at(0), &[report("a", true, false)], |_| 0);
    f.observe(at(1), &[report("a", false, false)], |_| 0);
    assert_eq!((f.ready_replicas(), f.current_replicas()), (0, 1));
    f.observe(at(2), &[report("a", true, false)], |_| 0);
    assert_eq!(f.ready_replicas(), 1);
    assert_eq!(f.take_startup_delays(), [], "coming back is not a startup");
    assert_eq!(f.reconcile(at(60), 1), []);
}

proptest! {
    /// Whatever is asked for in whatever order, a world that obeys ends at the last desired
    /// count, and never stops a replica that had requests in flight before the drain timeout.
    #[test]
    fn an_obedient_world_converges(desired in prop::collection::vec(0u32..6, 1..30)) {
        let mut f = fleet();
        let mut world: BTreeMap<ReplicaId, u32> = BTreeMap::new();
        let mut named = 0;
        let mut now = 0;
        let mut tick = |f: &mut Fleet, world: &mut BTreeMap<ReplicaId, u32>, want: u32| {
            now += 1;
            for age in world.values_mut() { *age += 1; }
            let reports: Vec<ReplicaReport> =
                world.iter().map(|(id, &age)| report(id, age > 2, true)).collect();
            f.observe(at(now), &reports, |_| 0);
            for command in f.reconcile(at(now), want) {
                match command {
                    Command::Start { count } => for _ in 0..count {
                        named += 1;
                        world.insert(format!("r{named:03}"), 0);
                        f.started(at(now), at(now), format!("r{named:03}"));
                    },
                    Command::Stop { replica } => { world.remove(&replica); }
                }
            }
        };
        for &want in &desired { tick(&mut f, &mut world, want); }
        let last = desired[desired.len() - 1];
        for _ in 0..10 { tick(&mut f, &mut world, last); }
        prop_assert_eq!(f.ready_replicas(), last);
        prop_assert_eq!(world.len() as u32, last);
    }
}
