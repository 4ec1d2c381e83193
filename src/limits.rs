//! The limits on connections and on the time of each step, with their defaults.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Longer than any process runs. A much longer time could not be added to the clock.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// What the server allows its clients and itself. A time of decades, such as [`Duration::MAX`], never passes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Open connections, 1,000 by default. Each needs a file descriptor: where the process may not
    /// have that many, the cap is lowered to what it may open.
    pub max_connections: NonZeroUsize,
    /// How long a request's head may take, 5 s by default. The first head's time runs from the
    /// moment it has a slot, a later one's from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may wait between requests, 75 s by default.
    pub idle_timeout: Duration,
    /// How long a request's body may bring no byte while hyper reads it, 10 s by default. hyper reads
    /// ahead, so the time also runs before the service begins to read the body.
    pub read_timeout: Duration,
    /// How long a peer may take no byte of its answer, 30 s by default. The peer's kernel reports
    /// progress in steps, of a segment or of 1/16 of its buffer: a shorter time cuts off slow readers.
    pub write_timeout: Duration,
    /// How long new connections are accepted after the server was told to stop, 0 by default.
    pub shutdown_delay: Duration,
    /// How long requests in progress may take after that, 8 s by default: Docker kills after 10.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: NonZeroUsize::new(1_000).expect("1,000 is not zero"),
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(8),
        }
    }
}

impl Limits {
    /// The same limits, each time short enough for the clock.
    pub(crate) fn within_clock(self) -> Self {
        Self {
            max_connections: self.max_connections,
            header_timeout: self.header_timeout.min(FOREVER),
            idle_timeout: self.idle_timeout.min(FOREVER),
            read_timeout: self.read_timeout.min(FOREVER),
            write_timeout: self.write_timeout.min(FOREVER),
            shutdown_delay: self.shutdown_delay.min(FOREVER),
            shutdown_timeout: self.shutdown_timeout.min(FOREVER),
        }
    }
}
