//! Pure: the answers of the proxy itself, when no replica gives one.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::config::Balancer;

/// Why a request is not answered by a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("no replica is ready")]
    NoReplicaReady,
    #[error("the replica could not be reached")]
    ReplicaUnreached,
    #[error("the replica broke off before its answer")]
    ReplicaBroke,
    #[error("the replica did not answer in time")]
    ReplicaTimedOut,
}

impl Refusal {
    /// The answer, a small JSON object. The advice to retry is as long as we ourselves would wait.
    pub(super) fn answer(self, settings: &Balancer) -> Response<Full<Bytes>> {
        let (status, code) = match self {
            Refusal::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Refusal::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Refusal::NoReplicaReady => (StatusCode::SERVICE_UNAVAILABLE, "no_replica_ready"),
            Refusal::ReplicaUnreached => (StatusCode::BAD_GATEWAY, "replica_unreached"),
            Refusal::ReplicaBroke => (StatusCode::BAD_GATEWAY, "replica_broke"),
            Refusal::ReplicaTimedOut => (StatusCode::GATEWAY_TIMEOUT, "replica_timed_out"),
        };
        let error = json!({ "error": { "code": code, "message": self.to_string() } });
        let mut response = Response::new(Full::from(error.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self == Refusal::NoReplicaReady {
            let seconds = settings.queue.timeout.as_secs().max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
