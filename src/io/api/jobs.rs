//! I/O: long work behind the API: started by one request, looked up by others.
//!
//! Jobs run one at a time, in order: each is pure computing, and two at once would only take the
//! service's steps the processor. They live in memory; a restart forgets them.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Json;
use axum::extract::{Path, State};
use chrono::Utc;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::App;
use super::error::{ApiError, Code, ErrorBody};
use crate::forecast::challenge::Verdict;
use crate::forecast::{Method, Training};
use crate::io::service::Learned;
use crate::series::Time;
use crate::simulator::report::TraceReport;

/// Jobs that are remembered; the oldest finished one is forgotten first.
const MAX_JOBS: usize = 100;
/// Jobs that may wait or run; more are refused.
const MAX_OPEN_JOBS: usize = 20;

/// One piece of long work.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Job {
    #[schema(example = "7")]
    pub id: String,
    pub kind: JobKind,
    pub service: String,
    pub state: JobState,
    #[schema(value_type = String, format = DateTime)]
    pub created: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished: Option<Time>,
    /// When done.
    pub result: Option<JobResult>,
    /// When failed: one sentence.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Train,
    Compare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Running,
    Done,
    Failed,
}

impl JobState {
    fn is_open(self) -> bool {
        matches!(self, JobState::Queued | JobState::Running)
    }
}

/// What a job found out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobResult {
    Train(Box<Trained>),
    Compare(TraceReport),
}

/// The model that a training gave.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Trained {
    /// `None` if it could not be saved.
    pub version: Option<u32>,
    /// Whether it came into use, and why.
    pub verdict: Verdict,
    pub method: Method,
    /// In steps, strongest first.
    pub season_lengths: Vec<usize>,
    /// Steps ahead.
    pub horizon: usize,
    pub step_ms: u64,
    pub training: Training,
}

impl From<Learned> for Trained {
    fn from(Learned { version, model, verdict }: Learned) -> Trained {
        Trained {
            version,
            verdict,
            method: model.method(),
            season_lengths: model.season_lengths,
            horizon: model.horizon,
            step_ms: model.step_ms,
            training: model.training,
        }
    }
}

