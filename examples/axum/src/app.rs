//! What the service keeps from one request to the next: reminders, which come due.

use std::collections::HashMap;
use std::env;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scratch_server::log;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::runtime::Handle;
use tokio::sync::{self, broadcast};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the end waits for reminders that are not due yet. Together with `SHUTDOWN_DELAY` and
/// `SHUTDOWN_TIMEOUT` (8 s) this is less than the 10 s after which Docker kills.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Reminders that clients can make the service hold.
const MAX_PENDING: usize = 10_000;

#[derive(Clone, Debug, Serialize)]
pub struct Reminder {
    pub id: u64,
    pub text: String,
}

pub struct App {
    /// The reminders that are not due yet.
    pending: Mutex<HashMap<u64, Reminder>>,
    next_id: AtomicU64,
    /// Sends each reminder that is due to all listeners.
    pub due: broadcast::Sender<Reminder>,
    /// A line for each reminder that was due. What is in its buffer is written at the end.
    journal: sync::Mutex<BufWriter<File>>,
    /// The tasks that wait until a reminder is due.
    tasks: TaskTracker,
    /// The event loop of `main`.
    event_loop: Handle,
    /// Cancelled when the server is told to stop.
    pub stopping: CancellationToken,
}

impl App {
    /// Opens the file that `JOURNAL` names.
    ///
    /// # Errors
    ///
    /// Where it cannot be opened, a line that says so.
    pub async fn open() -> Result<Arc<Self>, String> {
        let path = env::var_os("JOURNAL").unwrap_or_default();
        if path.is_empty() {
            return Err(format!("JOURNAL={path:?}: expected the path of a file"));
        }
        let mut options = File::options();
        let journal = options.create(true).append(true).open(&path).await;
        let journal = journal.map_err(|error| format!("cannot open JOURNAL={path:?}: {error}"))?;
        Ok(Arc::new(Self {
            pending: Mutex::default(),
            next_id: AtomicU64::new(1),
            due: broadcast::channel(64).0,
            journal: sync::Mutex::new(BufWriter::new(journal)),
            tasks: TaskTracker::new(),
            event_loop: Handle::current(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Adds a reminder that is due after `delay`; nothing where there are too many.
    pub fn remind(self: &Arc<Self>, text: String, delay: Duration) -> Option<Reminder> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let reminder = Reminder { id, text };
        let mut pending = self.lock_pending();
        if pending.len() == MAX_PENDING {
            return None;
        }
        pending.insert(id, reminder.clone());
        let app = self.clone();
        let task = async move {
            sleep(delay).await;
            app.come_due(id).await;
        };
        // On the event loop of `main`: a request may be handled on that of a worker, and workers end
        // with `serve`, with every task that was spawned there.
        self.tasks.spawn_on(task, &self.event_loop);
        Some(reminder)
    }

    pub fn pending(&self, id: u64) -> Option<Reminder> {
        self.lock_pending().get(&id).cloned()
    }

    fn lock_pending(&self) -> MutexGuard<'_, HashMap<u64, Reminder>> {
        // No panic can happen while it is locked.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn come_due(&self, id: u64) {
        let reminder = self.lock_pending().remove(&id);
        let reminder = reminder.expect("a reminder comes due once");
        let mut line = serde_json::to_vec(&reminder).expect("a reminder is JSON");
        line.push(b'\n');
        if let Err(error) = self.journal.lock().await.write_all(&line).await {
            log::error(format_args!("cannot write to the journal: {error}"));
        }
        // An error means that nobody listens.
        let _ = self.due.send(reminder);
    }

    /// Turns readiness off and ends the streams of events, because a drain waits for every answer.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits for the tasks, though not for long, and writes what is in the buffer. To be called when no
    /// request is left.
    ///
    /// # Errors
    ///
    /// Those of write(2).
    pub async fn finish(&self) -> io::Result<()> {
        self.tasks.close();
        if timeout(FINISH_TIMEOUT, self.tasks.wait()).await.is_err() {
            let left = self.tasks.len();
            log::warn(format_args!("{left} reminders were not due in time"));
        }
        self.journal.lock().await.flush().await
    }
}
