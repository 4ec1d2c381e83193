//! SIGTERM and SIGINT: the first asks the server to stop, the second ends the process.

use std::future::poll_fn;
use std::io;
use std::process;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log;

/// The handlers for SIGTERM and SIGINT.
pub struct Signals([(SignalKind, Signal); 2]);

impl Signals {
    /// Installs both handlers.
    ///
    /// # Errors
    ///
    /// Those of sigaction(2) and of the pipe that carries signals to the event loop.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn install() -> io::Result<Self> {
        let install = |kind| Ok::<_, io::Error>((kind, signal(kind)?));
        Ok(Self([
            install(SignalKind::terminate())?,
            install(SignalKind::interrupt())?,
        ]))
    }

    /// Waits for the first signal. From then on the next one ends the process at once, with the
    /// exit code that a shell would report: 128 + its number.
    pub async fn first(mut self) {
        poll_fn(|cx| self.poll_next(cx)).await;
        tokio::spawn(async move {
            let kind = poll_fn(|cx| self.poll_next(cx)).await;
            log::warn(format_args!("second signal received, exiting at once"));
            log::flush();
            process::exit(128 + kind.as_raw_value());
        });
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<SignalKind> {
        for (kind, signal) in &mut self.0 {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*kind);
            }
        }
        Poll::Pending
    }
}
