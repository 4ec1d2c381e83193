//! A connection's stream as hyper sees it.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;

use super::activity::{Activity, Phase};
use crate::slots::Slot;

/// Whether the socket holds unread bytes. A system call, because the event loop may not know of them yet.
pub(super) fn has_unread(stream: &TcpStream) -> bool {
    let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    peeked.is_ok_and(|bytes| bytes > 0)
}

/// Gives hyper what was read earlier and not parsed, then what the socket holds, and records how far
/// the connection is.
///
/// It does not claim to be vectored, so that hyper writes the head and a small body with one call.
pub(super) struct Io<'c> {
    /// A short read through this half is taken to mean that the socket is empty, which saves a system call.
    pub(super) read: ReadHalf<'c>,
    pub(super) stream: &'c TcpStream,
    pub(super) unparsed: Bytes,
    pub(super) activity: &'c Activity,
    pub(super) slot: &'c Slot,
}

impl Io<'_> {
    fn note_answer(&self) {
        if self.activity.seen().phase == Phase::Answered {
            self.slot.mark_answered();
            self.activity.record(|seen| seen.phase = Phase::Writing);
        }
    }
}

impl AsyncRead for Io<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let seen = self.activity.seen();
        if seen.reads_body() && seen.body_timed_out {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        if self.unparsed.is_empty() {
            let read = Pin::new(&mut self.read).poll_read(cx, buf);
            if read.is_pending() && seen.reads_body() {
                self.activity.record(|seen| seen.awaiting_body = true);
            }
            ready!(read)?;
        } else {
            let length = self.unparsed.len().min(buf.remaining());
            buf.put_slice(&self.unparsed.split_to(length));
        }
        if buf.filled().len() > before {
            if seen.phase == Phase::Quiet {
                self.slot.mark_busy();
            }
            self.activity.record(|seen| {
                seen.read = true;
                if seen.phase == Phase::Quiet {
                    seen.phase = Phase::Head;
                }
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note_answer();
        loop {
            match self.stream.try_write(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.stream.poll_write_ready(cx)?.is_pending() {
                        self.activity.record(|seen| seen.blocked = true);
                        return Poll::Pending;
                    }
                }
                written => {
                    self.activity
                        .record(|seen| (seen.wrote, seen.blocked) = (true, false));
                    return Poll::Ready(written);
                }
            }
        }
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note_answer();
        if self.activity.seen().phase == Phase::Writing {
            self.activity.record(|seen| seen.phase = Phase::Quiet);
        }
        Poll::Ready(Ok(()))
    }

    /// Left to the connection, which closes in stages.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
