//! I/O: the routes on the models of a service: list, show, promote, roll back, unpin.

use axum::Json;
use axum::extract::Path;

use super::error::{ApiError, At, Code, ErrorBody};
use crate::io::artifact::ArtifactError;
use crate::io::artifact::catalog::{Catalog, ModelEntry};
use crate::io::artifact::in_use::InUse;
use crate::io::service::ModelError;

/// All models that are kept, newest first, and which one is in use.
#[utoipa::path(
    get, path = "/v1/services/{service}/models", tag = "models",
    params(("service" = String, Path, example = "web")),
    responses(
        (status = 200, body = Catalog),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The record of the model in use is damaged"),
    ),
)]
pub async fn list(At(service): At) -> Result<Json<Catalog>, ApiError> {
    Ok(Json(service.models().await?))
}

/// One model: what it was trained on, how good it was, and how it did against the one before.
#[utoipa::path(
    get, path = "/v1/services/{service}/models/{version}", tag = "models",
    params(("service" = String, Path, example = "web"), ("version" = u32, Path, example = 7)),
    responses((status = 200, body = ModelEntry), (status = 404, body = ErrorBody)),
)]
pub async fn show(
    At(service): At,
    Path(path): Path<(String, String)>,
) -> Result<Json<ModelEntry>, ApiError> {
    Ok(Json(service.model(number(&path.1)?).await?))
}

/// Puts a model into use and pins it: trainings go on, but put no other into use.
#[utoipa::path(
    post, path = "/v1/services/{service}/models/{version}/promote", tag = "models",
    params(("service" = String, Path, example = "web"), ("version" = u32, Path, example = 7)),
    responses(
        (status = 200, body = InUse),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It must not be used"),
    ),
)]
pub async fn promote(
    At(service): At,
    Path(path): Path<(String, String)>,
) -> Result<Json<InUse>, ApiError> {
    Ok(Json(service.promote(number(&path.1)?).await?))
}

/// Puts the model that was in use before back into use and pins it.
#[utoipa::path(
    post, path = "/v1/services/{service}/models/rollback", tag = "models",
    params(("service" = String, Path, example = "web")),
    responses(
        (status = 200, body = InUse),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "No other was in use before"),
    ),
)]
pub async fn rollback(At(service): At) -> Result<Json<InUse>, ApiError> {
    Ok(Json(service.rollback().await?))
}

/// Takes the pin off: the next model that wins against the one in use replaces it.
#[utoipa::path(
    post, path = "/v1/services/{service}/models/unpin", tag = "models",
    params(("service" = String, Path, example = "web")),
    responses(
        (status = 200, body = InUse),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "No model is in use"),
    ),
)]
pub async fn unpin(At(service): At) -> Result<Json<InUse>, ApiError> {
    Ok(Json(service.unpin().await?))
}

fn number(version: &str) -> Result<u32, ApiError> {
    version.parse().map_err(|_| {
        ApiError::new(Code::UnknownModel, format!("`{version}` is no model version, such as 7"))
    })
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> ApiError {
        match error {
            ModelError::Artifact(error) => error.into(),
            ModelError::Unfit { .. } => ApiError::new(Code::ModelRefused, error.to_string()),
        }
    }
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> ApiError {
        let code = match &error {
            ArtifactError::Unknown { .. } => Code::UnknownModel,
            ArtifactError::NothingBefore { .. } => Code::NoModel,
            ArtifactError::Refused { .. } => Code::ModelRefused,
            ArtifactError::Disk { .. } => {
                tracing::error!(%error, "the models cannot be read or written");
                let message = "the models cannot be read or written; the log has more";
                return ApiError::new(Code::StoreFailed, message);
            }
        };
        ApiError::new(code, error.to_string())
    }
}
