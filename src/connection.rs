//! One connection, from accept to close.
//!
//! A connection that waits for a request holds no buffers: it is a socket with one timer. hyper's
//! state for it is built when the first byte is there, and given back when the connection has been
//! quiet for a moment.

mod activity;
mod alarm;
mod deadlines;
mod driver;
mod exchange;
mod io;

use std::future::poll_fn;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::activity::Activity;
use self::alarm::Alarm;
use self::deadlines::{Deadlines, Timeouts};
use self::driver::{Driver, End};
use self::exchange::Exchange;
use self::io::{Io, has_unread};
use crate::lifecycle::{Running, Stage};
use crate::listener::Peer;
use crate::log;
use crate::service::AnyService;
use crate::shared::Shared;
use crate::slots::Slot;

/// How long to wait for a peer to close after an answer that it may not have read yet.
const LINGER: Duration = Duration::from_secs(1);

/// A connection: everything that outlives a single request.
pub(crate) struct Connection<S> {
    stream: TcpStream,
    peer: Peer,
    service: S,
    shared: Arc<Shared>,
    alarm: Alarm,
    /// When the connection is closed if no byte of a request has come. A first head has to be whole by then.
    wait_until: Instant,
    /// Declared after `stream`: fields drop in order, so the descriptor is closed before the slot is
    /// free.
    slot: Slot,
    /// Dropped last, when nothing of the service is left.
    _running: Running,
}

/// What happens to a connection when hyper no longer serves it.
enum Next {
    /// It waits for a request, of which this was read already.
    Request(Bytes),
    /// It is closed in stages. The peer may still send bytes that are thrown away.
    CloseInStages { may_send_more: bool },
    /// It is closed at once.
    Close,
}

impl<S: AnyService> Connection<S> {
    /// A connection that was just accepted.
    pub(crate) fn new(
        stream: TcpStream,
        peer: Peer,
        service: S,
        slot: Slot,
        shared: Arc<Shared>,
    ) -> Self {
        let accepted = Instant::now();
        Self {
            stream,
            peer,
            service,
            alarm: Alarm::new(accepted + Timeouts::new(&shared.limits).tick()),
            wait_until: accepted + shared.limits.header_timeout,
            slot,
            _running: shared.lifecycle.start_running(),
            shared,
        }
    }

    /// Serves the connection until it is closed.
    pub(crate) async fn serve(&mut self) {
        let mut unparsed = Bytes::new();
        // The first head's time runs from when the slot was taken: the wait for a first byte uses it up.
        let mut is_first = true;
        let may_send_more = loop {
            if unparsed.is_empty() && !self.wait_for_request().await {
                return;
            }
            self.slot.mark_busy();
            let head_deadline = mem::take(&mut is_first).then_some(self.wait_until);
            // Boxed, so that a connection that only waits does not keep room for hyper's state.
            let next = Box::pin(self.serve_requests(unparsed, head_deadline)).await;
            self.shared.freed.note();
            match next {
                Next::Request(rest) => unparsed = rest,
                Next::CloseInStages { may_send_more } => break may_send_more,
                Next::Close => return,
            }
        };
        self.close_in_stages(may_send_more).await;
    }

