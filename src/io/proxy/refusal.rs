//! Pure: the answers of the proxy itself, when no replica gives one.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

/// Advice to a client whose connection is one too many.
const RETRY_CONNECTION: Duration = Duration::from_secs(5);

/// Why a request is not answered by a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("the body of the request is too large")]
    TooLarge,
    #[error("the body of the request did not come in time")]
    UploadTimedOut,
    #[error("no service is at this host and path")]
    NoRoute,
    #[error("no replica is ready")]
    NoReplicaReady { retry_after: Duration },
    #[error("every replica has all the requests that it may have at once")]
    Full { retry_after: Duration },
    #[error("too many connections")]
    TooManyConnections,
    #[error("the replica could not be reached")]
    ReplicaUnreached,
    #[error("the replica broke off before its answer")]
    ReplicaBroke,
    #[error("the replica did not answer in time")]
    ReplicaTimedOut,
}

impl Refusal {
    /// The answer, a small JSON object. The advice to retry is as long as we ourselves would wait.
    pub(super) fn answer(self) -> Response<Bytes> {
        let (status, code) = match self {
            Refusal::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Refusal::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Refusal::NoRoute => (StatusCode::NOT_FOUND, "no_route"),
            Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Refusal::UploadTimedOut => (StatusCode::REQUEST_TIMEOUT, "upload_timed_out"),
            Refusal::NoReplicaReady { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no_replica_ready"),
            Refusal::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, "full"),
            Refusal::TooManyConnections => {
                (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections")
            }
            Refusal::ReplicaUnreached => (StatusCode::BAD_GATEWAY, "replica_unreached"),
            Refusal::ReplicaBroke => (StatusCode::BAD_GATEWAY, "replica_broke"),
            Refusal::ReplicaTimedOut => (StatusCode::GATEWAY_TIMEOUT, "replica_timed_out"),
        };
        let error = json!({ "error": { "code": code, "message": self.to_string() } });
        let mut response = Response::new(Bytes::from(error.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let retry_after = match self {
            Refusal::NoReplicaReady { retry_after } | Refusal::Full { retry_after } => {
                Some(retry_after)
            }
            Refusal::TooManyConnections => Some(RETRY_CONNECTION),
            _ => None,
        };
        if let Some(time) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(time.as_secs().max(1)));
        }
        response
    }

    /// Whether what is left of the request makes the connection useless.
    pub(super) fn ends_connection(self) -> bool {
        matches!(self, Refusal::TooLarge | Refusal::UploadTimedOut)
    }

    /// The answer as bytes, for a client whose request is not even read.
    pub(super) fn raw(self) -> Bytes {
        let answer = self.answer();
        let (status, body) = (answer.status(), answer.body());
        let mut text = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in answer.headers() {
            text.extend_from_slice(format!("{name}: ").as_bytes());
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        let length = body.len();
        text.extend(format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes());
        text.extend_from_slice(body);
        Bytes::from(text)
    }
}
