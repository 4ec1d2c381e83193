//! Connection slots: there are `MAX_CONNECTIONS` of them, and when they run out the connection that
//! has been idle longest is evicted, so that no client can lock others out by doing nothing.
//!
//! A slot is busy or idle. An acceptor that needs room requests an eviction of an idle one; the
//! connection then ends, or declines because a request has just arrived.

use std::cmp::Reverse;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use tokio::sync::Notify;

use crate::lifecycle::until;

pub(crate) struct Slots {
    max: usize,
    /// Counts accepts and answers. It gives idle connections their order without a clock.
    turns: AtomicU64,
    occupied: Mutex<Occupied>,
    /// Notified when an acceptor that waits for room may find some.
    changed: Notify,
    /// Acceptors that wait for room. Only then is a connection that turns idle worth a wake-up.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Occupied {
    entries: Vec<Arc<Entry>>,
    /// Evictions that were requested and neither declined nor carried out.
    evictions: usize,
    /// A snapshot of the idle connections, least recently used last. An entry whose turn is
    /// unchanged still precedes every connection that is not in the snapshot, since those became
    /// idle later. One scan can therefore serve as many evictions as it found entries.
    snapshot: Vec<(u64, Weak<Entry>)>,
}

/// One connection, as acceptors see it.
struct Entry {
    index: AtomicUsize,
    /// The turn in which the connection was accepted or last answered.
    turn: AtomicU64,
    idle: AtomicBool,
    eviction_requested: AtomicBool,
    waker: OnceLock<Waker>,
}

/// The right to have a connection open, given back on drop.
pub(crate) struct Slot {
    entry: Arc<Entry>,
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            turns: AtomicU64::new(0),
            occupied: Mutex::default(),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Takes a slot, or waits for one: where all are taken, the eviction of the connection that has
    /// been idle longest is requested. Where `above_cap` is true, no limit holds.
    pub(crate) async fn reserve(self: &Arc<Self>, above_cap: impl Fn() -> bool) -> Slot {
        if let Some(slot) = self.try_reserve(above_cap()) {
            return slot;
        }
        self.waiting.fetch_add(1, SeqCst);
        let slot = until(&self.changed, || self.try_reserve(above_cap())).await;
        self.waiting.fetch_sub(1, SeqCst);
        slot
    }

    /// Requests the eviction of the connection that has been idle longest, unless one is under way,
    /// and waits until a slot has become free. False where no connection is idle.
    pub(crate) async fn evict_one(&self) -> bool {
        let open = {
            let mut occupied = self.occupied();
            if occupied.evictions == 0 {
                occupied.request_eviction();
            }
            if occupied.evictions == 0 {
                return false;
            }
            occupied.entries.len()
        };
        let is_over = || {
            let occupied = self.occupied();
            (occupied.entries.len() < open || occupied.evictions == 0).then_some(())
        };
        until(&self.changed, is_over).await;
        true
    }

    /// Makes every connection, and every acceptor that waits for room, look at the server's stage again.
    pub(crate) fn wake_all(&self) {
        self.changed.notify_waiters();
        for entry in &self.occupied().entries {
            entry.wake();
        }
    }

    /// The number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.occupied().entries.len()
    }

    fn try_reserve(self: &Arc<Self>, above_cap: bool) -> Option<Slot> {
        let mut occupied = self.occupied();
        let open = occupied.entries.len();
        if open >= self.max && !above_cap {
            if open - occupied.evictions >= self.max {
                occupied.request_eviction();
            }
            return None;
        }
        let entry = Arc::new(Entry {
            index: AtomicUsize::new(open),
            turn: AtomicU64::new(self.next_turn()),
            idle: AtomicBool::new(false),
            eviction_requested: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        occupied.entries.push(entry.clone());
        Some(Slot {
            entry,
            slots: self.clone(),
        })
    }

    fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Relaxed)
    }

    fn occupied(&self) -> MutexGuard<'_, Occupied> {
        // Every critical section leaves the lists whole.
        self.occupied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupied {
    fn request_eviction(&mut self) {
        if !self.evict_from_snapshot() {
            let idle = self
                .entries
                .iter()
                .filter_map(|entry| Some((entry.idle_since()?, Arc::downgrade(entry))));
            self.snapshot.extend(idle);
            self.snapshot
                .sort_unstable_by_key(|(turn, _)| Reverse(*turn));
            self.evict_from_snapshot();
        }
    }

    fn evict_from_snapshot(&mut self) -> bool {
        while let Some((turn, entry)) = self.snapshot.pop() {
            if let Some(entry) = entry.upgrade()
                && entry.idle_since() == Some(turn)
                && !entry.eviction_requested.swap(true, SeqCst)
            {
                self.evictions += 1;
                entry.wake();
                return true;
            }
        }
        false
    }
}

