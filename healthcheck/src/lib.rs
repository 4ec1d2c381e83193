//! A health probe for images that have no shell: all of it but the C `main`.
//!
//! # Layout
//!
//! The path of a probe, and where each part of it lives:
//!
//! 1. [`options`] reads the arguments and the environment, [`target`] what to probe.
//! 2. `probe` connects, sends one request and receives, all before one deadline.
//! 3. [`response`] takes the answer as it arrives and decides as early as it can.
//! 4. [`run`], here, says so in one line and one [`Outcome`].
//!
//! No allocation, no `core::fmt`, no libc, nothing that can panic: the binary is a few kilobytes.

#![no_std]
#![forbid(unsafe_code)]

use rustix::fd::BorrowedFd;

use crate::options::{Options, Stop};
use crate::probe::{PAUSE, Timer, attempt};

pub mod options;
mod probe;
mod report;
pub mod response;
pub mod target;
mod text;

const VERSION: &[u8] = concat!("healthcheck ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

const HELP: &[u8] = b"\
Usage: healthcheck [OPTION]... [TARGET]

Exits with 0 if TARGET is healthy, else with 1 and one line that says why.

TARGET is one of
  (none)                      the server that LISTEN and PORT describe, at /health
  /PATH                       the same server, another path
  http://HOST[:PORT][/PATH]   HOST is an IPv4 address, an [IPv6] address or localhost
  unix:/SOCKET[:/PATH]        HTTP over a unix socket
  tcp://HOST:PORT             connect only

  --timeout DURATION      for one attempt, such as 500ms, 3s or 1m (default: 3s,
                          or HEALTHCHECK_TIMEOUT)
  --wait DURATION         try again until healthy or the time is up
  --status LIST           the statuses that are healthy (default: 200-299)
  --header 'Name: value'  may be repeated; replaces a header of the same name
  --method METHOD         GET or HEAD (default: GET)
  --body TEXT             TEXT must be in the first 64 KiB of the body
  --verbose               a line when healthy too, and one for each failed attempt
  --help, --version
";

/// What the process exits with. Docker reserves 2, so there is nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Healthy, or nothing was probed and nothing was wrong.
    Healthy = 0,
    /// Unhealthy, or the arguments or the environment are not valid.
    Unhealthy = 1,
}

/// Where lines are written to.
#[derive(Clone, Copy)]
pub struct Streams<'a> {
    /// What was asked for: with `--verbose`, `--help` and `--version`.
    pub output: BorrowedFd<'a>,
    /// What is wrong.
    pub errors: BorrowedFd<'a>,
}

/// Probes once, or until healthy with `--wait`, and says so.
///
/// SIGPIPE is expected to be ignored: a peer that is gone is a cause to report, and a reader of the
/// report that is gone changes nothing.
pub fn run<'a>(
    arguments: impl Iterator<Item = &'a [u8]>,
    variable: impl Fn(&str) -> Option<&'a [u8]>,
    streams: Streams<'_>,
) -> Outcome {
    match Options::parse(arguments, variable) {
        Ok(options) => probe(&options, streams),
        Err(Stop::Help) => streams.healthy(HELP),
        Err(Stop::Version) => streams.healthy(VERSION),
        Err(Stop::Invalid(invalid)) => streams.unhealthy(report::invalid(&invalid).as_bytes()),
    }
}

fn probe(options: &Options<'_>, streams: Streams<'_>) -> Outcome {
    const NO_TIMER: &[u8] = b"healthcheck: cannot start a timer\n";
    let limit = options.wait.unwrap_or(options.timeout);
    let Ok(timer) = Timer::start(limit) else {
        return streams.unhealthy(NO_TIMER);
    };
    let report = |result| report::verdict(options, limit.saturating_sub(timer.left()), result);
    loop {
        let result = if options.wait.is_some() {
            let Ok(timer) = Timer::start(options.timeout.min(timer.left())) else {
                return streams.unhealthy(NO_TIMER);
            };
            attempt(options, &timer)
        } else {
            attempt(options, &timer)
        };
        match result {
            Ok(_) if !options.verbose => return Outcome::Healthy,
            Ok(_) => return streams.healthy(report(result).as_bytes()),
            Err(_) if options.wait.is_some() && timer.pause(PAUSE).is_ok() => {
                if options.verbose {
                    streams.unhealthy(report(result).as_bytes());
                }
            }
            Err(_) => return streams.unhealthy(report(result).as_bytes()),
        }
    }
}

impl Streams<'_> {
    fn healthy(self, text: &[u8]) -> Outcome {
        write(self.output, text);
        Outcome::Healthy
    }

    fn unhealthy(self, text: &[u8]) -> Outcome {
        write(self.errors, text);
        Outcome::Unhealthy
    }
}

fn write(stream: BorrowedFd<'_>, text: &[u8]) {
    // Whoever was to read it may be gone; the outcome stands.
    let _ = rustix::io::write(stream, text);
}
