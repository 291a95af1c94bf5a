//! Closes a connection so that its client can read the last answer.
//!
//! Closing a socket with unread input resets the connection, and a client that is still sending then never sees why it was
//! refused. So the server closes its own side first, and reads and drops for a moment what the client sends (RFC 9112,
//! section 9.6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::limits;

/// A stream that reads on for a moment after its shutdown.
pub(super) struct Lingering {
    stream: TcpStream,
    /// Cancelled when the server drains: then a closing connection waits for no more input.
    stop: CancellationToken,
    /// What is still read; set when the server's side is closed.
    rest: Option<Rest>,
}

/// How much, and until when, a closed connection still reads.
struct Rest {
    bytes: usize,
    until: Pin<Box<Sleep>>,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream, stop: CancellationToken) -> Self {
        Lingering { stream, stop, rest: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Lingering { stream, stop, rest } = &mut *self;
        let rest = match rest {
            Some(rest) => rest,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                let until = Box::pin(tokio::time::sleep(Duration::from_millis(limits::LINGER_MS_MAX)));
                rest.insert(Rest { bytes: limits::LINGER_BYTES_MAX, until })
            }
        };
        let mut space = [0; 8 * 1024];
        while rest.bytes > 0 && rest.until.as_mut().poll(cx).is_pending() {
            let mut input = ReadBuf::new(&mut space);
            match Pin::new(&mut *stream).poll_read(cx, &mut input) {
                // The client has closed its side, or is gone.
                Poll::Ready(Ok(())) if input.filled().is_empty() => break,
                Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) => rest.bytes = rest.bytes.saturating_sub(input.filled().len()),
                Poll::Pending if stop.is_cancelled() => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
