//! A health probe for images that have no shell: all of it but the C `main`.
//!
//! # Layout
//!
//! The path of a probe, and where each part of it lives:
//!
//! 1. [`options`] reads the arguments and the environment, [`target`] what to probe.
//! 2. `probe` connects, sends one request and receives, all before one deadline.
//! 3. [`response`] takes the answer as it arrives and decides as early as it can.
//! 4. `report` says so in one line, and [`run`], here, in one [`Outcome`].
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

use crate::options::{Action, Options};
use crate::probe::{PAUSE, Timer, attempt};
use crate::report::write;

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
  /PATH                      the same server, another path
  http://HOST[:PORT][/PATH]  an IPv4 address, [IPv6] or localhost
  unix:/SOCKET[:/PATH]
  tcp://HOST:PORT            connect only

  --timeout TIME   for one attempt: 500ms, 3s, 1m (3s, or HEALTHCHECK_TIMEOUT)
  --wait TIME      try again until healthy
  --status LIST    what is healthy (200-299)
  --header FIELD   'Name: value', repeatable
  --method METHOD  GET or HEAD
  --body TEXT      to be in the first 64 KiB
  --verbose        report each attempt
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
    let mut options = Options::default();
    if let Err(rule) = options.read(arguments, variable) {
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
    // The process ends, and that closes it.
    let timer = ManuallyDrop::new(Timer::new(limit));
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
        let is_last = result.is_ok() || options.wait == 0 || timer.pause(PAUSE).is_err();
        if options.verbose || (is_last && result.is_err()) {
            let elapsed = limit.saturating_sub(timer.left());
            report::verdict(stream, options, elapsed, result);
        }
        if is_last {
            return outcome;
        }
    }
}
