//! I/O: the access log: one line for each request, written by a thread of its own.
//!
//! A request hands its line over and goes on. If the disk does not keep up, lines are left out
//! rather than requests held up, and a warning says how many.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use chrono::{DateTime, SecondsFormat, Utc};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};
use hyper::{Method, Request, Uri, Version};
use serde_json::json;

use crate::config::{AccessLog as Settings, LogFormat};

/// Lines that wait for the disk.
const QUEUE: usize = 8192;

/// What a line tells.
pub(super) struct Entry {
    time: DateTime<Utc>,
    client: IpAddr,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) status: u16,
    pub(super) bytes: u64,
    /// The answer ended before its end.
    pub(super) broken: bool,
    pub(super) replica: Option<String>,
}

impl Entry {
    pub(super) fn new<B>(request: &Request<B>, client: IpAddr) -> Entry {
        let headers: &HeaderMap = request.headers();
        let header = |name: HeaderName| headers.get(name).cloned();
        Entry {
            time: Utc::now(),
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: header(hyper::header::HOST),
            referer: header(REFERER),
            agent: header(USER_AGENT),
            request_id: None,
            status: 0,
            bytes: 0,
            broken: false,
            replica: None,
        }
    }

    fn line(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Json => self.json(),
            LogFormat::Combined => self.combined(),
        }
    }

    fn json(&self) -> String {
        let elapsed = Utc::now().signed_duration_since(self.time);
        let seconds = elapsed.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6;
        json!({
            "time": self.time.to_rfc3339_opts(SecondsFormat::Micros, true),
            "client": self.client.to_string(),
            "method": self.method.as_str(),
            "host": text(self.host.as_ref()),
            "target": self.uri.to_string(),
            "status": self.status,
            "bytes": self.bytes,
            "broken": self.broken,
            "seconds": seconds,
            "replica": self.replica,
            "request_id": text(self.request_id.as_ref()),
            "user_agent": text(self.agent.as_ref()),
            "referer": text(self.referer.as_ref()),
        })
        .to_string()
    }

    fn combined(&self) -> String {
        let quoted = |value: &Option<HeaderValue>| {
            text(value.as_ref()).map_or("-".to_owned(), |text| escaped(&text))
        };
        format!(
            "{} - - [{}] \"{} {} {:?}\" {} {} \"{}\" \"{}\"",
            self.client,
            self.time.format("%d/%b/%Y:%H:%M:%S +0000"),
            self.method,
            escaped(&self.uri.to_string()),
            self.version,
            self.status,
            self.bytes,
            quoted(&self.referer),
            quoted(&self.agent),
        )
    }
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// So that no client can end a quoted word or a line.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\x{:02X}", u32::from(c)),
        c if c.is_control() => format!("\\x{:02X}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Where lines are handed over.
#[derive(Debug)]
pub(super) struct AccessLog {
    lines: SyncSender<Entry>,
    left_out: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the file, which grows at its end, and starts the writer.
    pub(super) fn open(settings: &Settings) -> io::Result<AccessLog> {
        let file = OpenOptions::new().create(true).append(true).open(&settings.path)?;
        let (lines, entries) = sync_channel(QUEUE);
        let left_out = Arc::new(AtomicU64::new(0));
        let (format, counted) = (settings.format, Arc::clone(&left_out));
        let write = move || write(&entries, BufWriter::new(file), format, &counted);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        Ok(AccessLog { lines, left_out })
    }

    pub(super) fn write(&self, entry: Entry) {
        if self.lines.try_send(entry).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes until nobody is left to send; flushes whenever there is nothing more to write.
fn write(entries: &Receiver<Entry>, mut file: impl Write, format: LogFormat, left_out: &AtomicU64) {
    while let Ok(first) = entries.recv() {
        let mut written = writeln!(file, "{}", first.line(format));
        for entry in entries.try_iter() {
            written = written.and_then(|()| writeln!(file, "{}", entry.line(format)));
        }
        if let Err(error) = written.and_then(|()| file.flush()) {
            tracing::warn!(%error, "the access log cannot be written");
        }
        let count = left_out.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::warn!(count, "lines of the access log left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_can_forge_a_line() {
        let request = Request::get("/a%22b?c")
            .header("user-agent", HeaderValue::from_bytes(b"x\" 200\\\xff\t").unwrap())
            .body(())
            .unwrap();
        let mut entry = Entry::new(&request, "192.0.2.7".parse().unwrap());
        (entry.status, entry.bytes) = (200, 5);
        entry.time = DateTime::from_timestamp(0, 0).unwrap();
        assert_eq!(
            entry.line(LogFormat::Combined),
            "192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] \"GET /a%22b?c HTTP/1.1\" 200 5 \"-\" \
             \"x\\x22 200\\x5C\u{fffd}\\x09\""
        );
        let json: serde_json::Value = serde_json::from_str(&entry.line(LogFormat::Json)).unwrap();
        assert_eq!(json["user_agent"], "x\" 200\\\u{fffd}\t");
        assert_eq!((&json["status"], &json["bytes"]), (&200.into(), &5.into()));
    }
}
