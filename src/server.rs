//! The accept loop, and the end of the server.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::config::Limits;
use crate::connection;
use crate::listener::{BACKLOG, Listener, Peer};
use crate::log;
use crate::routes;
use crate::slots::{Slots, until};

/// How long to wait after an accept error that is the process's own, such as EMFILE.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// When to compare `MAX_CONNECTIONS` with the limit on descriptors.
const DESCRIPTOR_CHECK: Duration = Duration::from_millis(10);

/// Connections to accept in a row before others get their turn.
const ACCEPT_BATCH: u32 = 64;

/// How the server ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Drained {
    /// Every request was answered.
    Complete,
    /// `SHUTDOWN_TIMEOUT` passed with this many connections still open.
    CutOff(usize),
}

/// What the connections of all workers share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) http1: http1::Builder,
    pub(crate) routes: routes::State,
    pub(crate) slots: Arc<Slots>,
    stage: AtomicU8,
    stage_changed: Notify,
    /// An accept error of the process was logged, and the accept queue not emptied since.
    exhausted: AtomicBool,
    /// Accept loops that still run.
    accepting: AtomicUsize,
}

/// The life of the server, in order.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Stage {
    Serving,
    /// Stopping was asked for; new connections are still accepted.
    Stopping,
    /// No new connections; those that have nothing to do are closed.
    Draining,
    /// The time for draining is over.
    Over,
}

/// A current-thread runtime: the event loop of one worker.
///
/// # Errors
///
/// Those of the system calls that set up epoll.
pub fn event_loop() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Serves `listener` until `shutdown` completes, then drains. The caller's event loop is the first
/// of `workers`.
///
/// # Errors
///
/// When a worker cannot be started.
///
/// # Panics
///
/// Outside of a tokio runtime with its I/O and time drivers.
pub async fn serve(
    listener: Listener,
    limits: Limits,
    workers: NonZeroUsize,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let Limits {
        max_connections,
        shutdown_delay,
        shutdown_timeout,
        ..
    } = limits;
    let shared = Arc::new(Shared::new(limits, workers));
    let others = (1..workers.get()).map(|_| Ok((event_loop()?, listener.try_clone()?)));
    // All of them before the first accepts: connections may take every descriptor that is left.
    for (event_loop, listener) in others.collect::<io::Result<Vec<_>>>()? {
        let shared = shared.clone();
        thread::Builder::new()
            .name("worker".into())
            .spawn(move || event_loop.block_on(async { work(shared, listener.attach()).await }))?;
    }
    tokio::spawn(work(shared.clone(), Ok(listener)));
    log::start(format_args!(
        "Ready: WORKERS={workers}, MAX_CONNECTIONS={max_connections}"
    ));
    tokio::spawn(async move {
        // Later, because proc(5) took 7 % of the processor time until the first response.
        sleep(DESCRIPTOR_CHECK).await;
        warn_of_descriptor_limit(max_connections.get(), workers.get());
    });

    shutdown.await;
    shared.routes.drain();
    shared.enter(Stage::Stopping);
    log::info(format_args!(
        "Shutdown signal received, finishing requests..."
    ));
    if !shutdown_delay.is_zero() {
        sleep(shutdown_delay).await;
    }
    shared.enter(Stage::Draining);
    let emptied = shared.slots.until(|| shared.is_empty());
    Ok(match timeout(shutdown_timeout, emptied).await {
        Ok(()) => Drained::Complete,
        Err(_) => {
            let open = shared.slots.open();
            shared.enter(Stage::Over);
            match open {
                0 => Drained::Complete,
                open => Drained::CutOff(open),
            }
        }
    })
}

