//! I/O: the HTTP API as `foresail top` reads and changes it.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::moment::{Focus, Moment, TRENDS, Wanted, sound, span};
use super::state::Action;
use crate::io::api::mode::ModeAnswer;
use crate::io::api::query::rfc3339;
use crate::io::api::services::{History, Replicas, ServiceList};
use crate::io::api::view::{ServiceDetail, ServiceSummary};
use crate::series::Time;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer; thousands of replicas are below it.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// What a trend reaches back over.
const TREND: Duration = Duration::from_secs(3600);
const TREND_STEP: &str = "1m";

/// A connection to one API.
#[derive(Debug)]
pub struct Client {
    /// Without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
    http: HyperClient<HttpConnector, Full<Bytes>>,
}

/// Why there is no answer that can be used.
enum Failure {
    /// The API refused, with its code and sentence.
    Refused { status: StatusCode, code: String, message: String },
    /// Nothing was understood, or nothing came.
    Silent(String),
}

impl Failure {
    /// One sentence for people.
    fn sentence(self) -> String {
        match self {
            Failure::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                "the API wants its token: --token or FORESAIL_API_TOKEN".to_string()
            }
            Failure::Refused { status, message, .. } => format!("{} {message}", status.as_u16()),
            Failure::Silent(reason) => reason,
        }
    }
}

impl Client {
    /// `url` is `http://HOST:PORT`, with or without the scheme; a path before the API's own is
    /// allowed.
    ///
    /// # Errors
    /// A sentence about the URL or token that cannot be used.
    pub fn new(url: &str, token: Option<&str>) -> Result<Client, String> {
        let full = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        let base = full.trim_end_matches('/').to_string();
        let wrong =
            || format!("--url {url}: write http://HOST:PORT, for instance http://127.0.0.1:8080");
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        if uri.scheme_str() == Some("https") {
            let tunnel = "ssh -L 8080:127.0.0.1:8080 HOST";
            return Err(format!(
                "--url {url}: only http is spoken; use a tunnel, such as {tunnel}"
            ));
        }
        if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.query().is_some() {
            return Err(wrong());
        }
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| "--token: it has characters that no header can carry".to_string())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let http = HyperClient::builder(TokioExecutor::new()).build_http();
        Ok(Client { base, authorization: authorization.transpose()?, http })
    }

    pub fn url(&self) -> &str {
        &self.base
    }

    /// One picture of everything that is shown.
    ///
    /// # Errors
    /// A sentence if the list of services cannot be read. A service that goes meanwhile is no
    /// error.
    pub async fn read(&self, wanted: &Wanted) -> Result<Moment, String> {
        let list: ServiceList = self.get("/v1/services").await.map_err(Failure::sentence)?;
        let services = list.services;
        let chosen = services.iter().find(|s| Some(&s.name) == wanted.service.as_ref());
        let focus = match chosen.or(services.first()) {
            Some(service) => self.focus(&service.name, wanted.zoom).await?,
            None => None,
        };
        let mut moment = Moment { focus, ..Moment::default() };
        let stale = services.iter().filter(|service| !wanted.fresh.contains(&service.name));
        for service in stale.take(TRENDS) {
            if let Some(trend) = self.trend(service).await? {
                moment.trends.insert(service.name.clone(), trend);
            }
        }
        sound(Moment { services, ..moment })
    }

    async fn focus(&self, service: &str, zoom: i32) -> Result<Option<Focus>, String> {
        let Some(detail) = gone(self.get::<ServiceDetail>(&path(service, "")).await)? else {
            return Ok(None);
        };
        let interval = Duration::from_millis(detail.settings.evaluation_interval_ms);
        let horizon = detail
            .model
            .as_ref()
            .map_or(0, |model| model.step_ms.saturating_mul(model.horizon as u64));
        let (span, step) = span(interval, Duration::from_millis(horizon), zoom);
        let to = detail.summary.time;
        let query = history(to, span, &humantime::format_duration(step).to_string());
        let history = gone(self.get::<History>(&path(service, &query)).await)?;
        let forecast = self.get(&path(service, "/forecast?quantiles=0.1,0.5,0.9")).await;
        let forecast = match forecast {
            Ok(forecast) => Ok(forecast),
            Err(Failure::Refused { message, .. }) => Err(message),
            Err(silent) => return Err(silent.sentence()),
        };
        let replicas = gone(self.get::<Replicas>(&path(service, "/replicas")).await)?;
        Ok(history.zip(replicas).map(|(history, replicas)| Focus {
            detail,
            history,
            forecast,
            replicas: replicas.replicas,
        }))
    }

    async fn trend(&self, service: &ServiceSummary) -> Result<Option<Vec<Option<f64>>>, String> {
        let query = history(service.time, TREND, TREND_STEP);
        let history = gone(self.get::<History>(&path(&service.name, &query)).await)?;
        Ok(history.map(|history| history.rows.iter().map(|row| row.demand).collect()))
    }

    /// Carries out what a user asked for.
    ///
    /// # Errors
    /// What the API said against it.
    pub async fn act(&self, action: &Action) -> Result<String, String> {
        let done = match action {
            Action::Override { service, replicas, until, reason } => {
                let body =
                    json!({"replicas": replicas, "until": rfc3339(*until), "reason": reason});
                let sent = self.send(Method::PUT, &path(service, "/override"), Some(body)).await;
                let until = until.format("%H:%M:%S");
                sent.map(|_| format!("{service}: {replicas} replicas until {until} UTC"))
            }
            Action::EndOverride { service } => {
                let sent = self.send(Method::DELETE, &path(service, "/override"), None).await;
                sent.map(|_| format!("{service}: the override is ended"))
            }
            Action::SetMode { service, mode } => {
                let body = json!({"mode": mode, "reason": "switched in foresail top"});
                let sent = self.send(Method::PUT, &path(service, "/mode"), Some(body)).await;
                sent.and_then(|bytes| parse::<ModeAnswer>(&bytes)).map(|answer| {
                    format!("{service}: mode {}, {}", answer.mode.name(), answer.note)
                })
            }
        };
        done.map_err(|failure| failure.sentence())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.send(Method::GET, path, None).await?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Bytes, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|value| value.to_string()).unwrap_or_default();
        let silent = |error: &dyn std::error::Error| Failure::Silent(root(error));
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| silent(&e))?;
        let answer = async {
            let (head, body) =
                self.http.request(request).await.map_err(|e| silent(&e))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| silent(error.as_ref()))?.to_bytes();
            if head.status.is_success() { Ok(body) } else { Err(refused(head.status, &body)) }
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(Failure::Silent(format!("no answer within {TIMEOUT:?}"))))
    }
}

