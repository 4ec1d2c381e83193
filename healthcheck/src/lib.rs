//! A health probe for images that have no shell: all of it but the C `main`.
//!
//! # Layout
//!
//! The path of a probe, and where each part of it lives:
//!
//! 1. [`options`] reads the arguments and the environment, `expansion` replaces `${NAME}` in the arguments,
//!    and [`target`] reads what to probe.
//! 2. `probe` connects, sends one request and receives, all before one deadline.
//! 3. [`response`] takes the answer as it arrives and decides as early as it can.
//! 4. `report` writes the verdict in one line, and [`run`], here, returns it as an [`Outcome`].
//!
//! No allocation, no `core::fmt`, no libc, nothing that panics: all of that would be larger than the
//! probe.

#![no_std]
#![forbid(unsafe_code)]

// Here and not beside the system calls in the program, so that it is the only error.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("the probe is for Linux on x86_64 and aarch64: the server can be built alone");

use core::mem::ManuallyDrop;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::options::{Action, Options, ROOM};
use crate::probe::{PAUSE, Timer, attempt};
use crate::report::write;

mod expansion;
pub mod options;
mod probe;
mod report;
pub mod response;
pub mod target;
mod text;

const VERSION: &[u8] = concat!("healthcheck ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

const HELP: &[u8] = b"\
Usage: healthcheck [OPTION]... [TARGET]

TARGET: the server that LISTEN and PORT describe, at /health, or
  http://HOST[:PORT][/PATH]  HOST: IPv4, [IPv6] or localhost
  :PORT[/PATH]     localhost
  /PATH            the same server
  tcp://HOST:PORT  connect only
  unix:/SOCKET[:/PATH]

  --timeout TIME   for one attempt: 500ms, 3s, 1m (3s, or HEALTHCHECK_TIMEOUT)
  --wait TIME      try again until healthy
  --status LIST    what is healthy (200-299)
  --header FIELD   'Name: value', repeatable
  --method METHOD  GET or HEAD
  --body TEXT      to be in the first 64 KiB
  --verbose        report changes of the answer
  -h, --help, --version

TARGET and FIELD may have ${NAME}, ${NAME:-default}, $$ for $.
";

/// What the process exits with. Docker reserves 2, so there is nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Healthy, or nothing was probed and nothing was wrong.
    Healthy = 0,
    /// Unhealthy, or the arguments or the environment are not valid.
    Unhealthy = 1,
}

/// Why an attempt failed, and while doing what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// There is no connection.
    Connect(Errno),
    /// The request could not be sent.
    Send(Errno),
    /// The answer did not come.
    Receive(Errno),
    /// No status line, or a body framed in a way that RFC 9112 does not allow.
    NotHttp,
    /// A whole status line, with a status that is not wanted.
    Status(u16),
    /// The text is not in the first 64 KiB of the body.
    TextMissing,
    /// The peer closed before the answer was decided.
    Closed,
}

/// Where lines are written to.
#[derive(Clone, Copy)]
pub struct Streams<'a> {
    /// What was asked for: with `--verbose`, `--help` and `--version`.
    pub output: BorrowedFd<'a>,
    /// What is wrong.
    pub errors: BorrowedFd<'a>,
}

/// Probes once, or until healthy with `--wait`, and says so. `room` is for what the arguments expand to.
///
/// SIGPIPE is expected to be ignored: a peer that is gone is a cause to report, and a reader of the
/// report that is gone changes nothing.
pub fn run<'a>(
    arguments: impl Iterator<Item = &'a [u8]>,
    variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
    room: &'a mut [u8; ROOM],
    streams: Streams<'_>,
) -> Outcome {
    let mut options = Options::default();
    if let Err(rule) = options.read(arguments, variable, room) {
        report::invalid(streams.errors, &options.subject, rule);
        return Outcome::Unhealthy;
    }
    match options.action {
        Action::Probe => return probe(&options, streams),
        Action::Help => write(streams.output, HELP),
        Action::Version => write(streams.output, VERSION),
    }
    Outcome::Healthy
}

fn probe(options: &Options<'_>, streams: Streams<'_>) -> Outcome {
    let limit = if options.wait == 0 {
        options.timeout
    } else {
        options.wait
    };
    // Never dropped: the end of the process closes its descriptor.
    let timer = ManuallyDrop::new(Timer::new(limit));
    let mut attempts = 0;
    // No answer has this status.
    let mut last = Some(Failure::Status(0));
    loop {
        let own = match options.wait {
            0 => None,
            _ => Some(Timer::new(options.timeout.min(timer.left()))),
        };
        let result = attempt(options, own.as_ref().unwrap_or(&timer));
        let (stream, outcome) = match result {
            Ok(_) => (streams.output, Outcome::Healthy),
            Err(_) => (streams.errors, Outcome::Unhealthy),
        };
        attempts += 1;
        let is_last = result.is_ok() || options.wait == 0 || timer.pause(PAUSE).is_err();
        let is_new = last != result.err();
        last = result.err();
        if (is_new && options.verbose) || (is_last && result.is_err()) {
            let elapsed = limit.saturating_sub(timer.left());
            report::verdict(stream, options, elapsed, attempts, result);
        }
        if is_last {
            return outcome;
        }
    }
}
