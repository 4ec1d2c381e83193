//! Log lines on stderr, each in one write.
//!
//! A pipe that nobody reads fills up, and must not stop a server that others depend on. So what is
//! logged once it serves goes through a bounded queue to a thread of its own, which the first such
//! line starts; the lines before that are written where they arise, and cost no thread.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait for the pipe; more are dropped and counted.
const QUEUE: usize = 1_024;
/// How long the exit of the process may wait for the pipe to take what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static LEVEL: AtomicU8 = AtomicU8::new(Level::Off as u8);
static WRITER: OnceLock<Option<SyncSender<Message>>> = OnceLock::new();
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off,
    /// What stops the server.
    Error,
    /// What an operator should look at.
    Warn,
    /// Start, ready, signal, end.
    Info,
    /// A line a request.
    Debug,
}

enum Message {
    Line(String),
    Flush(SyncSender<()>),
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

/// Logs what stops the server.
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

/// Logs one request.
pub fn debug(message: fmt::Arguments<'_>) {
    log(Level::Debug, message);
}

/// Waits until the queue is written, or for half a second if nobody reads it.
pub fn flush() {
    let Some(Some(writer)) = WRITER.get() else {
        return;
    };
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    let (done, flushed) = sync_channel(1);
    let mut message = Message::Flush(done);
    while let Err(TrySendError::Full(back)) = writer.try_send(message) {
        if Instant::now() >= deadline {
            return;
        }
        message = back;
        thread::sleep(Duration::from_millis(1));
    }
    let _ = flushed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
}

fn log(level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let line = format!("{message}\n");
    match WRITER.get_or_init(start_writer) {
        Some(writer) => {
            if writer.try_send(Message::Line(line)).is_err() {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        None => write(&line),
    }
}

fn start_writer() -> Option<SyncSender<Message>> {
    let (sender, receiver) = sync_channel(QUEUE);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_queue(&receiver))
        .is_ok()
        .then_some(sender)
}

fn write_queue(queue: &Receiver<Message>) {
    for message in queue {
        if let Message::Line(line) = &message {
            write(line);
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            write(&format!("warning: {dropped} log lines dropped\n"));
        }
        if let Message::Flush(done) = message {
            let _ = done.try_send(());
        }
    }
}

fn write(line: &str) {
    // There is nowhere left to report to when stderr is gone.
    let _ = io::stderr().write_all(line.as_bytes());
}
