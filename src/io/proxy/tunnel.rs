//! I/O: a connection that changed its protocol (WebSocket): bytes copied both ways.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::session::{Session, Tunnel};
use super::watch::Phase;

/// Copies until both sides are done, nothing moves for too long or the listener aborts. The request
/// is in flight all along.
pub(super) async fn run(session: &Session, client: TcpStream, read: Bytes, replica: Tunnel) {
    let Tunnel { stream, read: answered, seat: _seat } = replica;
    let watch = &session.watch;
    let limit = Some(session.timeouts().tunnel);
    watch.enter(Phase::Answer, limit);
    let moved = || watch.enter(Phase::Answer, limit);
    let (mut client, mut stream) = (Watched(client, &moved), Watched(stream, &moved));
    let mut copied = pin!(async {
        client.write_all(&answered).await?;
        stream.write_all(&read).await?;
        tokio::io::copy_bidirectional(&mut client, &mut stream).await
    });
    poll_fn(|context| {
        watch.wakes(context.waker());
        if watch.overdue().is_some() || watch.ticker().is_aborting() {
            return Poll::Ready(());
        }
        copied.as_mut().poll(context).map(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "tunnel ended early");
            }
        })
    })
    .await;
}

/// A stream that tells when something moves.
struct Watched<'m, F>(TcpStream, &'m F);

impl<F: Fn()> AsyncRead for Watched<'_, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(context, buffer);
        if polled.is_ready() {
            self.1();
        }
        polled
    }
}

impl<F: Fn()> AsyncWrite for Watched<'_, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.0).poll_write(context, bytes);
        if polled.is_ready() {
            self.1();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
