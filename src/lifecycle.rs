//! The life of the server, and what still runs.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// The stages of the server's life, in order.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    /// The workers are being started; none of them accepts.
    Starting,
    Serving,
    /// The server was told to stop. New connections are still accepted.
    Stopping,
    /// No new connections; those that have nothing to do are closed.
    Draining,
    /// The time for draining is over, or a worker could not start: what still runs is cut off.
    Over,
}

/// Which stage the server has reached, and how many of its parts still run.
pub(crate) struct Lifecycle {
    stage: AtomicU8,
    running: AtomicUsize,
    cut_off: AtomicUsize,
    changed: Notify,
}

/// One part of the server that still runs: an accept loop or a connection. It is counted until it is
/// dropped.
pub(crate) struct Running(Arc<Lifecycle>);

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Starting as u8),
            running: AtomicUsize::new(0),
            cut_off: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// To be called through [`Shared::enter`](crate::shared::Shared::enter), which wakes the connections
    /// as well.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(SeqCst) >= stage as u8
    }

    /// Waits until the server has reached `stage`.
    pub(crate) async fn reached(&self, stage: Stage) {
        until(&self.changed, || self.has_reached(stage).then_some(())).await;
    }

    pub(crate) fn start_running(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, SeqCst);
        Running(self.clone())
    }

    /// Waits until nothing runs any more.
    pub(crate) async fn finished(&self) {
        let is_finished = || self.running.load(SeqCst) == 0;
        until(&self.changed, || is_finished().then_some(())).await;
    }

    /// Waits until nothing runs any more, but no longer than `patience` after the time for draining is
    /// over: what has not ended by then blocks its thread.
    pub(crate) async fn finished_or_over(&self, patience: Duration) {
        let is_over = || self.running.load(SeqCst) == 0 || self.has_reached(Stage::Over);
        until(&self.changed, || is_over().then_some(())).await;
        let _ = timeout(patience, self.finished()).await;
    }

    /// Counts a connection that ended with a request unanswered, because the time was over.
    pub(crate) fn count_cut_off(&self) {
        self.cut_off.fetch_add(1, SeqCst);
    }

    pub(crate) fn cut_off(&self) -> usize {
        self.cut_off.load(SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, SeqCst) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

/// Waits until `check`, which is called again after every notification of `changed`, returns a value.
pub(crate) async fn until<T>(changed: &Notify, mut check: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut notified = pin!(changed.notified());
        // Enabled before the check, or a change between the two would be missed.
        notified.as_mut().enable();
        if let Some(value) = check() {
            return value;
        }
        notified.await;
    }
}
