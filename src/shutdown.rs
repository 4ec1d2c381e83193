//! SIGTERM and SIGINT: the first asks the server to stop, the second ends the process.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::process;

use tokio::net::unix::pipe::Receiver;

use crate::log;

/// SIGTERM and SIGINT, which no longer have their default action.
pub struct Signals(Receiver);

impl Signals {
    /// Has the event loop of the caller watch what [`signals::open`] opened.
    ///
    /// # Errors
    ///
    /// Those of epoll(7).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn watch(signals: File) -> io::Result<Self> {
        // Not a pipe, but waited for and read like one.
        Receiver::from_file_unchecked(signals).map(Self)
    }

    /// Waits for the first signal. From then on the next one ends the process at once, with the
    /// exit code that a shell would report: 128 + its number.
    pub async fn first(self) {
        self.next().await;
        tokio::spawn(async move {
            let signal = self.next().await;
            log::warn(format_args!("second signal received, exiting at once"));
            log::flush();
            process::exit(128 + signal);
        });
    }

    async fn next(&self) -> i32 {
        let mut record = [0; signals::RECORD];
        loop {
            let readable = self.0.readable().await;
            readable.expect("the event loop runs");
            match self.0.try_read(&mut record) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => {
                    read.expect("a signalfd gives whole records");
                    return signals::number(record);
                }
            }
        }
    }
}
