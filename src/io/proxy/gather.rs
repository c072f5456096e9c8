//! I/O: small writes in one piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::Write;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Up to here copying takes less time than the kernel needs to gather.
const MAX_COPIED_BYTES: usize = 2048;

/// Writes what `slices` hold together, or the first part of it; few bytes with a plain `send`.
///
/// # Errors
/// Those of the stream.
pub(super) fn poll_write(
    stream: Pin<&mut TokioIo<TcpStream>>,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [whole] = slices {
        return stream.poll_write(context, whole);
    }
    let mut copied = [0; MAX_COPIED_BYTES];
    let mut end = 0;
    for slice in slices {
        let Some(room) = copied.get_mut(end..end + slice.len()) else {
            return stream.poll_write_vectored(context, slices);
        };
        room.copy_from_slice(slice);
        end += slice.len();
    }
    stream.poll_write(context, &copied[..end])
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn check(sizes: &[usize]) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut stream = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
        let (mut other, _) = listener.accept().await.expect("it connects");

        let parts: Vec<_> = (1..).zip(sizes).map(|(byte, size)| vec![byte; *size]).collect();
        let want = parts.concat();
        let write = async move {
            let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut left = slices.as_mut_slice();
            while !left.is_empty() {
                let written = poll_fn(|cx| poll_write(Pin::new(&mut stream), cx, left)).await;
                IoSlice::advance_slices(&mut left, written.expect("the other side reads"));
            }
        };
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(other.read_to_end(&mut got), write);
        read.expect("the stream ends");
        assert!(got == want, "{sizes:?}: {} bytes of {}", got.len(), want.len());
    }

    #[tokio::test]
    async fn slices_arrive_whole_and_in_order() {
        for sizes in [
            [].as_slice(),
            &[5],
            &[300, 612],
            // Around what is copied.
            &[2000, 48],
            &[2000, 49],
            &[2000, 0, 48, 1],
            // More than a socket takes at once.
            &[1, 9_000_000, 1],
        ] {
            check(sizes).await;
        }
    }
}
