//! Pure: why a replica gave no answer, and what follows for its health and for the client.

use hyper::Request;

use super::body::Upload;
use super::refusal::Refusal;
use super::session::UploadState;
use crate::balancer::OutcomeKind;

/// Why a replica gave no answer, and the request if not a byte of it was sent.
pub(super) struct Failed {
    pub(super) why: Failure,
    pub(super) unsent: Option<Request<Upload>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Unreached {
        timed_out: bool,
    },
    Broken,
    TimedOut,
    /// The client's own body is at fault.
    Upload(UploadState),
    UploadTimedOut,
}

impl Failure {
    /// What its replica's counters are told.
    pub(super) fn outcome(self) -> OutcomeKind {
        match self {
            Failure::Unreached { timed_out: false } => OutcomeKind::Unreached,
            Failure::Unreached { timed_out: true } | Failure::TimedOut => OutcomeKind::TimedOut,
            Failure::Broken | Failure::Upload(_) | Failure::UploadTimedOut => OutcomeKind::Broken,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::Unreached { timed_out: false } => Refusal::ReplicaUnreached,
            Failure::Broken => Refusal::ReplicaBroke,
            Failure::Upload(UploadState::TooLarge) => Refusal::TooLarge,
            Failure::Upload(_) => Refusal::BadRequest("the body of the request broke off"),
            Failure::UploadTimedOut => Refusal::UploadTimedOut,
            Failure::Unreached { timed_out: true } | Failure::TimedOut => Refusal::ReplicaTimedOut,
        }
    }
}
