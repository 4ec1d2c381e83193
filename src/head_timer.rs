//! Finds out whether hyper waits for the head of a request, which only its timer can see.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

thread_local! {
    static WAS_POLLED: Cell<bool> = const { Cell::new(false) };
}

/// A timer for hyper's `header_read_timeout` that never rings. hyper polls it when all that it can do is
/// wait for a head, or for the rest of one.
pub(crate) struct HeadTimer {
    /// Read once, because a read of the clock for each request would be a waste.
    now: Instant,
}

/// Of size zero, so that boxing it allocates nothing.
struct Never;

impl HeadTimer {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::now(),
        }
    }

    /// Whether hyper has waited for a head on this thread since the last call.
    pub(crate) fn take_was_polled() -> bool {
        WAS_POLLED.take()
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Never)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Never)
    }

    fn now(&self) -> Instant {
        self.now
    }
}

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        WAS_POLLED.set(true);
        Poll::Pending
    }
}

impl Sleep for Never {}
