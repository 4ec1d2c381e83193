//! Lets hyper serve a connection, and looks at its deadlines now and then.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::activity::{Activity, Phase, Seen};
use super::alarm::Alarm;
use super::deadlines::{Deadlines, Due};
use super::io::{Io, has_unread};
use crate::head_timer::HeadTimer;
use crate::lifecycle::{Lifecycle, Stage};
use crate::service::BoxError;
use crate::slots::Slot;

/// Why hyper no longer serves a connection.
#[derive(Debug)]
pub(super) enum End {
    /// There has been nothing to do since then.
    Quiet(Instant),
    /// A head was not whole in time.
    HeadTimeout,
    /// The peer took nothing in time.
    WriteTimeout,
    /// The client is gone, and nobody waits for the answer.
    Abandoned,
    /// The time for the drain is over.
    CutOff,
    /// hyper has finished: the peer closed, or the last answer was `Connection: close`.
    Closed,
    /// HTTP was broken, or the body of an answer ended in an error.
    Failed(hyper::Error),
}

impl End {
    /// What the log says of an end that a connection should not have.
    pub(super) fn reason(&self) -> Option<&dyn fmt::Display> {
        match self {
            // The line of the request says that it was abandoned.
            Self::Quiet(_) | Self::Closed | Self::Abandoned | Self::CutOff => None,
            Self::HeadTimeout => Some(&"request head not whole in time"),
            Self::WriteTimeout => Some(&"took no byte in time"),
            Self::Failed(error) => Some(error),
        }
    }
}

/// A connection while hyper serves it, and what watches its deadlines.
pub(super) struct Driver<'c, S: HttpService<Incoming>> {
    pub(super) http: http1::Connection<TokioIo<Io<'c>>, S>,
    pub(super) stream: &'c TcpStream,
    pub(super) activity: &'c Activity,
    pub(super) slot: &'c Slot,
    pub(super) lifecycle: &'c Lifecycle,
    pub(super) alarm: &'c mut Alarm,
    pub(super) deadlines: Deadlines,
    /// What the last look saw, if nothing had moved: a change from it is looked at within a tick.
    pub(super) at_rest: Option<Seen>,
}

impl<S> Driver<'_, S>
where
    S: HttpService<Incoming, ResBody: Body<Error: Into<BoxError>> + 'static, Error = Infallible>,
{
    /// Polls hyper until there is nothing to do or a deadline has passed.
    pub(super) async fn run(&mut self) -> End {
        self.alarm
            .set_no_later_than(Instant::now() + self.deadlines.tick());
        let stream = self.stream;
        // Completes on a reset, also behind unread bytes, where a peek would see only those.
        let mut reset = pin!(stream.ready(Interest::ERROR));
        loop {
            let ended = poll_fn(|cx| self.poll_http(reset.as_mut(), cx)).await;
            match ended {
                Ok(end) => return end,
                // The event loop looks at the sockets when all tasks have yielded.
                Err(due) if self.has_to_yield(due) => yield_now().await,
                Err(Due::Body) => self.activity.record(|seen| seen.body_timed_out = true),
                Err(Due::Write) => return End::WriteTimeout,
                Err(Due::Abandon) => return End::Abandoned,
                Err(Due::Head) => return End::HeadTimeout,
                Err(Due::Quiet(since)) => return End::Quiet(since),
            }
        }
    }

    /// Whether bytes have come in time that hyper has not read: the process was paused, or there are more
    /// sockets than the 1,024 that one look of the event loop finds.
    fn has_to_yield(&self, due: Due) -> bool {
        // hyper reads a head, and a body that it awaits, until the socket is empty.
        matches!(due, Due::Head | Due::Body) && has_unread(self.stream)
    }

    fn poll_http(
        &mut self,
        reset: Pin<&mut impl Future>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<End, Due>> {
        self.slot.register(cx.waker());
        self.activity.record(|seen| seen.awaiting_body = false);
        HeadTimer::take_was_polled();
        if let Poll::Ready(result) = Pin::new(&mut self.http).poll(cx) {
            return Poll::Ready(Ok(result.map_or_else(End::Failed, |()| End::Closed)));
        }
        self.note_body();
        let seen = self.activity.seen();
        if seen.phase == Phase::Quiet {
            self.slot.mark_idle();
            if self.slot.eviction_requested() || self.lifecycle.has_reached(Stage::Draining) {
                return Poll::Ready(Err(Due::Quiet(Instant::now())));
            }
        } else {
            if self.slot.eviction_requested() {
                self.slot.mark_busy();
            }
            if self.lifecycle.has_reached(Stage::Over) {
                self.lifecycle.count_cut_off();
                return Poll::Ready(Ok(End::CutOff));
            }
            if seen.awaits_service() && self.poll_gone(reset, cx) {
                return Poll::Ready(Ok(End::Abandoned));
            }
        }
        self.look_when_due(cx)
    }

    /// Finds out whether the service still reads the body of a request that it has answered: then what
    /// comes is no head.
    fn note_body(&mut self) {
        let awaits_head = HeadTimer::take_was_polled();
        let seen = self.activity.seen();
        match seen.phase {
            Phase::Quiet if seen.had_body && !awaits_head => {
                self.activity.record(|seen| seen.phase = Phase::Receiving);
                // While hyper means to keep the connection, it does not tell the service where the body
                // ends. If it means to close already, this call would close in the middle of the body.
                if !seen.says_close {
                    Pin::new(&mut self.http).graceful_shutdown();
                }
            }
            Phase::Receiving if awaits_head => {
                self.activity.record(|seen| seen.phase = Phase::Quiet);
            }
            _ => {}
        }
    }

    /// Looks whether the client is gone, while hyper reads nothing because the service has the
    /// request. Makes a system call only where there is something to read.
    fn poll_gone(&self, reset: Pin<&mut impl Future>, cx: &mut Context<'_>) -> bool {
        let peeked = self.stream.poll_peek(cx, &mut ReadBuf::new(&mut [0]));
        let half_closed = matches!(peeked, Poll::Ready(Ok(0)));
        self.activity.record(|seen| seen.half_closed = half_closed);
        match peeked {
            Poll::Pending => false,
            Poll::Ready(Err(_)) => true,
            Poll::Ready(Ok(_)) => reset.poll(cx).is_ready(),
        }
    }

    /// Looks at the deadlines when the alarm rings, and sets it for the next look.
    fn look_when_due(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Due>> {
        let seen = self.activity.seen();
        if self.at_rest.is_some_and(|at_rest| at_rest != seen) {
            self.at_rest = None;
            self.alarm
                .set_no_later_than(Instant::now() + self.deadlines.tick());
        }
        while self.alarm.rings(cx) {
            let now = Instant::now();
            let unsent = || sys::unsent(self.stream).unwrap_or(0);
            let seen = self.activity.take();
            match self.deadlines.look(seen, now, unsent) {
                Ok(next) => self.alarm.set(next),
                Err(due) => return Poll::Ready(Err(due)),
            }
            self.at_rest = (!seen.has_moved()).then_some(self.activity.seen());
        }
        Poll::Pending
    }
}
