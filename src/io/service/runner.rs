//! I/O: the loop of one service: read the target, evaluate at each boundary, carry out the
//! commands, publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lock::{self, ActorLock};
use super::{Service, Services, Shared, blocking};
use crate::fleet::Command;
use crate::forecast::Model;
use crate::forecast::challenge::learn;
use crate::io::actuator::Actuator;
use crate::io::clock;
use crate::io::collector::MetricsSource;
use crate::io::store::Store;
use crate::series::Time;

/// Longest wait for the target to answer one reading; longer counts as unreadable.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Both sides of a target.
pub(super) struct Target {
    pub actuator: Arc<dyn Actuator>,
    pub metrics: Arc<dyn MetricsSource>,
}

/// Runs until `shutdown`. Commands and trainings in flight run on `tasks`.
pub(super) async fn run(
    service: Service,
    target: Target,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    let shared = service.shared.clone();
    let evaluation = shared.config.settings.evaluation_interval;
    let mut next_evaluation = next_boundary(Utc::now(), evaluation);
    let lock = lock::keep(&shared, &tasks);
    loop {
        let tick = next_boundary(Utc::now(), shared.config.sample_interval);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(until(tick)) => {}
        }
        read(&shared, &target).await;
        shared.state().held_back = lock.refusal();
        if tick >= next_evaluation {
            let boundary = next_boundary(tick, evaluation) - delta(evaluation);
            next_evaluation = boundary + delta(evaluation);
            evaluate(&service, &target, &lock, boundary, &tasks);
        }
        publish(&shared);
    }
}

async fn read(shared: &Arc<Shared>, target: &Target) {
    if shared.state().read_waits(Utc::now()) {
        return;
    }
    let replicas: Vec<_> = shared.state().fleet.replicas().cloned().collect();
    let both = async {
        let reports = target.actuator.list().await.map_err(|e| e.to_string())?;
        let readings = target.metrics.read(&replicas).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((reports, readings))
    };
    let answer = timeout(READ_TIMEOUT, both)
        .await
        .unwrap_or_else(|_| Err(format!("the target did not answer within {READ_TIMEOUT:?}")));
    let balancer = shared.balancer.borrow().clone();
    let samples = match answer {
        Ok((reports, readings)) => {
            let notes = target.actuator.notes();
            shared.state().sample(Utc::now(), &reports, &readings, &balancer, notes)
        }
        Err(reason) => return shared.state().unreadable(Utc::now(), reason),
    };
    if let Err(error) = shared.store.append(&shared.config.name, &samples, &[]) {
        shared.store_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(service = shared.config.name, %error, "samples not kept");
    }
}

fn evaluate(service: &Service, target: &Target, lock: &ActorLock, now: Time, tasks: &TaskTracker) {
    let shared = &service.shared;
    let arrivals = shared
        .config
        .balancer
        .is_some()
        .then(|| shared.balancer.borrow().offered().arrived.load(Ordering::Relaxed));
    let (evaluation, training_due) = {
        let mut state = shared.state();
        let evaluation = state.evaluate(now, arrivals);
        (evaluation, state.training_due(now))
    };
    if let Err(error) = shared.store.append(&shared.config.name, &[], &[evaluation.row]) {
        shared.store_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(service = shared.config.name, %error, "demand not kept");
    }
    for command in evaluation.commands {
        carry_out(shared, target, lock, command, now, tasks);
    }
    let follower = service.clone();
    tasks.spawn(async move { follower.follow().await });
    if let Some((history, options)) = training_due {
        let service = service.clone();
        tasks.spawn(async move {
            let learn = move |champion: Option<&Model>| learn(now, &history, &options, champion);
            if let Err(error) = service.learn(learn).await {
                tracing::info!(service = service.config().name, %error, "no model trained");
            }
        });
    }
}

/// Each command keeps the lock until it is done.
fn carry_out(
    shared: &Arc<Shared>,
    target: &Target,
    lock: &ActorLock,
    command: Command,
    ordered: Time,
    tasks: &TaskTracker,
) {
    match command {
        Command::Start { count } => {
            for _ in 0..count {
                let (shared, actuator) = (shared.clone(), target.actuator.clone());
                let lock = lock.clone();
                tasks.spawn(async move {
                    let _lock = lock;
                    let outcome = actuator.start().await;
                    shared.state().started(ordered, Utc::now(), outcome);
                });
            }
        }
        Command::Stop { replica } => {
            let (shared, actuator) = (shared.clone(), target.actuator.clone());
            let lock = lock.clone();
            tasks.spawn(async move {
                let _lock = lock;
                let outcome = actuator.stop(&replica).await;
                shared.state().stopped(&replica, Utc::now(), outcome);
            });
        }
    }
}

/// The balancer first: who leaves must not be chosen any more before anybody reads that it left.
fn publish(shared: &Arc<Shared>) {
    let balancer = shared.publish_balancer();
    let standings = balancer.standings(&shared.health(), clock::now());
    let snapshot = {
        let mut state = shared.state();
        state.counters.store_failures = shared.store_failures.load(Ordering::Relaxed);
        state.snapshot(Utc::now(), &balancer, standings)
    };
    shared.snapshot.send_replace(Arc::new(snapshot));
}

/// Writes what the store and the decision log hold in memory, each flush interval and once at the
/// end.
pub(super) async fn flush(
    services: Services,
    store: Arc<Store>,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        let last = tokio::select! {
            () = shutdown.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let services = services.all();
        for service in services.values() {
            save(service).await;
        }
        let store = store.clone();
        if let Err(error) = blocking(move || store.flush(Utc::now())).await {
            for service in services.values() {
                service.shared.store_failures.fetch_add(1, Ordering::Relaxed);
            }
            tracing::warn!(%error, "recorded load not written; it stays in memory");
        }
        if last {
            return;
        }
    }
}

/// Writes what is kept for this service outside the store.
pub(super) async fn save(service: &Service) {
    let shared = service.shared.clone();
    blocking(move || {
        flush_decisions(&shared);
        flush_startup_delays(&shared);
    })
    .await;
}

fn flush_decisions(shared: &Shared) {
    let unsaved = std::mem::take(&mut shared.state().unsaved);
    let Some(newest) = unsaved.last() else { return };
    let oldest_day = (newest.time - delta(shared.retention)).date_naive().to_string();
    if let Err(error) = super::decisions::append(&shared.decisions, &unsaved) {
        shared.store_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(service = shared.config.name, %error, "decisions not written");
    }
    super::decisions::retain_from(&shared.decisions, &oldest_day);
}

fn flush_startup_delays(shared: &Shared) {
    let measured = {
        let mut state = shared.state();
        if !std::mem::take(&mut state.startup_delays_unsaved) {
            return;
        }
        state.startup_delays_refused = None;
        state.autoscaler.startup_delays()
    };
    if let Err(error) = super::startup_delays::write(&shared.startup_delays, &measured) {
        shared.state().startup_delays_unsaved = true;
        shared.store_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(service = shared.config.name, %error, "startup delays not written");
    }
}

/// The first multiple of `interval` since 1970 after `now`.
fn next_boundary(now: Time, interval: Duration) -> Time {
    let interval = (interval.as_millis() as i64).max(1);
    let next = (now.timestamp_millis().div_euclid(interval) + 1) * interval;
    DateTime::from_timestamp_millis(next).unwrap_or(now)
}

fn until(time: Time) -> Duration {
    time.signed_duration_since(Utc::now()).to_std().unwrap_or_default()
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