    /// Waits, with no buffer, for the first byte of a request. False if none came in time, or before
    /// the connection had to be closed.
    async fn wait_for_request(&mut self) -> bool {
        let Self {
            stream,
            slot,
            shared,
            alarm,
            wait_until,
            ..
        } = self;
        let lifecycle = &shared.lifecycle;
        let has_to_close = || {
            slot.eviction_requested() || slot.is_idle() && lifecycle.has_reached(Stage::Draining)
        };
        poll_fn(|cx| {
            slot.register(cx.waker());
            // A connection is given up only after a look at its socket: what the event loop knows of it
            // may be older than the reason to close it.
            if has_to_close() {
                return Poll::Ready(has_unread(stream));
            }
            // A peek, because readiness alone can be a false alarm, and buffers would be built for it.
            if let Poll::Ready(peeked) = stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
                return Poll::Ready(peeked.is_ok_and(|bytes| bytes > 0));
            }
            while alarm.rings(cx) {
                if *wait_until <= Instant::now() {
                    return Poll::Ready(has_unread(stream));
                }
                // A new connection is busy until its first tick, because its first request may be about
                // to arrive.
                slot.mark_idle();
                if has_to_close() {
                    return Poll::Ready(has_unread(stream));
                }
                alarm.set(Some(*wait_until));
            }
            Poll::Pending
        })
        .await
    }

    /// Lets hyper serve requests until there is nothing to do or a deadline passes.
    async fn serve_requests(&mut self, unparsed: Bytes, head_deadline: Option<Instant>) -> Next {
        let activity = Rc::new(Activity::default());
        let (read, write) = self.stream.split();
        let stream = write.as_ref();
        let exchange = Exchange {
            service: &self.service,
            lifecycle: &self.shared.lifecycle,
            peer: self.peer,
            activity: &activity,
        };
        let io = TokioIo::new(Io {
            read,
            stream,
            unparsed,
            activity: &activity,
            slot: &self.slot,
        });
        let service = service_fn(|request| exchange.answer(request));
        let mut driver = Driver {
            http: self.shared.http1.serve_connection(io, service),
            stream,
            activity: &activity,
            slot: &self.slot,
            lifecycle: &self.shared.lifecycle,
            alarm: &mut self.alarm,
            deadlines: Deadlines::new(Timeouts::new(&self.shared.limits), head_deadline),
            at_rest: None,
        };
        let end = driver.run().await;
        let seen = activity.seen();
        let is_broken_off = !matches!(end, End::Closed) && seen.is_mid_answer();
        // Recorded before hyper and the service are dropped, because that writes the request's log line.
        activity.record(|seen| seen.is_broken_off = is_broken_off);
        let http = driver.http.into_parts();
        if let Some(reason) = end.reason() {
            log::debug(format_args!("{}: {reason}", self.peer));
        }
        if is_broken_off && (seen.is_http_1_0 || matches!(end, End::WriteTimeout)) {
            // An orderly close would look like the end of an HTTP/1.0 answer, and the kernel would go on
            // waiting for a stalled peer to take the rest.
            let _ = stream.set_zero_linger();
            return Next::Close;
        }
        match end {
            End::Quiet(since) => {
                self.wait_until = since + self.shared.limits.idle_timeout;
                return Next::Request(join(http.read_buf, http.io.into_inner().unparsed));
            }
            End::WriteTimeout | End::Abandoned | End::CutOff => return Next::Close,
            End::HeadTimeout => self.answer_head_timeout(),
            End::Closed | End::Failed(_) => {}
        }
        let may_send_more = seen.had_body || !matches!(end, End::Closed);
        Next::CloseInStages { may_send_more }
    }

    fn answer_head_timeout(&self) {
        let date = httpdate::HttpDate::from(SystemTime::now());
        let response = format!(
            "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\ndate: {date}\r\n\r\n"
        );
        // This cannot block: a full socket would have been reported as stalled before.
        let _ = self.stream.try_write(response.as_bytes());
    }

    /// Closes in stages (RFC 9112 section 9.6): closing a socket that has unread bytes resets the connection,
    /// and the reset can overtake the answer. So what still comes is read and thrown away, for a moment.
    async fn close_in_stages(&mut self, may_send_more: bool) {
        let Self {
            stream,
            slot,
            shared,
            alarm,
            ..
        } = self;
        let _ = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await;
        if !may_send_more && !has_unread(stream) {
            return;
        }
        alarm.set(Some(Instant::now() + LINGER));
        // Busy, so that it is not evicted: that could reset the answer, and it is closed soon in any case.
        slot.mark_busy();
        poll_fn(|cx| {
            slot.register(cx.waker());
            // Before the reads, because a client that sends without a pause never lets them end.
            if alarm.rings(cx) || shared.lifecycle.has_reached(Stage::Over) {
                return Poll::Ready(());
            }
            loop {
                let mut buffer = [const { MaybeUninit::uninit() }; 1024];
                let mut buffer = ReadBuf::uninit(&mut buffer);
                match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.shared.freed.note();
    }
}

/// The bytes that hyper read and did not parse, then those that it did not read.
fn join(read: Bytes, unread: Bytes) -> Bytes {
    match (read.is_empty(), unread.is_empty()) {
        // Even an empty one would keep the 8 KiB buffer alive that it is a part of.
        (true, true) => Bytes::new(),
        (false, true) => read,
        (true, false) => unread,
        (false, false) => [read, unread].concat().into(),
    }
}
