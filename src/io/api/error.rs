//! I/O: the one JSON form of all errors, and extractors that answer in it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use crate::io::service::Service;

/// What went wrong, for programs. Closed: clients may match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    UnknownRoute,
    MethodNotAllowed,
    UnknownService,
    UnknownJob,
    UnknownModel,
    BadQuery,
    BadBody,
    /// A body that is not `application/json`.
    UnsupportedMediaType,
    BodyTooLarge,
    Unauthorized,
    ForeignOrigin,
    /// A service has not decided yet; try again.
    NotReady,
    /// No model was trained yet.
    NoModel,
    /// A model file must not be used, or does not fit the service.
    ModelRefused,
    /// There is a model, but not enough recent data.
    NoForecast,
    NoReadyReplica,
    /// Another Foresail acts on the same target.
    AnotherActs,
    /// A training of this service is queued or running; `details.job` names it.
    TrainingRunning,
    TooManyJobs,
    StoreFailed,
    Timeout,
    Internal,
}

impl Code {
    pub fn status(self) -> StatusCode {
        match self {
            Code::BadQuery | Code::BadBody => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::ForeignOrigin => StatusCode::FORBIDDEN,
            Code::UnknownRoute | Code::UnknownService | Code::UnknownJob | Code::UnknownModel => {
                StatusCode::NOT_FOUND
            }
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::NoModel
            | Code::ModelRefused
            | Code::NoForecast
            | Code::AnotherActs
            | Code::TrainingRunning => StatusCode::CONFLICT,
            Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::TooManyJobs => StatusCode::TOO_MANY_REQUESTS,
            Code::StoreFailed | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::NotReady | Code::NoReadyReplica | Code::Timeout => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// The body of every answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"error": {
    "code": "unknown_service",
    "message": "no service `wbe`; known: api, web",
    "details": {"known": ["api", "web"]},
}}))]
pub struct ErrorBody {
    pub error: ApiError,
}

/// An error as the client sees it; details of faults inside go to the log alone.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ApiError {
    pub code: Code,
    /// One sentence for people.
    pub message: String,
    /// More for programs; empty for most codes.
    #[schema(value_type = Object)]
    pub details: Value,
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), details: json!({}) }
    }

    pub fn with(mut self, details: Value) -> ApiError {
        self.details = details;
        self
    }

    /// A query parameter that says what it must not.
    pub fn parameter(name: &str, message: impl std::fmt::Display) -> ApiError {
        ApiError::new(Code::BadQuery, format!("{name}: {message}")).with(json!({"parameter": name}))
    }

    /// A field of a body that says what it must not.
    pub fn field(name: &str, message: impl std::fmt::Display) -> ApiError {
        ApiError::new(Code::BadBody, format!("{name}: {message}")).with(json!({"field": name}))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.code.status(), Json(ErrorBody { error: self })).into_response()
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::new(Code::BadQuery, rejection.body_text())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> ApiError {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            _ => Code::BadBody,
        };
        ApiError::new(code, rejection.body_text())
    }
}

/// The service that the path names.
pub struct At(pub Service);

impl FromRequestParts<App> for At {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<At, ApiError> {
        let named = Path::<BTreeMap<String, String>>::from_request_parts(parts, app).await;
        let name = named.ok().and_then(|Path(mut path)| path.remove("service")).unwrap_or_default();
        app.services.get(&name).map(At).ok_or_else(|| {
            let services = app.services.all();
            let known: Vec<&str> = services.keys().map(String::as_str).collect();
            let message = format!("no service `{name}`; known: {}", known.join(", "));
            ApiError::new(Code::UnknownService, message).with(json!({"known": known}))
        })
    }
}

/// The query of a request.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Params<T>, ApiError> {
        Ok(Params(Query::<T>::from_request_parts(parts, app).await?.0))
    }
}

/// The JSON body of a request. As an `Option` it is `None` for a request without content type.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Body<T>, ApiError> {
        Ok(Body(<Json<T> as FromRequest<App>>::from_request(request, app).await?.0))
    }
}

impl<T: DeserializeOwned> OptionalFromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Option<Body<T>>, ApiError> {
        let json = <Json<T> as OptionalFromRequest<App>>::from_request(request, app).await?;
        Ok(json.map(|Json(value)| Body(value)))
    }
}
