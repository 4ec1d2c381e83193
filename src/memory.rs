//! Gives memory back to the kernel when a burst of connections is over.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How many times connections free memory before it is worth looking for. A connection frees about 10 KB
/// when it turns quiet, and 1 KB when it ends.
const WORTH_A_LOOK: usize = 64;

/// How long to wait before the look: a burst is over by then, and a server that is always busy does not look
/// all the time.
const DELAY: Duration = Duration::from_secs(1);

/// Counts how often connections have freed memory since the last look.
#[derive(Default)]
pub(crate) struct Freed {
    count: AtomicUsize,
    is_worth_a_look: Notify,
}

impl Freed {
    /// Notes that a connection has given its buffers back, or ends.
    pub(crate) fn note(&self) {
        // Exactly one call between two looks reaches this count.
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == WORTH_A_LOOK {
            self.is_worth_a_look.notify_one();
        }
    }

    /// Waits for `event`, and until then gives memory back whenever that is worth it.
    pub(crate) async fn give_back_until(&self, event: impl Future<Output = ()>) {
        let mut event = pin!(event);
        let mut give_back = pin!(self.give_back());
        poll_fn(|cx| {
            let Poll::Pending = give_back.as_mut().poll(cx);
            event.as_mut().poll(cx)
        })
        .await;
    }

    async fn give_back(&self) -> Infallible {
        loop {
            self.is_worth_a_look.notified().await;
            sleep(DELAY).await;
            self.count.store(0, Ordering::Relaxed);
            malloc::trim();
        }
    }
}
