//! I/O: one client connection: idle, then requests, then idle again, to its end.
//!
//! While it is idle only the socket is kept: buffers and the state of HTTP are given up shortly
//! after an answer and made anew at the next byte, so that ten thousand quiet clients are cheap.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::refusal::Refusal;
use super::session::Session;
use super::threads::Counted;
use super::watch::{Phase, Watch};
use super::{Listener, exchange, gather, tunnel};

/// How long the state of HTTP is kept after an answer.
pub(super) const PARK_AFTER: Duration = Duration::from_millis(250);

/// What is read of a client that was refused, so that the refusal reaches it: a socket closed with
/// bytes unread is reset, and what was on its way to the client is lost.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A client connection as a task, done when the socket is closed. This is all that ten thousand
/// idle ones keep, and why it is no `async fn`, which would keep its arguments twice.
pub(super) struct Connection {
    listener: Arc<Listener>,
    watch: Arc<Watch>,
    peer: SocketAddr,
    state: State,
    _admission: Option<OwnedSemaphorePermit>,
    counted: Counted,
    _token: TaskTrackerToken,
}

/// With the little that the runtime adds to a task, 256 bytes of memory.
const _: () = assert!(size_of::<Connection>() <= 152);

enum State {
    /// Until the first byte of a request.
    Idle(TcpStream),
    Active(Pin<Box<dyn Future<Output = Option<Rest>> + Send>>),
    Over,
}

/// The stream once there is no whole request for a while, and the part of one that came.
type Rest = (TcpStream, Bytes);

impl Connection {
    /// Serves its requests, or says that there are too many connections if it was not admitted.
    pub(super) fn new(
        listener: Arc<Listener>,
        stream: TcpStream,
        peer: SocketAddr,
        admission: Option<OwnedSemaphorePermit>,
        counted: Counted,
        token: TaskTrackerToken,
    ) -> Connection {
        // Small answers go out at once; a socket that refuses the option works all the same.
        let _ = stream.set_nodelay(true);
        let watch = Watch::begin(&listener.ticker);
        let state = if admission.is_some() {
            watch.enter(Phase::Idle, Some(listener.settings.timeouts.idle));
            State::Idle(stream)
        } else {
            State::Active(Box::pin(refuse(stream, Refusal::TooManyConnections.raw())))
        };
        Connection { listener, watch, peer, state, _admission: admission, counted, _token: token }
    }

    fn active(&self, rest: Rest) -> State {
        let (listener, watch) = (Arc::clone(&self.listener), Arc::clone(&self.watch));
        State::Active(Box::pin(active(listener, watch, rest, self.peer, self.counted.thread())))
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            this.state = match std::mem::replace(&mut this.state, State::Over) {
                State::Idle(stream) => {
                    this.watch.wakes(context.waker());
                    if this.watch.overdue().is_some() || this.watch.ticker().is_stopping() {
                        return Poll::Ready(());
                    }
                    match stream.poll_read_ready(context) {
                        Poll::Ready(Ok(())) => this.active((stream, Bytes::new())),
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {
                            this.state = State::Idle(stream);
                            return Poll::Pending;
                        }
                    }
                }
                State::Active(mut active) => match active.as_mut().poll(context) {
                    Poll::Ready(Some((stream, unread))) if unread.is_empty() => {
                        let limit = this.listener.settings.timeouts.idle;
                        this.watch.enter(Phase::Idle, Some(limit));
                        State::Idle(stream)
                    }
                    Poll::Ready(Some(rest)) => this.active(rest),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {
                        this.state = State::Active(active);
                        return Poll::Pending;
                    }
                },
                State::Over => return Poll::Ready(()),
            }
        }
    }
}

/// Serves requests, as long as they come.
async fn active(
    listener: Arc<Listener>,
    watch: Arc<Watch>,
    (stream, unread): Rest,
    peer: SocketAddr,
    thread: usize,
) -> Option<Rest> {
    let session = Arc::new(Session::new(listener, Arc::clone(&watch), peer.ip(), thread));
    watch.enter(Phase::Idle, Some(session.timeouts().head));
    let keep = Arc::new(AtomicBool::new(false));
    let io = ClientIo {
        unread,
        stream: TokioIo::new(stream),
        session: Arc::clone(&session),
        keep: Arc::clone(&keep),
    };
    let head_bytes = session.limits().head_bytes as usize;
    let mut http = http1::Builder::new();
    http.max_header_size(head_bytes).max_buf_size(head_bytes);
    let mut http = http.serve_connection(io, exchange::Service(Arc::clone(&session)));
    let served = poll_fn(|context| {
        watch.wakes(context.waker());
        let ticker = watch.ticker();
        if ticker.is_aborting() {
            return Poll::Ready(Ok(false));
        }
        if ticker.is_stopping() {
            Pin::new(&mut http).graceful_shutdown();
        }
        match watch.overdue() {
            Some(Phase::Idle) if session.is_blocked() => {
                watch.enter(Phase::Answer, Some(session.timeouts().answer));
            }
            Some(Phase::Idle) => {
                keep.store(true, Ordering::Relaxed);
                Pin::new(&mut http).graceful_shutdown();
            }
            Some(Phase::Head | Phase::Answer) => return Poll::Ready(Ok(false)),
            _ => {}
        }
        Pin::new(&mut http).poll(context).map_ok(|()| true)
    })
    .await;
    let parts = http.into_parts();
    let mut stream = parts.io.stream.into_inner();
    let tunnel = session.tunnel().take();
    if let Some(replica) = tunnel {
        tunnel::run(&session, stream, parts.read_buf, replica).await;
        return None;
    }
    match served {
        Ok(true) if keep.load(Ordering::Relaxed) => Some((stream, parts.read_buf)),
        Ok(true) => {
            linger(&mut stream).await;
            None
        }
        Ok(false) => None,
        Err(error) => {
            tracing::debug!(%peer, %error, "client connection ended early");
            linger(&mut stream).await;
            None
        }
    }
}

/// Lets the client read the last answer before the socket is gone.
async fn linger(stream: &mut TcpStream) {
    let read = async {
        let _ = stream.shutdown().await;
        let mut left = LINGER_BYTES;
        // On the heap, lest every connection with a request keep room for it.
        let mut buffer = vec![0; 4096];
        while let Ok(read) = tokio::io::AsyncReadExt::read(stream, &mut buffer).await
            && read > 0
            && left > 0
        {
            left = left.saturating_sub(read);
        }
    };
    let _ = tokio::time::timeout(LINGER_TIME, read).await.is_ok();
}

/// The stream of a client, which tells the session what the client does.
struct ClientIo {
    /// To be read before what the stream has.
    unread: Bytes,
    stream: TokioIo<TcpStream>,
    session: Arc<Session>,
    /// The end of HTTP is not the end of the stream.
    keep: Arc<AtomicBool>,
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = if self.unread.is_empty() {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        } else {
            let most = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(most));
            Poll::Ready(Ok(()))
        };
        if polled.is_ready() && self.session.watch.phase() == Phase::Idle {
            self.session.watch.enter(Phase::Head, Some(self.session.timeouts().head));
        }
        polled
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.session.written(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = gather::poll_write(Pin::new(&mut self.stream), context, slices);
        self.session.written(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.keep.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Answers a connection beyond the limit, and closes it.
async fn refuse(mut stream: TcpStream, answer: Bytes) -> Option<Rest> {
    let _ = stream.write_all(&answer).await;
    linger(&mut stream).await;
    None
}
