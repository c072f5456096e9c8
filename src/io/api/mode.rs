//! I/O: the route that switches a service between observing and acting.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, At, Body, Code, ErrorBody};
use crate::config::Mode;

/// Longest reason, in bytes.
const MAX_REASON: usize = 500;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"mode": "observe", "reason": "maintenance of the engine"}))]
pub struct ModeRequest {
    pub mode: Mode,
    /// Shown with every decision while the mode is not the configured one; at most 500 bytes.
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ModeAnswer {
    /// From the next evaluation on, or as soon as `note` allows.
    pub mode: Mode,
    /// What the configuration says, and what will be again after a restart.
    pub configured: Mode,
    /// One sentence for people.
    pub note: String,
}

/// Switches a service between `observe` and `act` until Foresail is started again. The
/// configuration file stays as it is.
#[utoipa::path(
    put, path = "/v1/services/{service}/mode", tag = "services",
    params(("service" = String, Path, example = "web")),
    request_body = ModeRequest,
    responses(
        (status = 200, body = ModeAnswer),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Another Foresail acts on this target"),
    ),
)]
pub async fn set_mode(
    At(service): At,
    Body(request): Body<ModeRequest>,
) -> Result<Json<ModeAnswer>, ApiError> {
    let reason = request.reason.as_deref().unwrap_or("no reason was given");
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        let message = format!("1 to {MAX_REASON} bytes, or leave it out");
        return Err(ApiError::field("reason", message));
    }
    let held_back = service
        .set_mode(request.mode, reason)
        .await
        .map_err(|another| ApiError::new(Code::AnotherActs, another.to_string()))?;
    let (mode, configured) = (request.mode, service.config().mode);
    let mut note = match mode == configured {
        true => "as the configuration says".to_string(),
        false => format!(
            "until Foresail is started again: the configuration still says `{}`",
            configured.name()
        ),
    };
    if let Some(reason) = held_back {
        note += &format!("; not yet: {reason}");
    }
    Ok(Json(ModeAnswer { mode, configured, note }))
}