impl Entry {
    fn idle_since(&self) -> Option<u64> {
        self.idle.load(SeqCst).then(|| self.turn.load(Relaxed))
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

impl Slot {
    /// Registers the connection's task, to be woken when it should look at [`Slot::eviction_requested`] or at
    /// the stage of the server. The task calls this before it looks.
    pub(crate) fn register(&self, waker: &Waker) {
        // The waker of a spawned task never changes.
        self.entry.waker.get_or_init(|| waker.clone());
    }

    /// Marks the connection busy. An acceptor that has not seen this yet may have requested its eviction,
    /// or still do so: that is declined here, or when this is called again.
    pub(crate) fn mark_busy(&self) {
        self.entry.idle.store(false, Release);
        if !self.eviction_requested() {
            return;
        }
        let mut occupied = self.slots.occupied();
        if self.entry.eviction_requested.swap(false, SeqCst) {
            occupied.evictions -= 1;
            self.slots.changed.notify_waiters();
        }
    }

    /// Marks the connection idle as of now: of all idle connections it is the last to be evicted. Called
    /// before the last write of an answer, because from then on the client may rely on it.
    pub(crate) fn mark_answered(&self) {
        self.entry.turn.store(self.slots.next_turn(), Relaxed);
        self.entry.idle.store(true, Release);
    }

    /// Marks the connection idle, and wakes the acceptors that wait for an idle one.
    pub(crate) fn mark_idle(&self) {
        // SeqCst for this and for the count of waiting acceptors, or each side could miss the other's
        // change.
        self.entry.idle.store(true, SeqCst);
        if self.slots.waiting.load(SeqCst) > 0 {
            self.slots.changed.notify_waiters();
        }
    }

    /// Whether the connection was marked idle since it was accepted or last marked busy.
    pub(crate) fn is_idle(&self) -> bool {
        self.entry.idle.load(SeqCst)
    }

    /// Whether an acceptor needs the slot.
    pub(crate) fn eviction_requested(&self) -> bool {
        self.entry.eviction_requested.load(SeqCst)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // An acceptor may still reach the entry through the snapshot. An eviction is not declined: it ends
        // together with the entry, or an acceptor would request another in between.
        self.entry.idle.store(false, Release);
        let mut occupied = self.slots.occupied();
        let index = self.entry.index.load(SeqCst);
        occupied.entries.swap_remove(index);
        if let Some(moved) = occupied.entries.get(index) {
            moved.index.store(index, SeqCst);
        }
        if self.entry.eviction_requested.load(SeqCst) {
            occupied.evictions -= 1;
        }
        drop(occupied);
        self.slots.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    /// Stands in for the task behind a waker: its reference count shows how many wakers there are.
    struct NoTask;

    impl Wake for NoTask {
        fn wake(self: Arc<Self>) {}
    }

    fn idle_slots(slots: &Arc<Slots>, count: usize) -> Vec<Slot> {
        let taken: Vec<_> = (0..count)
            .map(|_| slots.try_reserve(false).expect("a free slot"))
            .collect();
        taken.iter().for_each(Slot::mark_idle);
        taken
    }

    #[test]
    fn the_connection_that_was_answered_first_is_evicted_first() {
        let slots = Arc::new(Slots::new(3));
        let taken = idle_slots(&slots, 3);
        taken[0].mark_answered();
        assert!(slots.try_reserve(false).is_none());
        let requested: Vec<_> = taken.iter().map(Slot::eviction_requested).collect();
        assert_eq!(requested, [false, true, false]);
        // No other is evicted while the first has not left.
        assert!(slots.try_reserve(false).is_none());
        assert!(!taken[2].eviction_requested());
    }

    #[test]
    fn a_connection_that_turns_busy_declines_and_another_is_evicted() {
        let slots = Arc::new(Slots::new(2));
        let mut taken = idle_slots(&slots, 2);
        assert!(slots.try_reserve(false).is_none());
        taken[0].mark_busy();
        assert!(!taken[0].eviction_requested());
        assert!(slots.try_reserve(false).is_none());
        assert!(taken[1].eviction_requested());
        taken.remove(1);
        assert!(slots.try_reserve(false).is_some());
    }

    #[test]
    fn busy_connections_are_not_evicted_and_the_cap_holds_but_for_the_drain() {
        let slots = Arc::new(Slots::new(1));
        let busy = slots.try_reserve(false).expect("a free slot");
        assert!(slots.try_reserve(false).is_none());
        assert!(!busy.eviction_requested());
        assert!(slots.try_reserve(true).is_some());
    }

    #[test]
    fn the_snapshot_keeps_no_task_of_a_connection_that_is_gone() {
        let slots = Arc::new(Slots::new(3));
        let task = Arc::new(NoTask);
        let taken = idle_slots(&slots, 3);
        for slot in &taken {
            slot.register(&task.clone().into());
        }
        assert!(slots.try_reserve(false).is_none());
        assert_eq!(Arc::strong_count(&task), 4);
        drop(taken);
        assert_eq!(Arc::strong_count(&task), 1);
    }
}