/// `None` for a service that is not there any more.
fn gone<T>(answer: Result<T, Failure>) -> Result<Option<T>, String> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Refused { code, .. }) if code == "unknown_service" => Ok(None),
        Err(failure) => Err(failure.sentence()),
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| body["error"][field].as_str().unwrap_or_default().to_string();
    let (code, mut message) = (text("code"), text("message"));
    if message.is_empty() {
        message = "and no reason; is this the API of Foresail?".into();
    }
    Failure::Refused { status, code, message }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let hint = "is this the API of a Foresail of the same version?";
        Failure::Silent(format!("the answer cannot be read ({error}); {hint}"))
    })
}

/// The innermost cause, which is what people can mend.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Where a service is, whatever characters its name has.
fn path(service: &str, rest: &str) -> String {
    let encoded = service.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    format!("/v1/services/{}{rest}", encoded.collect::<String>())
}

fn history(to: Time, span: Duration, step: &str) -> String {
    let span = chrono::TimeDelta::from_std(span).unwrap_or_default();
    // Whether it is a time at all is looked at when everything is read.
    let from = to.checked_sub_signed(span).unwrap_or(to);
    // A step of several units is written with spaces.
    let step = step.replace(' ', "%20");
    format!("/history?from={}&to={}&step={step}", rfc3339(from), rfc3339(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode as Status;

    #[test]
    fn urls_and_tokens_are_looked_at_before_anything_is_sent() {
        for (url, base) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://host/foresail/", "http://host/foresail"),
        ] {
            assert_eq!(Client::new(url, Some("s3cret")).unwrap().url(), base);
        }
        for url in ["", "ftp://host", "http://", "http://host?x=1", "http://a b", "https://host"] {
            let error = Client::new(url, None).unwrap_err();
            assert!(error.starts_with(&format!("--url {url}: ")), "{error}");
        }
        assert!(Client::new("host", Some("a\r\nb")).unwrap_err().starts_with("--token"));
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(path("web-2_b", "/plan"), "/v1/services/web-2_b/plan");
        assert_eq!(path("../a b?\r\né", ""), "/v1/services/%2E%2E%2Fa%20b%3F%0D%0A%C3%A9");
    }

    #[tokio::test]
    async fn answers_of_something_else_are_sentences() {
        let large = " ".repeat(MAX_ANSWER_BYTES + 1);
        let refusal = r#"{"error": {"code": "timeout", "message": "too slow"}}"#;
        for (status, body, expected) in [
            (Status::OK, "<html>", "is this the API of a Foresail of the same version?"),
            (Status::OK, r#"{"services": [{}]}"#, "the answer cannot be read (missing field"),
            (Status::OK, &large, "length limit exceeded"),
            (Status::NOT_FOUND, "nginx", "404 and no reason; is this the API of Foresail?"),
            (Status::SERVICE_UNAVAILABLE, refusal, "503 too slow"),
            (Status::UNAUTHORIZED, "", "the API wants its token"),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = listener.local_addr().expect("bound").to_string();
            let body = body.to_string();
            let app = Router::new().fallback(move || std::future::ready((status, body.clone())));
            let server = tokio::spawn(axum::serve(listener, app).into_future());
            let read = Client::new(&url, None).unwrap().read(&Wanted::default()).await;
            let error = read.unwrap_err();
            assert!(error.contains(expected), "{error}");
            server.abort();
        }
    }
}
