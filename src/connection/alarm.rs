//! The one timer of a connection.

use std::pin::Pin;
use std::task::Context;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set rarely, never for each request, and that costs nothing meanwhile.
pub(super) struct Alarm {
    timer: Pin<Box<Sleep>>,
    /// False while no deadline runs.
    is_set: bool,
    /// The timer knows the task to wake. Telling it again would take four atomic operations.
    is_registered: bool,
}

impl Alarm {
    pub(super) fn new(at: Instant) -> Self {
        Self {
            timer: Box::pin(sleep_until(at)),
            is_set: true,
            is_registered: false,
        }
    }

    /// Sets the alarm; with no time, it does not ring.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        self.is_set = at.is_some();
        if let Some(at) = at {
            self.timer.as_mut().reset(at);
            self.is_registered = false;
        }
    }

    /// Sets the alarm to `at`, unless it rings earlier. If that makes it the earliest timer of the event
    /// loop, the event loop is woken.
    pub(super) fn set_no_later_than(&mut self, at: Instant) {
        if !self.is_set || self.timer.deadline() > at {
            self.set(Some(at));
        }
    }

    /// Whether the alarm rings. It goes on ringing until it is set anew.
    pub(super) fn rings(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_set || self.is_registered && !self.timer.is_elapsed() {
            return false;
        }
        self.is_registered = true;
        // A timer reports nothing to a task whose cooperative budget is spent.
        Pin::new(&mut unconstrained(self.timer.as_mut()))
            .poll(cx)
            .is_ready()
    }
}
