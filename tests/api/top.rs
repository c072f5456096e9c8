//! I/O: `foresail top` against a running service: pictures for scripts, keys on a real terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_is_printed() {
    let world = World::start("token = \"s3cret\"").await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let ready = world.url("/readyz").parse().expect("a URL");
    for _ in 0..1200 {
        let answer = client.get(hyper::Uri::clone(&ready)).await.expect("an answer");
        if answer.status() == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = world.url("");
    let run = |args: &[&str]| {
        let mut command = Command::new(FORESAIL);
        command.args(["top", "--url", &url]).args(args).env_remove("FORESAIL_API_TOKEN");
        let output = command.output().expect("foresail runs");
        (output.status.code(), text(&output))
    };
    let token = ["--token", "s3cret", "--once"];
    let (code, picture) = run(&token);
    assert_eq!(code, Some(0), "{picture}");
    assert_eq!(picture.lines().count(), 36);
    for part in ["● connected", "▸ web", "act", "cores", "now", "[decision]"] {
        assert!(picture.contains(part), "no {part} in {picture}");
    }
    let (code, narrow) = run(&[&token[..], &["web", "--size", "40x12"]].concat());
    assert_eq!((code, narrow.lines().count()), (Some(0), 12), "{narrow}");
    for (args, code, message) in [
        (vec!["--once"], 1, "the API wants its token: --token or FORESAIL_API_TOKEN"),
        ([&token[..], &["wbe"]].concat(), 2, "no service `wbe`; known: web"),
        (vec![], 2, "standard output is no terminal; `--once` prints one picture"),
        (vec!["--once", "--size", "0x9"], 2, "each 1 to 500"),
        (vec!["--interval", "1y"], 2, "from 100ms to 1h"),
        (vec!["--token", "a\nb"], 2, "--token: it has characters"),
        (
            vec!["--once", "--url", "http://127.0.0.1:1"],
            1,
            "http://127.0.0.1:1: Connection refused",
        ),
        (vec!["--url", "https://x"], 2, "only http is spoken"),
        (vec!["--url", "x y"], 2, "write http://HOST:PORT"),
    ] {
        // The last `--url` counts for clap only if it may be given twice; so it comes alone.
        let alone = args.contains(&"--url");
        let (got, said) = if alone {
            let output = Command::new(FORESAIL).arg("top").args(&args).output().expect("it runs");
            (output.status.code(), text(&output))
        } else {
            run(&args)
        };
        assert_eq!(got, Some(code), "{args:?}: {said}");
        assert!(said.contains(message), "{args:?}: {said}");
    }
    world.stop().await;
}

/// What util-linux's `script` makes: a terminal with `foresail top` on it, whose keys are a pipe.
struct Terminal {
    script: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(script: &Path, command: &str) -> Terminal {
        // What the terminal was set to is printed before and after.
        let inside = format!(
            "stty rows 30 cols 100; echo before $(stty -g); {command}; \
             echo code=$?; echo after $(stty -g)"
        );
        let mut script = Command::new(script)
            .args(["-qec", &inside, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let (keys, mut output) = (script.stdin.take(), script.stdout.take().expect("piped"));
        let shown = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let shown = shown.clone();
            move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = output.read(&mut buffer) {
                    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.extend_from_slice(&buffer[..read]);
                }
            }
        });
        Terminal { script, keys, shown }
    }

    fn text(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn press(&mut self, keys: &str) {
        self.keys.as_mut().expect("open").write_all(keys.as_bytes()).expect("taken");
    }

    async fn until(&self, part: &str) {
        for _ in 0..1200 {
            if self.text().contains(part) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {part:?} in {:?}", self.text());
    }

    /// The terminal is as it was: not raw, on its main screen, with a cursor.
    async fn must_be_restored(mut self, code: &str) {
        self.until("after ").await;
        drop(self.keys.take());
        self.script.wait().expect("it ends");
        let text = self.text();
        assert!(text.contains(code), "{text:?}");
        let settings = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().split(name).nth(1));
            line.map(str::trim).map(String::from)
        };
        assert!(settings("before ").is_some());
        assert_eq!(settings("before "), settings("after "), "{text:?}");
        let last = |part: &str| text.rfind(part).unwrap_or_else(|| panic!("no {part:?}: {text:?}"));
        assert!(last("\x1b[?1049h") < last("\x1b[?1049l"), "{text:?}");
        assert!(last("\x1b[?25l") < last("\x1b[?25h"), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_on_a_terminal_change_a_running_service() {
    let Some(script) = tool("script") else { return };
    let world = World::start("").await;
    let url = world.url("");
    let top = format!("exec {FORESAIL} top --interval 100ms --url {url}");
    let mut terminal = Terminal::start(&script, &format!("({top})"));
    // Drawn once everything is known. Later pictures send only what differs from the one before, so
    // what the keys did is read over the API.
    terminal.until("[decision]").await;
    terminal.press("o2\r\r");
    let held = |_, body: &Value| body["override"]["replicas"] == 2;
    let detail = world.until("/v1/services/web", held).await;
    assert_eq!(detail["override"]["reason"], "set in foresail top");
    // There is nothing to end before the view has read of it.
    while !world.get("/v1/services/web").await.1["override"].is_null() {
        terminal.press("d");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    terminal.press("my");
    world.until("/v1/services/web", |_, body| body["mode"] == "observe").await;
    terminal.press("\tq");
    terminal.must_be_restored("code=0").await;

    // A signal ends it as well, and gives the terminal back.
    let terminal = Terminal::start(&script, &format!("sh -c 'echo pid=$$.; {top}'"));
    terminal.until("[decision]").await;
    let text = terminal.text();
    let pid = text.split("pid=").nth(1).and_then(|rest| rest.split('.').next()).expect("a pid");
    let killed = Command::new("kill").args(["-TERM", pid]).status().expect("kill runs");
    assert!(killed.success());
    terminal.must_be_restored("code=0").await;
    world.stop().await;
}
