//! The accept loop of one worker.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::lifecycle::Stage;
use crate::listener::{BACKLOG, Listener, Peer};
use crate::log;
use crate::service::AnyService;
use crate::shared::Shared;

/// How long to wait after an accept error that is the process's own, such as EMFILE.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest time between two log lines about such errors.
const SILENCE: Duration = Duration::from_secs(60);

/// Connections to accept in a row from the queue before other tasks get their turn.
const BATCH: u32 = 64;

/// What an accept loop needs. Each worker has a clone.
pub(crate) struct Acceptor<M> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) make_service: Arc<M>,
}

impl<M> Clone for Acceptor<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            make_service: self.make_service.clone(),
        }
    }
}

impl<M, S> Acceptor<M>
where
    M: Fn(Peer) -> S,
    S: AnyService,
{
    /// Accepts connections until the server drains, then those that wait in the queue.
    pub(crate) async fn run(&self, listener: Listener) {
        let mut draining = pin!(self.shared.lifecycle.reached(Stage::Draining));
        loop {
            let accepted = poll_fn(|cx| {
                if draining.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                listener.poll_accept(cx).map(Some)
            });
            match accepted.await {
                Some(accepted) => self.handle_accepted(accepted).await,
                None => break,
            }
        }
        if let Err(error) = self.empty_queue(listener).await {
            log::error(format_args!("cannot empty the accept queue: {error}"));
        }
    }

    /// Accepts the connections in the kernel's queue: their clients see an open connection and may have
    /// sent a request. tokio may answer "would block" from memory, so the kernel is called.
    async fn empty_queue(&self, listener: Listener) -> io::Result<()> {
        let listener = listener.detach()?;
        // The queue holds one more than the backlog (listen(2)). Bounded, so that clients that keep
        // connecting cannot prolong the drain.
        for count in 0..=BACKLOG {
            if self.shared.lifecycle.has_reached(Stage::Over) {
                break;
            }
            if count % BATCH == 0 {
                yield_now().await;
            }
            match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                accepted => self.handle_accepted(accepted).await,
            }
        }
        Ok(())
    }

    async fn handle_accepted(&self, accepted: io::Result<(TcpStream, Peer)>) {
        let Shared {
            lifecycle, slots, ..
        } = &*self.shared;
        match accepted {
            Ok((stream, peer)) => {
                // Reserved after accepting, not before: only now do we know that a client wants a slot.
                // At the cap, this connection waits here until another one leaves.
                let slot = slots
                    .reserve(|| lifecycle.has_reached(Stage::Draining))
                    .await;
                // Where panics unwind, a panic of the service ends a connection and not the accept loop.
                let service = catch_unwind(AssertUnwindSafe(|| (self.make_service)(peer)));
                let Ok(service) = service else { return };
                let mut connection =
                    Connection::new(stream, peer, service, slot, self.shared.clone());
                // tokio catches a panic of this task, and drops the connection.
                spawn_local(async move { connection.serve().await });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Each connection holds one descriptor, so one that is closed makes room for another.
                let is_at_limit = error.raw_os_error() == Some(libc::EMFILE);
                // If that takes longer, the next accept fails the same way and waits on.
                if is_at_limit && timeout(PAUSE, slots.evict_one()).await != Ok(false) {
                    return;
                }
                log_exhaustion(&self.shared, &error);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Logs an accept error of the process's own, once a minute at most: each worker repeats it every 100 ms,
/// even with an empty queue, because accept(2) reserves a descriptor first.
fn log_exhaustion(shared: &Shared, error: &io::Error) {
    let logged = shared.exhaustion_logged.lock();
    let mut logged = logged.unwrap_or_else(PoisonError::into_inner);
    if logged.is_none_or(|at| at.elapsed() >= SILENCE) {
        *logged = Some(Instant::now());
        log::error(format_args!("cannot accept connections, waiting: {error}"));
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
