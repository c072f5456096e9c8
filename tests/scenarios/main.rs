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
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::TimeDelta;
use draw::{Fault, Knowledge, Scenario};
use foresail::autoscaler::Autoscaler;
use foresail::fleet::Fleet;
use foresail::forecast::challenge::learn;
use foresail::planner::Decision;
use foresail::series::Time;
use world::World;

const SEEDS: u64 = 1_000;
/// Every so many seeds run twice.
const TWICE: u64 = 20;
/// Failures that are told.
const TOLD: usize = 5;

/// What happened in a run.
#[derive(Debug, Default)]
struct Record {
    decisions: Vec<Decision>,
    met: Vec<Fault>,
}

/// Runs a scenario under its judge.
fn run(scenario: &Scenario, told: bool) -> Result<Record, String> {
    let mut autoscaler = Autoscaler::new(scenario.settings.clone());
    let mut start = Time::UNIX_EPOCH + TimeDelta::days(10_000);
    if let Knowledge::Model(known) = &scenario.knowledge {
        autoscaler.restore(known.0.clone());
        autoscaler.adopt(known.1.clone());
        start = known.0.end();
    }
    let mut world = World::new(scenario, start);
    let mut fleet = Fleet::new(scenario.fleet.clone());
    let mut record = Record::default();
    for t in 0..scenario.load.len() {
        world.begin(t);
        world.show(&mut fleet);
        let seen = world.observe(&mut fleet);
        let decision = autoscaler.step(world.now, &seen);
        let desired = decision.desired_replicas;
        if told {
            println!("{t:4} {:?} {} {}", decision.signal, desired, decision.reason);
        }
        let tell = |why: String| format!("step {t}: {why}; {}", decision.reason);
        let last = record.decisions.last();
        judge::safe(scenario, &seen, last, &decision).map_err(tell)?;
        if let Some(last) = last.filter(|_| t >= scenario.settled) {
            judge::settled(scenario, last, &decision).map_err(tell)?;
        }
        let before = fleet.clone();
        let commands = fleet.reconcile(world.now, desired);
        judge::orderly(&world, &before, &fleet, &commands).map_err(tell)?;
        world.obey(&mut fleet, commands);
        if matches!(scenario.knowledge, Knowledge::Trains)
            && let Some((history, options)) = autoscaler.training_due(world.now)
            && let Ok(lesson) = learn(world.now, &history, &options, autoscaler.model())
        {
            autoscaler.adopt(lesson.model);
        }
        record.decisions.push(decision);
    }
    record.met = world.met;
    Ok(record)
}

/// Runs a seed; a panic is a failure like any other.
fn check(seed: u64, told: bool) -> Result<Record, String> {
    let scenario = Scenario::draw(seed);
    let caught = |scenario: &Scenario| {
        catch_unwind(AssertUnwindSafe(|| run(scenario, told)))
            .unwrap_or(Err("a panic, see above".into()))
    };
    let t0 = std::time::Instant::now();
    let record = caught(&scenario);
    eprintln!(
        "TIME {} {} {}",
        match scenario.knowledge {
            Knowledge::None => "none",
            Knowledge::Model(_) => "model",
            _ => "trains",
        },
        t0.elapsed().as_micros(),
        scenario.load.len()
    );
    let record = record?;
    if seed.is_multiple_of(TWICE) {
        let json = |record: &Record| serde_json::to_string(&record.decisions).expect("JSON");
        let again = caught(&scenario)?;
        if json(&record) != json(&again) {
            return Err("two runs of one seed differ".into());
        }
    }
    Ok(record)
}

#[test]
fn ten_thousand_seeds() {
    if let Ok(seed) = std::env::var("FORESAIL_SEED") {
        let seed = seed.parse().expect("FORESAIL_SEED is a number");
        println!("{:#?}", Scenario::draw(seed));
        check(seed, true).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let all = std::thread::scope(|scope| {
        let part = |first: u64| {
            move || {
                (first..SEEDS)
                    .step_by(threads as usize)
                    .map(|s| (s, tally(check(s, false))))
                    .collect()
            }
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(part(first))).collect();
        let join = |handle: std::thread::ScopedJoinHandle<Vec<_>>| handle.join().expect("caught");
        running.into_iter().flat_map(join).collect::<Vec<(u64, Result<Tally, String>)>>()
    });
    let failures: Vec<String> = all
        .iter()
        .filter_map(|(seed, outcome)| Some((seed, outcome.as_ref().err()?)))
        .map(|(seed, why)| {
            format!("seed {seed}: {why}\nreplay: FORESAIL_SEED={seed} cargo test --test scenarios -- --nocapture")
        })
        .collect();
    let told = failures.iter().take(TOLD).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {SEEDS} seeds fail\n{told}", failures.len());
    let mut total = Tally::default();
    for (_, tally) in all {
        for (what, count) in tally.expect("no failures") {
            *total.entry(what).or_default() += count;
        }
    }
    println!("{total:#?}");
}

/// How often what happened.
type Tally = BTreeMap<String, usize>;

fn tally(outcome: Result<Record, String>) -> Result<Tally, String> {
    let record = outcome?;
    let mut tally = Tally::new();
    let mut count = |what: String| *tally.entry(what).or_default() += 1;
    record.met.iter().for_each(|fault| count(format!("{fault:?}")));
    for decision in &record.decisions {
        count(format!("basis {:?}", decision.basis));
        decision.limits.iter().for_each(|l| count(format!("limit {}", l.limit.name())));
    }
    Ok(tally)
}
