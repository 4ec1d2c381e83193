//! `server`: reads the environment, opens its signals, binds, serves, and drains.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

// Named, so that it is linked: it takes the place of the C library's allocator.
use malloc as _;
use scratch_server::config::Config;
use scratch_server::listener::{self, Listener};
use scratch_server::log;
use scratch_server::server::{Drained, event_loop, serve};
use scratch_server::shutdown::Signals;

#[cfg(all(
    target_env = "musl",
    panic = "unwind",
    not(any(feature = "unwind", test))
))]
compile_error!(
    "`panic = \"unwind\"` needs `--features unwind` on musl: without it build.rs discards the unwind tables"
);

const HELP: &str = "\
An HTTP server that is alone in its container image.

Usage: server [--help | --version]

All configuration is in the environment:
  LISTEN            ADDRESS:PORT, :PORT, [IPV6]:PORT or unix:/path [every interface, PORT]
  PORT              port on every interface, unless LISTEN is set; 0 takes a free one [8080]
  WORKERS           event-loop threads, or auto: one per usable CPU [1]
  MAX_CONNECTIONS   open connections [1000]
  HEADER_TIMEOUT    time for a request's head [5s]
  IDLE_TIMEOUT      time between requests on a connection [75s]
  WRITE_TIMEOUT     time for a peer that takes nothing [5s]
  SHUTDOWN_DELAY    time to go on accepting after the first signal [0s]
  SHUTDOWN_TIMEOUT  time for requests in progress after that [8s]
  RUST_LOG          off, error, warn, info or debug [info]

Exit codes: 0 drained, 1 could not start or had to cut connections, 2 configuration,
130 and 143 after a second SIGINT or SIGTERM.
";

const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let code = match run() {
        Ok(Drained::Complete) => ExitCode::SUCCESS,
        Ok(Drained::CutOff(_)) => ExitCode::FAILURE,
        Err(failure) => {
            // Written whatever the log level, and even if nobody listens.
            let _ = writeln!(io::stderr(), "error: {failure}");
            match failure {
                Failure::Configuration(_) => ExitCode::from(EXIT_CONFIGURATION),
                Failure::Start(..) => ExitCode::FAILURE,
            }
        }
    };
    log::flush();
    code
}

fn run() -> Result<Drained, Failure> {
    if let Some(text) = requested_text(env::args_os().skip(1))? {
        let _ = io::stdout().write_all(text.as_bytes());
        return Ok(Drained::Complete);
    }
    let config = Config::from_lookup(env::var_os::<&str>)
        .map_err(|error| Failure::Configuration(error.to_string()))?;
    log::init(config.log);
    // Before bind: PID 1 has no default action for SIGTERM, so one in between would be lost.
    let signals = sys::signal_pipe().map_err(Failure::start("open signals"))?;
    event_loop()
        .map_err(Failure::start("set up the event loop"))?
        .block_on(run_server(config, signals))
}

async fn run_server(config: Config, signals: OwnedFd) -> Result<Drained, Failure> {
    let signals = Signals::watch(signals).map_err(Failure::start("watch signals"))?;
    let listener = Listener::bind(&config.endpoint).map_err(|error| {
        Failure::Start(
            format!("listen on {}", listener::describe(&config.endpoint)),
            error,
        )
    })?;
    log::start(format_args!("Starting server on {listener}"));
    let drained = serve(listener, config.limits, config.workers, signals.first())
        .await
        .map_err(Failure::start("start the workers"))?;
    match drained {
        Drained::Complete => log::info(format_args!("All requests finished, exiting")),
        Drained::CutOff(connections) => log::warn(format_args!(
            "SHUTDOWN_TIMEOUT passed, {connections} connections cut off"
        )),
    }
    Ok(drained)
}

/// What `--help` and `--version` print, if the arguments ask for one of them.
fn requested_text(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Option<String>, Failure> {
    let Some(argument) = arguments.next() else {
        return Ok(None);
    };
    let text = match argument.to_str() {
        Some("--help") => HELP.to_owned(),
        Some("--version") => format!("server {}\n", env!("CARGO_PKG_VERSION")),
        _ => return Err(Failure::unknown(&argument)),
    };
    match arguments.next() {
        None => Ok(Some(text)),
        Some(argument) => Err(Failure::unknown(&argument)),
    }
}

enum Failure {
    Configuration(String),
    /// What could not be done, and why.
    Start(String, io::Error),
}

impl Failure {
    fn unknown(argument: &OsStr) -> Self {
        Self::Configuration(format!(
            "argument {:?}: expected --help, --version or none",
            argument.to_string_lossy()
        ))
    }

    fn start(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Start(what.to_owned(), error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(error) => f.write_str(error),
            Self::Start(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}
