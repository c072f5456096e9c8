//! I/O: connections to replicas, kept for the next request.
//!
//! A connection is driven by whoever uses it, in the same task, so that a request costs no wake-up
//! between tasks; while idle nobody drives it. That is why it is looked at when it is put back, and
//! when it is taken once more, with a look past the runtime's own knowledge of the socket: one with
//! anything to read, the end or bytes that no request asked for, is never used again.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::Upload;
use super::gather;

/// An idle connection to a replica is closed after this time: below the 5 s after which common
/// servers (Node, uvicorn) close it themselves, for a request sent into that moment is lost, and a
/// POST may not be sent twice.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest head of an answer.
const MAX_ANSWER_HEAD_BYTES: usize = 256 * 1024;

/// The idle connections of one listener on one thread, the youngest of each replica last. On
/// another thread each of their events would wake this one first.
#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<SocketAddr, Vec<Idle>>>);

struct Idle {
    wire: Wire,
    since: Instant,
}

impl Pool {
    /// A connection that was used before and is fit to be used again.
    pub(super) fn take(&self, address: SocketAddr) -> Option<Wire> {
        loop {
            let Idle { mut wire, since } = self.lock().get_mut(&address)?.pop()?;
            if since.elapsed() < IDLE_TIMEOUT && wire.is_fit(true) {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection, if its last exchange ended well.
    pub(super) fn put(&self, address: SocketAddr, mut wire: Wire) {
        if wire.is_fit(false) {
            let idle = Idle { wire, since: Instant::now() };
            self.lock().entry(address).or_default().push(idle);
        }
    }

    /// Closes what nobody has needed for long; never ends.
    pub(super) async fn sweep_all(pools: &[Pool]) {
        loop {
            tokio::time::sleep(IDLE_TIMEOUT / 4).await;
            pools.iter().for_each(Pool::sweep);
        }
    }

    fn sweep(&self) {
        let mut overdue = Vec::new();
        self.lock().retain(|_, idle| {
            let young = idle.partition_point(|idle| idle.since.elapsed() >= IDLE_TIMEOUT);
            overdue.extend(idle.drain(..young));
            !idle.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Idle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a replica.
pub(super) struct Wire {
    sender: SendRequest<Upload>,
    connection: Box<Connection<ReplicaIo, Upload>>,
    ended: bool,
    suspect: Arc<AtomicBool>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        // Small requests go out at once; a socket that refuses the option works all the same.
        let _ = stream.set_nodelay(true);
        let suspect = Arc::new(AtomicBool::new(false));
        let io = ReplicaIo { stream: TokioIo::new(stream), suspect: Arc::clone(&suspect) };
        let mut http = http1::Builder::new();
        http.max_header_size(MAX_ANSWER_HEAD_BYTES);
        let (sender, connection) = http.handshake(io).await.map_err(io::Error::other)?;
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let connection = Box::new(connection);
        Ok(Wire { sender, connection, ended: false, suspect, bell, waker })
    }

    /// Sends a request that [`Wire::drive`] carries out.
    pub(super) fn send(
        &mut self,
        request: hyper::Request<Upload>,
    ) -> impl Future<Output = Sent> + use<> {
        self.sender.try_send_request(request)
    }

    /// Moves the connection on as far as it goes, and `user` with it, which takes what comes out.
    /// Each wakes the other without a detour over the runtime.
    pub(super) fn drive<T>(
        &mut self,
        context: &mut Context<'_>,
        mut user: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.bell.task.register(context.waker());
        self.bell.busy.store(true, Ordering::Release);
        let mut inner = Context::from_waker(&self.waker);
        loop {
            self.bell.rung.store(false, Ordering::Release);
            if !self.ended {
                // An error reaches the user as well, by the answer or its body.
                self.ended = Pin::new(&mut *self.connection).poll(&mut inner).is_ready();
            }
            let polled = user(&mut inner);
            let again = self.bell.rung.load(Ordering::Acquire);
            if polled.is_ready() || !again {
                self.bell.busy.store(false, Ordering::Release);
                if polled.is_pending() && self.bell.rung.load(Ordering::Acquire) {
                    context.waker().wake_by_ref();
                }
                return polled;
            }
        }
    }

    /// The bare stream and what was read of it, after a change of protocol.
    pub(super) fn into_stream(self) -> (TcpStream, hyper::body::Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.stream.into_inner(), parts.read_buf)
    }

    /// Whether the last exchange is over, and nothing came after it: as far as the runtime knows,
    /// or the system itself.
    fn is_fit(&mut self, ask_system: bool) -> bool {
        if self.ended {
            return false;
        }
        self.suspect.store(ask_system, Ordering::Relaxed);
        let mut nobody = Context::from_waker(Waker::noop());
        self.ended = Pin::new(&mut *self.connection).poll(&mut nobody).is_ready();
        self.suspect.store(false, Ordering::Relaxed);
        !self.ended && self.sender.is_ready()
    }
}

pub(super) type Sent =
    Result<hyper::Response<hyper::body::Incoming>, TrySendError<hyper::Request<Upload>>>;

/// Wakes the task that drives a connection, unless it is at it already.
#[derive(Default)]
struct Bell {
    task: AtomicWaker,
    busy: AtomicBool,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if !self.busy.load(Ordering::Acquire) {
            self.task.wake();
        }
    }
}

/// The stream to a replica. Under suspicion a read asks the system itself, for the runtime may not
/// have heard yet that there is something to read, and takes anything for the end.
struct ReplicaIo {
    stream: TokioIo<TcpStream>,
    suspect: Arc<AtomicBool>,
}

impl Read for ReplicaIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.suspect.load(Ordering::Relaxed) {
            let mut byte = [std::mem::MaybeUninit::uninit()];
            let looked = socket2::SockRef::from(self.stream.inner()).peek(&mut byte);
            return match looked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            };
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for ReplicaIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        gather::poll_write(Pin::new(&mut self.stream), context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