impl Shared {
    fn new(limits: Limits, workers: NonZeroUsize) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Deadlines are kept in `connection`, one timer for all of them.
            .header_read_timeout(None)
            // A client may say that it is done and still wait for its answer.
            .half_close(true)
            // The least that hyper allows: the longest head, and what bounds the buffers that a
            // client can make the server hold.
            .max_buf_size(8_192);
        Self {
            slots: Arc::new(Slots::new(limits.max_connections.get())),
            limits,
            http1,
            routes: routes::State::default(),
            stage: AtomicU8::new(Stage::Serving as u8),
            stage_changed: Notify::new(),
            exhausted: AtomicBool::new(false),
            accepting: AtomicUsize::new(workers.get()),
        }
    }

    /// Whether responses should tell clients to go elsewhere.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_in(Stage::Stopping)
    }

    /// Whether a connection with nothing to do should close.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_in(Stage::Draining)
    }

    fn is_in(&self, stage: Stage) -> bool {
        self.stage.load(SeqCst) >= stage as u8
    }

    fn is_empty(&self) -> bool {
        self.accepting.load(SeqCst) == 0 && self.slots.open() == 0
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, SeqCst);
        self.stage_changed.notify_waiters();
        self.slots.wake_all();
    }

    async fn draining(&self) {
        until(&self.stage_changed, || self.is_draining().then_some(())).await;
    }
}

/// Says so when there can be no `max_connections`, which else shows only under load.
fn warn_of_descriptor_limit(max_connections: usize, workers: usize) {
    // Standard streams and signals; epoll twice, waker and listener of each worker.
    let own = 4 + 4 * workers;
    // std has no getrlimit(2), but proc(5) has its answer.
    let limit = || -> Option<usize> {
        // One read: a reader that grows its buffer makes ten system calls of it.
        let mut limits = [0; 2_048];
        let length = File::open("/proc/self/limits")
            .ok()?
            .read(&mut limits)
            .ok()?;
        let limits = str::from_utf8(&limits[..length]).ok()?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let Some(limit) = limit()
        && limit < max_connections + own
    {
        log::warn(format_args!(
            "MAX_CONNECTIONS={max_connections} needs {} open files, and the limit is {limit}",
            max_connections + own
        ));
    }
}

/// One worker: accepts until the server drains, and lives until it is drained.
async fn work(shared: Arc<Shared>, listener: io::Result<Listener>) {
    let accepting = async { accept_until_draining(&shared, listener?).await };
    if let Err(error) = accepting.await {
        log::error(format_args!("cannot wait for connections: {error}"));
    }
    shared.accepting.fetch_sub(1, SeqCst);
    shared.slots.wake_all();
    let slots = &shared.slots;
    slots
        .until(|| shared.is_empty() || shared.is_in(Stage::Over))
        .await;
}

async fn accept_until_draining(shared: &Arc<Shared>, listener: Listener) -> io::Result<()> {
    let mut draining = pin!(shared.draining());
    loop {
        let accepted = poll_fn(|cx| {
            if draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let accepted = listener.poll_accept(cx);
            if accepted.is_pending() {
                shared.exhausted.store(false, SeqCst);
            }
            accepted.map(Some)
        });
        match accepted.await {
            Some(accepted) => handle(shared, accepted).await,
            None => break,
        }
    }
    // What the kernel has accepted already is served: to those clients the connection is open and
    // the request on its way. tokio may answer "would block" from memory, so the kernel is asked.
    // No more can wait than the backlog, and whoever connects in the meantime is not among them.
    let listener = listener.detach()?;
    for accepted in 1..=BACKLOG {
        if accepted % ACCEPT_BATCH == 0 {
            yield_now().await;
        }
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            accepted => handle(shared, accepted).await,
        }
    }
    Ok(())
}

async fn handle(shared: &Arc<Shared>, accepted: io::Result<(tokio::net::TcpStream, Peer)>) {
    match accepted {
        Ok((stream, peer)) => {
            // At the cap this is the connection that has to wait for another to make room. Not
            // before accept: that anybody wants to connect is known only then.
            let slot = shared.slots.reserve(|| shared.is_draining()).await;
            tokio::spawn(connection::serve(stream, peer, slot, shared.clone()));
        }
        Err(error) if is_of_one_connection(&error) => {}
        Err(error) => {
            if !shared.exhausted.swap(true, SeqCst) {
                log::error(format_args!("cannot accept connections, waiting: {error}"));
            }
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Errors that accept(2) passes on from the connection that it would have returned, which is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}
