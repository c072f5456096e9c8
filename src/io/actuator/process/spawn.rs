//! I/O: starts one child process: its port, its environment, its ties to this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, mpsc};
use std::thread;

use nix::unistd::getpid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::config::ProcessTarget;
use crate::io::actuator::ActuatorError;

/// Starts the target's command for a replica that is to listen on `address`.
///
/// # Errors
/// [`ActuatorError::Refused`] if it cannot be started at all, [`ActuatorError::Unavailable`] if the
/// machine is out of processes or memory.
pub async fn spawn(target: &ProcessTarget, address: SocketAddr) -> Result<Child, ActuatorError> {
    let port = address.port().to_string();
    let mut words = target.command.iter().map(|word| word.replace("{port}", &port));
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words).envs(&target.env).env("PORT", &port);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C on the terminal must reach Foresail alone, and one signal all of
    // the replica.
    command.process_group(0).kill_on_drop(true);
    die_with_parent(&mut command);
    on_the_spawning_thread(command).await.map_err(|e| {
        let message = format!("cannot start `{program}`: {e}");
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
                ActuatorError::Unavailable(message)
            }
            _ => ActuatorError::Refused(message),
        }
    })
}

/// Has the kernel kill the child when this process dies, however it dies.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use nix::sys::{prctl::set_pdeathsig, signal::Signal};
    use nix::unistd::getppid;

    use crate::io::memory;

    let parent = getpid();
    let tie = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        memory::allow_huge_pages_in_child();
        // The parent may have died before the line above; then no signal will come.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes
    // three system calls and allocates nothing.
    unsafe { command.pre_exec(tie) };
}

/// Elsewhere a replica sees the end of its standard input.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

type Task = Box<dyn FnOnce() + Send>;

/// The kernel ties a child to the *thread* that forked it, and the runtime's threads may end while
/// Foresail goes on. So all children are forked by this one, which never ends.
static SPAWNING_THREAD: LazyLock<mpsc::Sender<Task>> = LazyLock::new(|| {
    let (tasks, queue) = mpsc::channel::<Task>();
    thread::spawn(move || queue.into_iter().for_each(|task| task()));
    tasks
});

async fn on_the_spawning_thread(mut command: Command) -> io::Result<Child> {
    let (reply, answer) = oneshot::channel();
    let runtime = Handle::current();
    let task: Task = Box::new(move || {
        let _guard = runtime.enter();
        // Nobody waits any more: the child in the unsent reply is dropped, and so killed.
        let _ = reply.send(command.spawn());
    });
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    SPAWNING_THREAD.send(task).map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?
}

/// Ports below those that systems give to outgoing connections (from 32768 on Linux, 49152
/// elsewhere): nobody takes one of these by chance while the replica is still on its way to bind
/// it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port on 127.0.0.1 that is free now. Each is offered once before any is offered again, and
/// every process starts elsewhere in the range, so that replicas that start at once do not meet.
pub fn free_address() -> io::Result<SocketAddr> {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((getpid().as_raw() as u16).wrapping_mul(97)));
    let free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    (0..PORTS.len())
        .map(|_| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u16)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(free)
        .ok_or_else(|| io::ErrorKind::AddrInUse.into())
}

/// Longest piece of a replica's output that is logged as one line.
const LINE_BYTES: u64 = 1_000;

/// Passes what a replica writes on standard error to the log, until it closes it.
pub async fn log_lines(replica: String, stderr: Option<ChildStderr>) {
    let Some(stderr) = stderr else { return };
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
        tracing::info!(replica, "{}", String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_free_and_differ() {
        let addresses: Vec<SocketAddr> = (0..50).map(|_| free_address().unwrap()).collect();
        let mut distinct = addresses.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), addresses.len());
        assert!(addresses.iter().all(|a| PORTS.contains(&a.port()) && a.ip().is_loopback()));
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let listener = TcpListener::bind(free_address().unwrap()).unwrap();
        let taken = listener.local_addr().unwrap();
        assert!((0..PORTS.len()).all(|_| free_address().unwrap() != taken));
    }
}