/// All jobs of this process; clones share them.
#[derive(Clone)]
pub struct Jobs {
    list: Arc<Mutex<List>>,
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct List {
    submitted: u64,
    /// Oldest first.
    jobs: VecDeque<Job>,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs { list: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Jobs {
    /// Queues `work`; needs a tokio runtime.
    ///
    /// # Errors
    /// [`Code::TrainingRunning`] for a second training of a service, [`Code::TooManyJobs`].
    pub fn submit(
        &self,
        kind: JobKind,
        service: &str,
        work: impl Future<Output = Result<JobResult, String>> + Send + 'static,
    ) -> Result<Job, ApiError> {
        let job = self.enqueue(kind, service)?;
        let (jobs, id) = (self.clone(), job.id.clone());
        tokio::spawn(async move {
            // The semaphore is never closed, so this only waits.
            let _turn = jobs.turn.acquire().await;
            jobs.update(&id, |job| {
                job.state = JobState::Running;
                job.started = Some(Utc::now());
            });
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err("a fault in Foresail".to_string()));
            jobs.update(&id, |job| {
                job.finished = Some(Utc::now());
                match outcome {
                    Ok(result) => (job.state, job.result) = (JobState::Done, Some(result)),
                    Err(message) => (job.state, job.error) = (JobState::Failed, Some(message)),
                }
            });
        });
        Ok(job)
    }

    pub fn get(&self, id: &str) -> Option<Job> {
        self.lock().jobs.iter().find(|job| job.id == id).cloned()
    }

    fn enqueue(&self, kind: JobKind, service: &str) -> Result<Job, ApiError> {
        let mut list = self.lock();
        let open = || list.jobs.iter().filter(|job| job.state.is_open());
        if kind == JobKind::Train
            && let Some(job) = open().find(|job| job.kind == kind && job.service == service)
        {
            let message = format!("job {} is already training `{service}`", job.id);
            let error = ApiError::new(Code::TrainingRunning, message);
            return Err(error.with(json!({"job": job.id})));
        }
        if open().count() >= MAX_OPEN_JOBS {
            let message = format!("{MAX_OPEN_JOBS} jobs are waiting; try again later");
            return Err(ApiError::new(Code::TooManyJobs, message));
        }
        list.submitted += 1;
        let job = Job {
            id: list.submitted.to_string(),
            kind,
            service: service.to_string(),
            state: JobState::Queued,
            created: Utc::now(),
            started: None,
            finished: None,
            result: None,
            error: None,
        };
        list.jobs.push_back(job.clone());
        if list.jobs.len() > MAX_JOBS
            && let Some(oldest) = list.jobs.iter().position(|job| !job.state.is_open())
        {
            list.jobs.remove(oldest);
        }
        Ok(job)
    }

    fn update(&self, id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.lock().jobs.iter_mut().find(|job| job.id == id) {
            change(job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing under the lock leaves the list half-changed, so a poisoned one is still good.
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// State and result of a job. The last 100 jobs are kept.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "As the 202 answer gave it")),
    responses((status = 200, body = Job), (status = 404, body = ErrorBody)),
)]
pub async fn job(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Job>, ApiError> {
    let job = app.jobs.get(&id).map(Json);
    job.ok_or_else(|| {
        ApiError::new(Code::UnknownJob, format!("no job `{id}`; the last 100 are kept"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until the job is no longer open; every state change yields, so this ends.
    async fn finished(jobs: &Jobs, id: &str) -> Job {
        loop {
            match jobs.get(id) {
                Some(job) if !job.state.is_open() => return job,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn jobs_run_in_order_and_a_panic_is_a_failure() {
        let jobs = Jobs::default();
        let first =
            jobs.submit(JobKind::Compare, "web", async { Err("too short".into()) }).unwrap();
        let second = jobs.submit(JobKind::Compare, "web", async { panic!("boom") }).unwrap();
        assert_eq!((first.state, first.id.as_str()), (JobState::Queued, "1"));
        let second = finished(&jobs, &second.id).await;
        let first = jobs.get(&first.id).unwrap();
        assert_eq!(first.error.as_deref(), Some("too short"));
        assert_eq!(second.error.as_deref(), Some("a fault in Foresail"));
        assert!(first.finished <= second.started, "one at a time");
    }

    #[tokio::test]
    async fn one_training_a_service_and_a_bounded_queue() {
        let jobs = Jobs::default();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let work = async move { gate.await.map_err(|e| e.to_string()).and(Err("end".into())) };
        let running = jobs.submit(JobKind::Train, "web", work).unwrap();
        let again = jobs.submit(JobKind::Train, "web", async { Err("".into()) }).unwrap_err();
        assert_eq!((again.code, &again.details), (Code::TrainingRunning, &json!({"job": "1"})));
        assert!(jobs.submit(JobKind::Train, "api", async { Err("".into()) }).is_ok());
        for _ in 2..MAX_OPEN_JOBS {
            jobs.submit(JobKind::Compare, "web", async { Err("".into()) }).unwrap();
        }
        let refused = jobs.submit(JobKind::Compare, "web", async { Err("".into()) }).unwrap_err();
        assert_eq!(refused.code, Code::TooManyJobs);
        go.send(()).unwrap();
        finished(&jobs, &MAX_OPEN_JOBS.to_string()).await;
        assert_eq!(jobs.get(&running.id).unwrap().state, JobState::Failed);
        assert!(jobs.submit(JobKind::Train, "web", async { Err("".into()) }).is_ok());
    }

    #[tokio::test]
    async fn only_the_last_jobs_are_kept() {
        let jobs = Jobs::default();
        for _ in 0..MAX_JOBS + 5 {
            let job = jobs.submit(JobKind::Compare, "web", async { Err("".into()) }).unwrap();
            finished(&jobs, &job.id).await;
        }
        assert_eq!(jobs.get("5"), None);
        assert!(jobs.get("6").is_some());
    }
}
