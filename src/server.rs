//! The server, from its first worker to its end.

use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::time::{sleep, timeout};

use crate::accept::Acceptor;
use crate::lifecycle::Stage;
use crate::limits::Limits;
use crate::listener::{Listener, Peer};
use crate::log;
use crate::service::BoxError;
use crate::shared::Shared;
use crate::workers::{END_TIMEOUT, Workers, spawn_boxed};

/// How the server ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Drained {
    /// Every request was answered.
    Complete,
    /// `shutdown_timeout` passed, and this many connections had a request that was not answered.
    CutOff(usize),
}

/// Serves `listener` until `shutdown` completes, then drains.
///
/// The caller's event loop is the first of `workers`; the others have threads of their own. Each
/// connection has its own service, which `make_service` makes from the peer's address. The futures of a
/// service need not be `Send`, and its bodies may be of any type.
///
/// # What this does for any service
///
/// - **Bodies that nobody reads.** The answer says `Connection: close` exactly when the connection
///   closes after it. A small body that arrived whole may be skipped, and the connection kept. Two
///   closes come unannounced: that of a connection whose service reads on after its answer, and that after
///   a body that turns out malformed.
/// - **Bodies that stall.** After `read_timeout` without a byte the body yields an error
///   ([`io::ErrorKind::TimedOut`]). If the head of the answer is not out, 408 takes the place of
///   whatever the service answers; if it is, the connection closes. A slow body that moves is not
///   cut off. With `Expect: 100-continue` the time runs from the 100 on.
/// - **Answers.** hyper is given at most 16 KiB of a frame at a time. A body that ends in an error
///   never looks complete: a chunked one has no last chunk, and an HTTP/1.0 connection is reset (on a
///   unix socket there is no reset, and the end of the stream is all that a client sees).
/// - **Clients that are gone.** A reset drops the service's future at once. The end of the client's
///   stream drops it when for a second nothing was read or written while the service is what the
///   connection waits for. Until then, a client that has closed its side gets its answer. Bytes that
///   the service has not read hide the end of the stream, but not a reset.
/// - **Pauses.** After `docker pause`, or on a machine that was suspended, none of the timeouts for
///   heads, idle connections, bodies and writes takes effect before what came meanwhile has been read.
/// - **Panics.** Under `panic = "abort"`, as shipped, the process ends. Under unwind the connection
///   ends, and its slot is free.
///
/// How long a service takes to answer is its own affair. HTTP/2 and upgrades are not supported.
///
/// The soft limit on open descriptors of the process is raised to the hard one. Where that is too little
/// for `max_connections`, the cap is lowered to what it allows.
///
/// # The end
///
/// When `shutdown` completes, every response carries `Connection: close`, and connections are accepted
/// for `shutdown_delay`. Then the accept queue is emptied, idle connections are closed, and requests
/// in progress are answered, for at most `shutdown_timeout`. When this function returns, every future
/// of the service has been dropped and every worker has ended, except for a worker that blocks its
/// thread for longer than 100 ms: its connections count as cut off. Dropping the future of this function
/// does not stop the server: the other workers would go on.
///
/// # Errors
///
/// When a worker cannot be started. Nothing was accepted then.
///
/// # Panics
///
/// Outside of a [`LocalRuntime`](tokio::runtime::LocalRuntime) with its I/O and time drivers, such as
/// [`event_loop`](crate::event_loop) makes.
pub async fn serve<M, S, B>(
    listener: Listener,
    limits: Limits,
    workers: NonZeroUsize,
    make_service: M,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained>
where
    M: Fn(Peer) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
    B: Body<Error: Into<BoxError>> + 'static,
{
    let wanted = limits.max_connections;
    let limits = within_descriptor_limit(limits, workers, &listener);
    let acceptor = Acceptor {
        shared: Arc::new(Shared::new(limits)),
        make_service: Arc::new(make_service),
    };
    let shared = acceptor.shared.clone();
    let others = Workers::start(workers.get() - 1, &acceptor, &listener).await?;
    let accepting = shared.lifecycle.start_running();
    spawn_boxed(async move {
        acceptor.run(listener).await;
        drop((acceptor, accepting));
    });
    let Limits {
        max_connections,
        shutdown_delay,
        shutdown_timeout,
        ..
    } = shared.limits;
    if max_connections < wanted {
        log::warn(format_args!(
            "MAX_CONNECTIONS={wanted} is more than the limit on open files allows, which is {max_connections}"
        ));
    }
    shared.enter(Stage::Serving);
    log::info_now(format_args!(
        "Ready: WORKERS={workers}, MAX_CONNECTIONS={max_connections}"
    ));

    shared.freed.give_back_until(shutdown).await;
    shared.enter(Stage::Stopping);
    log::info(format_args!(
        "Shutdown signal received, finishing requests..."
    ));
    if !shutdown_delay.is_zero() {
        sleep(shutdown_delay).await;
    }
    shared.enter(Stage::Draining);
    let drained = timeout(shutdown_timeout, shared.lifecycle.finished()).await;
    if drained.is_err() {
        shared.enter(Stage::Over);
        shared.lifecycle.finished_or_over(END_TIMEOUT).await;
    }
    others.join().await;
    // Connections that are still open belong to a worker that blocks its thread.
    match shared.lifecycle.cut_off() + shared.slots.open() {
        0 => Ok(Drained::Complete),
        connections => Ok(Drained::CutOff(connections)),
    }
}

/// Raises the soft limit on descriptors to the hard one, and returns the limits with no more connections
/// than that allows.
fn within_descriptor_limit(limits: Limits, workers: NonZeroUsize, listener: &Listener) -> Limits {
    // Descriptors that are open by now, such as the service's. Those that it opens later are not known.
    let open = listener.lowest_free_descriptor().unwrap_or_default();
    // Each worker to come opens epoll twice, a waker and a listener. Every worker may hold a connection that
    // it has accepted and has no slot for.
    let to_come = (workers.get() - 1).saturating_mul(5).saturating_add(1);
    let own = to_come.saturating_add(open.unsigned_abs() as usize);
    let limit = sys::raise_descriptor_limit().unwrap_or(u64::MAX);
    let left = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_sub(own);
    let possible = NonZeroUsize::new(left).unwrap_or(NonZeroUsize::MIN);
    Limits {
        max_connections: limits.max_connections.min(possible),
        ..limits
    }
}
