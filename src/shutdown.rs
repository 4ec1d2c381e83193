//! SIGTERM and SIGINT: the first asks the server to stop, the second ends the process.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::process;
use std::task::Poll;

use scratch_server::{log, spawn_boxed};
use tokio::net::unix::pipe::Receiver;

/// SIGTERM and SIGINT, which no longer have their default action.
pub struct Signals(Receiver);

impl Signals {
    /// Registers the pipe of [`sys::signal_pipe`] with the caller's event loop.
    ///
    /// # Errors
    ///
    /// Those of epoll(7).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn watch(pipe: OwnedFd) -> io::Result<Self> {
        Receiver::from_owned_fd_unchecked(pipe).map(Self)
    }

    /// Completes `start`, unless a signal comes first.
    pub async fn unless_signalled<T>(&self, start: impl Future<Output = T>) -> Option<T> {
        let (mut signal, mut start) = (pin!(self.next()), pin!(start));
        poll_fn(|cx| match signal.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => start.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Waits for the first signal. From then on the next one ends the process at once, with the
    /// exit code that a shell would report: 128 + its number.
    pub async fn first(self) {
        self.next().await;
        spawn_boxed(async move {
            let signal = self.next().await;
            log::warn(format_args!("second signal received, exiting at once"));
            log::flush();
            process::exit(128 + signal);
        });
    }

    async fn next(&self) -> i32 {
        let mut number = [0];
        loop {
            let readable = self.0.readable().await;
            readable.expect("the event loop runs");
            match self.0.try_read(&mut number) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => {
                    read.expect("the other end of the pipe stays open");
                    return number[0].into();
                }
            }
        }
    }
}
