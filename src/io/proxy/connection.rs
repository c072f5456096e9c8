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

use super::session::Session;
use super::watch::{Phase, Watch};
use super::{Listener, exchange, gather, tunnel};

/// How long the state of HTTP is kept after an answer.
pub(super) const PARK_AFTER: Duration = Duration::from_millis(250);

/// What is read of a client that was refused, so that the refusal reaches it: a socket closed with
/// bytes unread is reset, and what was on its way to the client is lost.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Serves one client connection to its end.
pub(super) async fn serve(listener: Arc<Listener>, mut stream: TcpStream, peer: SocketAddr) {
    // Small answers go out at once; a socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    let watch = Watch::begin(&listener.ticker);
    while is_called(&stream, &watch, listener.settings.timeouts.idle).await {
        match Box::pin(active(&listener, &watch, stream, peer)).await {
            Some(parked) => stream = parked,
            None => return,
        }
    }
}

/// Waits for a byte; false if none comes in time.
async fn is_called(stream: &TcpStream, watch: &Watch, limit: Duration) -> bool {
    watch.enter(Phase::Idle, Some(limit));
    poll_fn(|context| {
        watch.wakes(context.waker());
        if watch.overdue().is_some() || watch.ticker().is_stopping() {
            return Poll::Ready(false);
        }
        stream.poll_read_ready(context).map(|ready| ready.is_ok())
    })
    .await
}

/// Serves requests; the stream, once there is none for a while.
async fn active(
    listener: &Arc<Listener>,
    watch: &Arc<Watch>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<TcpStream> {
    let session = Arc::new(Session::new(Arc::clone(listener), Arc::clone(watch), peer.ip()));
    watch.enter(Phase::Idle, Some(session.timeouts().head));
    let keep = Arc::new(AtomicBool::new(false));
    let io = ClientIo {
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
        Ok(true) if keep.load(Ordering::Relaxed) && parts.read_buf.is_empty() => Some(stream),
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
        // On the heap, lest every idle connection keep it in its task.
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
    stream: TokioIo<TcpStream>,
    session: Arc<Session>,
    /// The end of HTTP is not the end of the stream.
    keep: Arc<AtomicBool>,
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
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
pub(super) async fn refuse(mut stream: TcpStream, answer: Bytes) {
    let _ = stream.write_all(&answer).await;
    linger(&mut stream).await;
}
