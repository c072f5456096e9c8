//! Pure: tests of what is inherited when Foresail, or the way to its target, was away.

use super::*;

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
