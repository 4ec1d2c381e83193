//! What hyper does with a connection, recorded at its reads, writes and service calls; and the two verdicts
//! that these have to know: that a body is late, and that an answer is broken off.

use std::cell::Cell;

/// Where a connection stands with the request that it carries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Phase {
    #[default]
    /// hyper waits for a head, or for the rest of one.
    Head,
    /// The service has a request and has not given its whole answer.
    Answering,
    /// hyper has the whole answer. The next write or flush is its last part.
    Answered,
    /// hyper writes the rest of the answer.
    Writing,
    /// All is written, and nothing was read since. hyper may hold half of a pipelined head, and hands it
    /// over when its buffers are given back.
    Quiet,
    /// All is written, but the service still reads the body of the request.
    Receiving,
}

/// What a look at the connection finds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    pub(super) phase: Phase,
    /// The last write found no room.
    pub(super) blocked: bool,
    /// hyper wants more of a request's body, and there was none.
    pub(super) awaiting_body: bool,
    /// The peer has closed its side, and all that it sent was read.
    pub(super) half_closed: bool,
    /// Bytes were read since the last look.
    pub(super) read: bool,
    /// Bytes were written since the last look.
    pub(super) wrote: bool,
    /// The service was given a request since the last look.
    pub(super) called: bool,
    /// The last request came with a body, which its service may not have read.
    pub(super) had_body: bool,
    /// The last request or its answer said that the connection closes after it.
    pub(super) says_close: bool,
    /// The last request was in HTTP/1.0, where the end of the stream may be the end of the answer.
    pub(super) is_http_1_0: bool,
    /// The body of the request took too long: the next read of it fails.
    pub(super) body_timed_out: bool,
    /// The answer will not be completed, because the connection ends.
    pub(super) is_broken_off: bool,
}

/// Shared by hyper's I/O, the bodies of the answers and the driver of one connection.
#[derive(Default)]
pub(super) struct Activity(Cell<Seen>);

impl Activity {
    pub(super) fn seen(&self) -> Seen {
        self.0.get()
    }

    pub(super) fn record(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.0.get();
        change(&mut seen);
        self.0.set(seen);
    }

    /// Returns what there is to see, and clears the fields that say "since the last look".
    pub(super) fn take(&self) -> Seen {
        let seen = self.0.get();
        self.record(|seen| (seen.read, seen.wrote, seen.called) = (false, false, false));
        seen
    }
}

impl Seen {
    /// Whether a request is being answered: its answer would be incomplete if the connection ended.
    pub(super) fn is_mid_answer(&self) -> bool {
        matches!(
            self.phase,
            Phase::Answering | Phase::Answered | Phase::Writing
        )
    }

    /// Whether all that hyper can want to read is the body of a request.
    pub(super) fn reads_body(&self) -> bool {
        matches!(self.phase, Phase::Answering | Phase::Receiving)
    }

    /// Whether the service is what the connection waits for, and not its peer.
    pub(super) fn awaits_service(&self) -> bool {
        self.phase == Phase::Answering && !self.blocked && !self.awaiting_body
    }

    /// Whether anything happened since the last look.
    pub(super) fn has_moved(&self) -> bool {
        self.read || self.wrote || self.called
    }
}
