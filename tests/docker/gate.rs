//! I/O: a restricted way to the engine: a proxy that lets some calls pass, refuses all others and
//! remembers what was asked.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use crate::relay::connect;

/// Method and path of a call, as `GET /containers/{id}/json`.
pub type Call = String;

/// Open until dropped.
pub struct Gate {
    folder: tempfile::TempDir,
    seen: Arc<Mutex<Seen>>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default, Clone)]
pub struct Seen {
    pub passed: BTreeSet<Call>,
    pub refused: BTreeSet<Call>,
    /// When each call came last.
    last: HashMap<Call, Instant>,
}

impl Gate {
    pub fn open(passes: impl Fn(&str) -> bool + Send + Sync + 'static) -> Gate {
        let folder = tempfile::tempdir().expect("temporary folder");
        let listener = UnixListener::bind(folder.path().join("docker.sock")).expect("bind");
        let (seen, passes) = (Arc::<Mutex<Seen>>::default(), Arc::new(passes));
        let accepting = tokio::spawn({
            let seen = seen.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (seen, passes) = (seen.clone(), passes.clone());
                    tokio::spawn(async move {
                        // Either side may hang up at any time.
                        let _ = pass(client, &seen, passes.as_ref()).await;
                    });
                }
            }
        });
        Gate { folder, seen, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The address that `DOCKER_HOST` would have.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    pub fn last(&self, call: &str) -> Option<Instant> {
        self.seen.lock().expect("no panic").last.get(call).copied()
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn pass(
    mut client: UnixStream,
    seen: &Mutex<Seen>,
    passes: &(impl Fn(&str) -> bool + ?Sized),
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let (line, headers) = head.split_once("\r\n").expect("ends with two");
    let call = call(line);
    let passed = passes(&call);
    {
        let mut seen = seen.lock().expect("no panic");
        seen.last.insert(call.clone(), Instant::now());
        if passed {
            seen.passed.insert(call.clone())
        } else {
            seen.refused.insert(call.clone())
        };
    }
    if !passed {
        let body = format!(r#"{{"message": "the gate refuses {call}"}}"#);
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut engine = connect().await;
    // One call a connection, so that each is looked at.
    engine.write_all(format!("{line}\r\nConnection: close\r\n{headers}").as_bytes()).await?;
    copy_bidirectional(&mut client, &mut engine).await.map(|_| ())
}

/// Without version and query, and with `{id}` for what the name of a thing may be.
fn call(line: &str) -> Call {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let mut segments = path.split('/').filter(|it| !it.is_empty()).collect::<Vec<_>>();
    if segments.first().is_some_and(|it| it.starts_with("v1.")) {
        segments.remove(0);
    }
    let collection = ["containers", "images", "networks", "volumes"];
    let thing = segments.len() > 1
        && collection.contains(&segments[0])
        && !["json", "create", "prune"].contains(&segments[1]);
    if thing {
        segments[1] = "{id}";
    }
    format!("{method} /{}", segments.join("/"))
}

#[test]
fn calls_are_told_apart() {
    let check = |line: &str, expected: &str| assert_eq!(call(line), expected);
    check("GET /v1.41/containers/json?all=true HTTP/1.1", "GET /containers/json");
    check("POST /containers/create?name=x HTTP/1.1", "POST /containers/create");
    check("DELETE /v1.41/containers/abc?force=true HTTP/1.1", "DELETE /containers/{id}");
    check("GET /v1.41/images/web/json HTTP/1.1", "GET /images/{id}/json");
    check("GET /_ping HTTP/1.1", "GET /_ping");
    check("", " /");
}
