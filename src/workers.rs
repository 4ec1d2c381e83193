//! The workers: event loops, each with an accept loop and its connections.

use std::io;
use std::pin::Pin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::LocalRuntime;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::accept::Acceptor;
use crate::lifecycle::{Running, Stage};
use crate::listener::{Detached, Listener, Peer};
use crate::service::AnyService;

/// How long connections and workers have for their end when the time for draining is over.
pub(crate) const END_TIMEOUT: Duration = Duration::from_millis(100);

/// The event loop of one worker: a current-thread runtime whose tasks need not be `Send`.
///
/// # Errors
///
/// Those of the system calls that set up epoll.
pub fn event_loop() -> io::Result<LocalRuntime> {
    LocalRuntime::new()
}

/// Spawns a task on the event loop of the caller.
///
/// The task is boxed, so that all such tasks are of one type: each type that is spawned brings another copy
/// of tokio's machinery, 2 KB of code. A kind of task with many instances is better spawned without the box.
///
/// # Panics
///
/// Outside of a [`LocalRuntime`].
pub fn spawn_boxed(task: impl Future<Output = ()> + 'static) {
    let task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task);
    spawn_local(task);
}

/// The workers that have threads of their own.
pub(crate) struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    /// Starts `count` workers. None accepts before all have started, because connections could take
    /// the descriptors that the others need.
    pub(crate) async fn start<M, S>(
        count: usize,
        acceptor: &Acceptor<M>,
        listener: &Listener,
    ) -> io::Result<Self>
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: AnyService,
    {
        let mut workers = Self(Vec::new());
        for _ in 0..count {
            // One at a time: after the first failure no further thread is started.
            if let Err(error) = workers.start_one(acceptor.clone(), listener).await {
                acceptor.shared.enter(Stage::Over);
                workers.join().await;
                return Err(error);
            }
        }
        Ok(workers)
    }

    async fn start_one<M, S>(
        &mut self,
        acceptor: Acceptor<M>,
        listener: &Listener,
    ) -> io::Result<()>
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: AnyService,
    {
        let listener = listener.detached_clone()?;
        let running = acceptor.shared.lifecycle.start_running();
        let (report, started) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("worker".into())
            .spawn(move || run_worker(&acceptor, listener, running, report))?;
        self.0.push(thread);
        started.await.expect("every worker reports")
    }

    /// Waits until the workers have ended. Gives up on those that block their threads.
    pub(crate) async fn join(self) {
        let deadline = Instant::now() + END_TIMEOUT;
        // Polled, because the end of a thread is no event.
        while !self.0.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        for thread in self.0.into_iter().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// Runs a worker on this thread, and reports whether it could start.
fn run_worker<M, S>(
    acceptor: &Acceptor<M>,
    listener: Detached,
    running: Running,
    report: oneshot::Sender<io::Result<()>>,
) where
    M: Fn(Peer) -> S,
    S: AnyService,
{
    let lifecycle = &acceptor.shared.lifecycle;
    let event_loop = match event_loop() {
        Ok(event_loop) => event_loop,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    event_loop.block_on(async {
        let listener = match listener.attach() {
            Ok(listener) => listener,
            Err(error) => {
                let _ = report.send(Err(error));
                return;
            }
        };
        let _ = report.send(Ok(()));
        lifecycle.reached(Stage::Serving).await;
        acceptor.run(listener).await;
        drop(running);
        lifecycle.finished_or_over(END_TIMEOUT).await;
    });
    // Dropping the event loop would wait for every `spawn_blocking` of the service, which may never end.
    event_loop.shutdown_background();
}
