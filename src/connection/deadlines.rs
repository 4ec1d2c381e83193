//! The deadlines of a connection that hyper serves: which of them run, and when the next one is due.
//!
//! Pure: there is no socket, no task and no clock here. The driver looks at the connection once in a tick
//! while something happens on it, and when a deadline is due, and passes in what it has seen.

use std::time::Duration;

use tokio::time::Instant;

use super::activity::{Phase, Seen};
use crate::limits::Limits;

/// How long a quiet connection keeps its buffers, at least, and twice that at most: long enough that
/// a client which sends one request after the other never waits for new ones.
const KEEP_BUFFERS: Duration = Duration::from_millis(20);

/// How long a request runs on after its client has closed its side of the connection.
const ABANDON_AFTER: Duration = Duration::from_secs(1);

/// How long a connection may stay as it is, for each reason to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    head: Duration,
    body: Duration,
    write: Duration,
    quiet: Duration,
}

/// A deadline that has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// The head of a request is not whole.
    Head,
    /// The service waits for the body of its request, and not one byte of it came.
    Body,
    /// The peer takes nothing of its answer.
    Write,
    /// The client has closed its side and the service has still not answered.
    Abandon,
    /// There has been nothing to do since then.
    Quiet(Instant),
}

#[derive(Debug)]
pub(super) struct Deadlines {
    timeouts: Timeouts,
    head: Option<Instant>,
    body: Option<Instant>,
    /// When the peer has to have taken something, and the bytes that it had not taken before.
    write: Option<(Instant, u32)>,
    abandon: Option<Instant>,
    quiet_since: Option<Instant>,
}

impl Timeouts {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            head: limits.header_timeout,
            body: limits.read_timeout,
            write: limits.write_timeout,
            quiet: KEEP_BUFFERS.min(limits.idle_timeout),
        }
    }

    /// The longest time between two looks at a connection on which something happens. A deadline
    /// that begins between two looks is seen at the second, before it can have passed.
    pub(super) fn tick(&self) -> Duration {
        self.quiet.min(self.head).min(self.body).min(self.write)
    }
}

impl Deadlines {
    /// `head` is the deadline of the head that is awaited, if it runs already.
    pub(super) fn new(timeouts: Timeouts, head: Option<Instant>) -> Self {
        Self {
            timeouts,
            head,
            body: None,
            write: None,
            abandon: None,
            quiet_since: None,
        }
    }

    /// See [`Timeouts::tick`].
    pub(super) fn tick(&self) -> Duration {
        self.timeouts.tick()
    }

    /// Takes note of what was `seen` since the last look. Returns the time of the next look, or `None` if
    /// no deadline runs until something happens.
    ///
    /// `unsent` returns the bytes that the peer's kernel has not taken. It is called once for each write
    /// that finds no room, and at its deadline.
    pub(super) fn look(
        &mut self,
        seen: Seen,
        now: Instant,
        unsent: impl Fn() -> u32,
    ) -> Result<Option<Instant>, Due> {
        // A movement ends the deadline that waited for it.
        if seen.called {
            (self.head, self.quiet_since) = (None, None);
        }
        if seen.read {
            (self.body, self.abandon, self.quiet_since) = (None, None, None);
        }
        if seen.wrote {
            (self.write, self.abandon) = (None, None);
        }
        let Timeouts {
            head,
            body,
            write,
            quiet,
        } = self.timeouts;
        keep_while(&mut self.head, seen.phase == Phase::Head, || now + head);
        keep_while(&mut self.body, seen.awaiting_body, || now + body);
        keep_while(&mut self.write, seen.blocked, || (now + write, unsent()));
        let is_gone = seen.half_closed && seen.awaits_service();
        keep_while(&mut self.abandon, is_gone, || now + ABANDON_AFTER);
        keep_while(&mut self.quiet_since, seen.phase == Phase::Quiet, || now);

        if let Some((_, before)) = self.write.filter(|(at, _)| *at <= now) {
            let left = unsent();
            if left == before {
                return Err(Due::Write);
            }
            // There is no room for more, but the peer takes what it was sent.
            self.write = Some((now + write, left));
        }
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        if has_passed(self.head) {
            return Err(Due::Head);
        }
        if has_passed(self.body) {
            return Err(Due::Body);
        }
        if has_passed(self.abandon) {
            return Err(Due::Abandon);
        }
        let quiet_until = self.quiet_since.map(|since| since + quiet);
        if let Some(since) = self.quiet_since.filter(|_| has_passed(quiet_until)) {
            return Err(Due::Quiet(since));
        }
        let next_tick = seen.has_moved().then(|| now + self.timeouts.tick());
        let write = self.write.map(|(at, _)| at);
        let running = [
            next_tick,
            self.head,
            self.body,
            write,
            self.abandon,
            quiet_until,
        ];
        Ok(running.into_iter().flatten().min())
    }
}

