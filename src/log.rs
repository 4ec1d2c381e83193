//! Log lines on stderr, each in one write.
//!
//! A pipe that nobody reads fills up, and must not stop a server that others depend on. So lines go
//! through a bounded queue to a thread of their own, which the first of them starts. Only the lines of a
//! good start are written at once ([`info_now`]), so that they cost no thread.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that may wait for the pipe; more are dropped and counted.
const MAX_LINES: usize = 1_024;
/// How long the exit of the process may wait for the pipe to take what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static LEVEL: AtomicU8 = AtomicU8::new(Level::Off as u8);
static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    lines: VecDeque::new(),
    dropped: 0,
    writer: None,
});
/// Notified when the writer has become idle, and when there is a line for it again.
static CHANGED: Condvar = Condvar::new();

/// The lines that wait for the pipe.
struct Queue {
    lines: VecDeque<String>,
    /// Lines dropped since this was last logged.
    dropped: usize,
    /// Started by the first line.
    writer: Option<Writer>,
}

/// The thread that writes the queue.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Writer {
    /// It could not be started.
    Missing,
    /// It waits for a line.
    Idle,
    /// It writes.
    Busy,
}

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off,
    /// What keeps the server from doing its work.
    Error,
    /// What an operator should look at.
    Warn,
    /// Start, ready, signal, end.
    Info,
    /// Each request, and each connection that did not end as it should.
    Debug,
}

impl Level {
    /// The level that `RUST_LOG` names, in any case; `trace` is [`Level::Debug`].
    pub fn parse(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"off" => Self::Off,
            b"error" => Self::Error,
            b"warn" => Self::Warn,
            b"info" => Self::Info,
            b"debug" | b"trace" => Self::Debug,
            _ => return None,
        })
    }
}

/// Sets the level. Until then nothing is logged, which is what tests of the library want.
pub fn init(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether lines of `level` are written.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Logs what keeps the server from doing its work.
pub fn error(message: fmt::Arguments<'_>) {
    log(Level::Error, format_args!("error: {message}"));
}

/// Logs what an operator should look at.
pub fn warn(message: fmt::Arguments<'_>) {
    log(Level::Warn, format_args!("warning: {message}"));
}

/// Logs a step of the start at once, on this thread.
pub fn info_now(message: fmt::Arguments<'_>) {
    if enabled(Level::Info) {
        write(&format!("{message}\n"));
    }
}

/// Logs a later step of the server's life.
pub fn info(message: fmt::Arguments<'_>) {
    log(Level::Info, message);
}

/// Logs one request, or why a connection ended.
pub fn debug(message: fmt::Arguments<'_>) {
    log(Level::Debug, message);
}

/// Waits until the queue is written, or for half a second if nobody reads it.
pub fn flush() {
    let is_busy = |queue: &mut Queue| queue.writer == Some(Writer::Busy);
    // In either case the process goes on to its exit.
    let _ = CHANGED.wait_timeout_while(queue(), FLUSH_TIMEOUT, is_busy);
}

fn log(level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let line = format!("{message}\n");
    let mut queue = queue();
    match *queue.writer.get_or_insert_with(start_writer) {
        Writer::Missing => {
            drop(queue);
            write(&line);
            return;
        }
        Writer::Idle => {
            queue.writer = Some(Writer::Busy);
            CHANGED.notify_all();
        }
        Writer::Busy => {}
    }
    if queue.lines.len() < MAX_LINES {
        queue.lines.push_back(line);
    } else {
        queue.dropped += 1;
    }
}

fn start_writer() -> Writer {
    let thread = thread::Builder::new().name("log".into()).spawn(write_queue);
    thread.map_or(Writer::Missing, |_| Writer::Busy)
}

fn write_queue() {
    let mut locked = queue();
    loop {
        while let Some(line) = locked.lines.pop_front() {
            let dropped = mem::take(&mut locked.dropped);
            drop(locked);
            write(&line);
            if dropped > 0 {
                write(&format!("warning: {dropped} log lines dropped\n"));
            }
            locked = queue();
        }
        locked.writer = Some(Writer::Idle);
        CHANGED.notify_all();
        let is_idle = |queue: &mut Queue| queue.writer == Some(Writer::Idle);
        locked = CHANGED
            .wait_while(locked, is_idle)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn queue() -> MutexGuard<'static, Queue> {
    // Every critical section leaves it whole.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(line: &str) {
    // There is nowhere left to report to when stderr is gone.
    let _ = io::stderr().write_all(line.as_bytes());
}
