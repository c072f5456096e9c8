//! Seeded scenarios in two phases, faults and then calm: nothing bad may ever happen, and once the
//! faults are over the count settles where it belongs and stays.
//!
//! Autoscaler and fleet run here as they do live, against a world that misbehaves (`world`) as its
//! seed says (`draw`), before a judge who knows the truth (`judge`). One seed alone, with all its
//! decisions: `FORESAIL_SEED=123 cargo test --test scenarios -- --nocapture`.
#![allow(clippy::disallowed_methods)]

mod draw;
mod judge;
mod world;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use chrono::TimeDelta;
use draw::{FAULTS, Fault, Knowledge, Scenario};
use foresail::autoscaler::Autoscaler;
use foresail::fleet::{Fleet, Phase};
use foresail::forecast::challenge::learn;
use foresail::planner::{Basis, Decision, Signal};
use foresail::series::Time;
use world::World;

const SEEDS: u64 = 10_000;
/// One seed in so many runs twice.
const TWICE: u64 = 50;
/// Failures that are told.
const TOLD: usize = 5;

#[test]
fn nothing_bad_happens_and_calm_settles() {
    if let Ok(seed) = std::env::var("FORESAIL_SEED") {
        let scenario = Scenario::draw(seed.parse().expect("FORESAIL_SEED is a number"));
        println!("{scenario:#?}");
        let tell = |decision: &Decision| {
            println!("{:?} {} {}", decision.signal, decision.desired_replicas, decision.reason);
        };
        run(&scenario, tell).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let (mut met, mut failures) = (Tally::new(), Vec::new());
    std::thread::scope(|scope| {
        let part = |first: u64| move || all((first..SEEDS).step_by(threads as usize));
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(part(first))).collect();
        for part in parts {
            let (tally, failed) = part.join().expect("panics are caught");
            tally.into_iter().for_each(|(what, n)| *met.entry(what).or_default() += n);
            failures.extend(failed);
        }
    });
    println!("{met:#?}");
    let told = failures.iter().take(TOLD).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {SEEDS} seeds fail:\n{told}", failures.len());
    let all = FAULTS.iter().map(|(_, name)| *name).chain(OUTCOMES);
    let rare: Vec<&str> = all.filter(|what| met.get(what).is_none_or(|&n| n < 1000)).collect();
    assert!(rare.is_empty(), "the seeds hardly ever lead to {rare:?}");
}

/// What scenarios must lead to, besides each fault.
const OUTCOMES: [&str; 9] = [
    "forecast",
    "reactive",
    "hold",
    "doubted",
    "tolerance",
    "stabilization",
    "rate_limit",
    "min_replicas",
    "max_replicas",
];

/// How often what happened.
type Tally = BTreeMap<&'static str, usize>;

/// Runs seeds; gives what happened, and what failed. A panic is a failure like any other.
fn all(seeds: impl Iterator<Item = u64>) -> (Tally, Vec<String>) {
    let (mut tally, mut failures) = (Tally::new(), Vec::new());
    for seed in seeds {
        let met = catch_unwind(|| check(seed)).unwrap_or(Err("a panic, see above".into()));
        match met {
            Ok(met) => met.into_iter().for_each(|(what, n)| *tally.entry(what).or_default() += n),
            Err(why) => failures.push(format!(
                "seed {seed}: {why}\n  alone: FORESAIL_SEED={seed} cargo test --test scenarios -- \
                 --nocapture"
            )),
        }
    }
    (tally, failures)
}

/// Runs one seed, some of them twice: the same seed gives the same decisions to the byte.
fn check(seed: u64) -> Result<Tally, String> {
    let scenario = Scenario::draw(seed);
    if !seed.is_multiple_of(TWICE) {
        return run(&scenario, |_| ());
    }
    let report = || {
        let mut json = Vec::new();
        let write = |d: &Decision| serde_json::to_writer(&mut json, d).expect("JSON in memory");
        run(&scenario, write).map(|met| (json, met))
    };
    let ((first, met), (second, _)) = (report()?, report()?);
    if first == second { Ok(met) } else { Err("two runs differ".into()) }
}

/// Runs a scenario under its judge; shows each decision to `note`.
fn run(scenario: &Scenario, mut note: impl FnMut(&Decision)) -> Result<Tally, String> {
    let mut autoscaler = Autoscaler::new(scenario.settings.clone());
    let mut start = Time::UNIX_EPOCH + TimeDelta::days(10_000);
    if let Knowledge::Model(known) = &scenario.knowledge {
        autoscaler.restore(known.0.clone());
        autoscaler.adopt(known.1.clone());
        start = known.0.end();
    }
    let mut world = World::new(scenario, start);
    let mut fleet = Fleet::new(scenario.fleet.clone());
    let (mut met, mut last) = (Tally::new(), None);
    for t in 0..scenario.load.len() {
        world.begin(t);
        world.show(&mut fleet);
        let seen = world.observe(&mut fleet);
        let decision = autoscaler.step(world.now, &seen);
        note(&decision);
        let tell = |why: String| format!("step {t}: {why}; {}", decision.reason);
        judge::safe(scenario, &seen, last.as_ref(), &decision).map_err(tell)?;
        if let Some(last) = last.as_ref().filter(|_| t >= scenario.settled) {
            judge::settled(scenario, last, &decision).map_err(tell)?;
        }
        let gone = |phase| matches!(phase, Phase::Starting | Phase::Draining);
        let leaving: Vec<_> = fleet.replicas().filter(|r| gone(r.phase)).cloned().collect();
        let commands = fleet.reconcile(world.now, decision.desired_replicas);
        judge::orderly(&world, &leaving, &fleet, &commands).map_err(tell)?;
        world.obey(&mut fleet, commands);
        if matches!(scenario.knowledge, Knowledge::Trains)
            && let Some((history, options)) = autoscaler.training_due(world.now)
            && let Ok(lesson) = learn(world.now, &history, &options, autoscaler.model())
        {
            autoscaler.adopt(lesson.model);
        }
        count(&mut met, &decision);
        last = Some(decision);
    }
    let name = |fault: Fault| FAULTS.iter().find(|(f, _)| *f == fault).expect("all are listed").1;
    met.extend(world.met.into_iter().map(|(fault, n)| (name(fault), n)));
    Ok(met)
}

fn count(met: &mut Tally, decision: &Decision) {
    let mut add = |what: &'static str| *met.entry(what).or_default() += 1;
    add(match decision.basis {
        Basis::Forecast => "forecast",
        Basis::Reactive => "reactive",
        Basis::Hold => "hold",
    });
    decision.limits.iter().for_each(|applied| add(applied.limit.name()));
    if matches!(decision.signal, Signal::Doubted { .. }) {
        add("doubted");
    }
}