/// Starts a deadline when there is a reason for it, keeps it for as long as there is, and ends it.
fn keep_while<T>(deadline: &mut Option<T>, reason: bool, start: impl FnOnce() -> T) {
    if reason {
        deadline.get_or_insert_with(start);
    } else {
        *deadline = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A connection on which nothing was seen but its phase.
    fn seen(phase: Phase) -> Seen {
        Seen {
            phase,
            ..Seen::default()
        }
    }

    fn deadlines(head: Option<Instant>) -> Deadlines {
        Deadlines::new(Timeouts::new(&Limits::default()), head)
    }

    fn took_nothing() -> u32 {
        100
    }

    #[test]
    fn a_dripping_head_keeps_its_first_deadline() {
        let start = Instant::now();
        let mut deadlines = deadlines(None);
        let mut head = seen(Phase::Head);
        head.read = true;
        for elapsed in [0, 1_000, 2_000, 4_999] {
            let look = deadlines.look(head, start + elapsed * MS, took_nothing);
            assert!(look.is_ok(), "{elapsed}: {look:?}");
        }
        let look = deadlines.look(head, start + 5_000 * MS, took_nothing);
        assert_eq!(look, Err(Due::Head));
    }

    #[test]
    fn the_first_head_has_its_time_from_accept_on() {
        let start = Instant::now();
        let mut deadlines = deadlines(Some(start + 7 * MS));
        let head = seen(Phase::Head);
        let next = deadlines.look(head, start, took_nothing);
        assert_eq!(next, Ok(Some(start + 7 * MS)));
        let due = deadlines.look(head, start + 7 * MS, took_nothing);
        assert_eq!(due, Err(Due::Head));
    }

    #[test]
    fn a_request_between_two_looks_gives_the_next_head_its_own_time() {
        let start = Instant::now();
        let mut deadlines = deadlines(Some(start + 10 * MS));
        let mut head = seen(Phase::Head);
        (head.read, head.called) = (true, true);
        let look = deadlines.look(head, start + 20 * MS, took_nothing);
        assert!(look.is_ok(), "{look:?}");
    }

    #[test]
    fn a_handler_that_waits_has_no_deadline_and_is_not_looked_at() {
        let start = Instant::now();
        let mut deadlines = deadlines(Some(start));
        let mut answering = seen(Phase::Answering);
        answering.called = true;
        let tick = Timeouts::new(&Limits::default()).tick();
        let first = deadlines.look(answering, start, took_nothing);
        assert_eq!(first, Ok(Some(start + tick)));
        let later = start + 24 * 3_600_000 * MS;
        let look = deadlines.look(seen(Phase::Answering), later, took_nothing);
        assert_eq!(look, Ok(None));
    }

    #[test]
    fn a_body_is_awaited_from_its_last_byte_on() {
        let start = Instant::now();
        let mut deadlines = deadlines(None);
        let mut awaiting = seen(Phase::Answering);
        awaiting.awaiting_body = true;
        assert!(deadlines.look(awaiting, start, took_nothing).is_ok());
        awaiting.read = true;
        let moved = start + 9_999 * MS;
        assert!(deadlines.look(awaiting, moved, took_nothing).is_ok());
        awaiting.read = false;
        let late = deadlines.look(awaiting, moved + 9_999 * MS, took_nothing);
        assert_eq!(late, Ok(Some(moved + 10_000 * MS)));
        let due = deadlines.look(awaiting, moved + 10_000 * MS, took_nothing);
        assert_eq!(due, Err(Due::Body));
    }

    #[test]
    fn a_peer_that_takes_something_is_given_more_time_although_there_is_no_room() {
        let start = Instant::now();
        let mut deadlines = deadlines(None);
        let mut blocked = seen(Phase::Writing);
        blocked.blocked = true;
        let timeout = 30_000 * MS;
        assert_eq!(
            deadlines.look(blocked, start, || 100),
            Ok(Some(start + timeout))
        );
        let first = start + timeout;
        let took_some = deadlines.look(blocked, first, || 99);
        assert_eq!(took_some, Ok(Some(first + timeout)));
        let second = first + timeout;
        assert_eq!(deadlines.look(blocked, second, || 99), Err(Due::Write));
    }

    #[test]
    fn a_peer_is_given_more_time_after_a_write_that_finds_room() {
        let start = Instant::now();
        let mut deadlines = deadlines(None);
        let mut blocked = seen(Phase::Writing);
        blocked.blocked = true;
        assert!(deadlines.look(blocked, start, took_nothing).is_ok());
        blocked.wrote = true;
        let late = start + 30_000 * MS;
        let look = deadlines.look(blocked, late, took_nothing);
        assert!(look.is_ok(), "{look:?}");
    }

    #[test]
    fn a_request_is_abandoned_a_second_after_the_end_of_the_stream() {
        let start = Instant::now();
        let mut deadlines = deadlines(None);
        let mut half_closed = seen(Phase::Answering);
        half_closed.half_closed = true;
        let next = deadlines.look(half_closed, start, took_nothing);
        assert_eq!(next, Ok(Some(start + 1_000 * MS)));
        // A frame of the answer, or of the body, gives the service more time.
        for moves in [
            |seen: &mut Seen| seen.wrote = true,
            |seen: &mut Seen| seen.read = true,
        ] {
            let mut moved = half_closed;
            moves(&mut moved);
            let look = deadlines.look(moved, start + 1_000 * MS, took_nothing);
            assert!(look.is_ok(), "{look:?}");
        }
        let due = deadlines.look(half_closed, start + 2_000 * MS, took_nothing);
        assert_eq!(due, Err(Due::Abandon));
    }

    #[test]
    fn the_end_of_the_stream_abandons_nothing_while_the_peer_is_what_is_waited_for() {
        let start = Instant::now();
        let late = start + 5_000 * MS;
        let waits_for_peer: [fn(&mut Seen); 2] =
            [|seen| seen.blocked = true, |seen| seen.awaiting_body = true];
        for wait in waits_for_peer {
            let mut deadlines = deadlines(None);
            let mut half_closed = seen(Phase::Answering);
            half_closed.half_closed = true;
            wait(&mut half_closed);
            assert!(deadlines.look(half_closed, start, took_nothing).is_ok());
            assert!(deadlines.look(half_closed, late, took_nothing).is_ok());
        }
    }

    #[test]
    fn a_quiet_connection_gives_its_buffers_back_after_two_looks() {
        let start = Instant::now();
        let mut deadlines = deadlines(None);
        let quiet = seen(Phase::Quiet);
        let first = deadlines.look(quiet, start, took_nothing);
        assert_eq!(first, Ok(Some(start + KEEP_BUFFERS)));
        let mut busy = quiet;
        busy.read = true;
        let again = start + KEEP_BUFFERS;
        assert!(deadlines.look(busy, again, took_nothing).is_ok());
        let due = deadlines.look(quiet, again + KEEP_BUFFERS, took_nothing);
        assert_eq!(due, Err(Due::Quiet(again)));
    }

    #[test]
    fn a_tick_is_no_longer_than_the_shortest_timeout() {
        let limits = Limits {
            header_timeout: 3 * MS,
            read_timeout: 5 * MS,
            write_timeout: 7 * MS,
            idle_timeout: 9 * MS,
            ..Limits::default()
        };
        assert_eq!(Timeouts::new(&limits).tick(), 3 * MS);
        assert_eq!(Timeouts::new(&Limits::default()).tick(), KEEP_BUFFERS);
    }
}
