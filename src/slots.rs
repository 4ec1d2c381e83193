//! Connection slots: there are `MAX_CONNECTIONS` of them, and when they run out the connection
//! that has been idle longest makes room, so that nobody can lock others out by doing nothing.

use std::pin::pin;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;

pub(crate) struct Slots {
    max: usize,
    /// Accepts and answers so far. For an order a count will do, and no clock is read.
    turns: AtomicU64,
    occupied: Mutex<Occupied>,
    /// Something changed that an acceptor at the cap, or the drain, may be waiting for.
    changed: Notify,
    /// Acceptors that wait for room. Only then is a connection that turns idle worth a wake-up.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Occupied {
    entries: Vec<Arc<Entry>>,
    /// How many of them have been asked to leave and have not answered.
    asked: usize,
    /// Who was idle at the last look and since which turn, longest last. An entry whose turn has not
    /// changed is still idle longer than any that is not listed: those turned idle later. So one
    /// look at all connections serves as many requests for room as it found idle ones.
    longest_idle: Vec<(u64, Arc<Entry>)>,
}

/// One connection, as those who look for room see it.
pub(crate) struct Entry {
    index: AtomicUsize,
    /// When it was accepted or last answered, of [`Slots::turns`].
    turn: AtomicU64,
    idle: AtomicBool,
    asked: AtomicBool,
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

    /// Takes a slot, when there is one: where all are taken, the connection that is idle longest
    /// is asked to leave, and where none is idle this waits. When `above_cap` says so, it takes one
    /// more.
    pub(crate) async fn reserve(self: &Arc<Self>, above_cap: impl Fn() -> bool) -> Slot {
        if let Some(slot) = self.try_reserve(above_cap()) {
            return slot;
        }
        self.waiting.fetch_add(1, SeqCst);
        let slot = until(&self.changed, || self.try_reserve(above_cap())).await;
        self.waiting.fetch_sub(1, SeqCst);
        slot
    }

    /// Waits until `check` holds, which it may do after any change of a slot.
    pub(crate) async fn until(&self, check: impl Fn() -> bool) {
        until(&self.changed, || check().then_some(())).await;
    }

    /// Makes every connection, and all who wait for a change, look at the server again.
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
            if open - occupied.asked >= self.max {
                occupied.ask_longest_idle();
            }
            return None;
        }
        let entry = Arc::new(Entry {
            index: AtomicUsize::new(open),
            turn: AtomicU64::new(self.next_turn()),
            idle: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        occupied.entries.push(entry.clone());
        Some(Slot {
            entry,
            slots: self.clone(),
        })
    }

    /// To be called before an answer is out, after which the client may rely on it: of all idle
    /// connections this one will be the last to make room.
    pub(crate) fn touch(&self, entry: &Entry) {
        entry.turn.store(self.next_turn(), Relaxed);
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
    fn ask_longest_idle(&mut self) {
        let mut looked = false;
        loop {
            while let Some((turn, entry)) = self.longest_idle.pop() {
                if entry.idle_since() == Some(turn) && !entry.asked.swap(true, SeqCst) {
                    self.asked += 1;
                    entry.wake();
                    return;
                }
            }
            if looked {
                return;
            }
            looked = true;
            let idle = self
                .entries
                .iter()
                .filter_map(|entry| Some((entry.idle_since()?, entry.clone())));
            self.longest_idle.extend(idle);
            self.longest_idle
                .sort_unstable_by_key(|(turn, _)| std::cmp::Reverse(*turn));
        }
    }
}

impl Entry {
    /// The connection has something to do. Who does not see it yet asks it to leave, and is told that
    /// it stays.
    pub(crate) fn set_busy(&self) {
        self.idle.store(false, Release);
    }

    /// The connection has nothing to do once its answer is out, and may be asked to leave.
    pub(crate) fn set_idle(&self) {
        self.idle.store(true, Release);
    }

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
    /// Has the connection's task woken when it should look at [`Slot::asked`] or at the state of
    /// the server; to be called from that task before it looks.
    pub(crate) fn register(&self, waker: &Waker) {
        // The waker of a spawned task never changes.
        self.entry.waker.get_or_init(|| waker.clone());
    }

    /// The connection has nothing to do, which somebody may be waiting for.
    pub(crate) fn set_idle(&self) {
        // In one order with the look at who waits, or each could miss the other.
        self.entry.idle.store(true, SeqCst);
        if self.slots.waiting.load(SeqCst) > 0 {
            self.slots.changed.notify_waiters();
        }
    }

    /// What is left of the slot for those who only mark it.
    pub(crate) fn entry(&self) -> Arc<Entry> {
        self.entry.clone()
    }

    /// Whether somebody needs the slot.
    pub(crate) fn asked(&self) -> bool {
        self.entry.asked.load(SeqCst)
    }

    /// Answers a request to leave with no: a request came in just then.
    pub(crate) fn stay(&self) {
        self.entry.set_busy();
        let mut occupied = self.slots.occupied();
        if self.entry.asked.swap(false, SeqCst) {
            occupied.asked -= 1;
            self.slots.changed.notify_waiters();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.entry.set_busy();
        let mut occupied = self.slots.occupied();
        let index = self.entry.index.load(SeqCst);
        occupied.entries.swap_remove(index);
        if let Some(moved) = occupied.entries.get(index) {
            moved.index.store(index, SeqCst);
        }
        if self.entry.asked.load(SeqCst) {
            occupied.asked -= 1;
        }
        drop(occupied);
        self.slots.changed.notify_waiters();
    }
}

/// Waits until `check` gives a value; it is asked again after every notification of `changed`.
pub(crate) async fn until<T>(changed: &Notify, mut check: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut notified = pin!(changed.notified());
        // Before the check, or a change between the two would be missed.
        notified.as_mut().enable();
        if let Some(value) = check() {
            return value;
        }
        notified.await;
    }
}
