//! `server`: opens its signals, reads the environment, binds, makes the service, serves, and cleans up.

#![forbid(unsafe_code)]

mod config;
mod manager;
mod routes;
mod shutdown;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{self, ExitCode};

use scratch_server::{Drained, Listener, event_loop, log, serve};

use crate::config::{Config, ConfigError};
use crate::manager::{Notifier, passed_listener};
use crate::routes::{Readiness, Routes};
use crate::shutdown::Signals;

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
  SOCKET_MODE       permissions of the unix socket, such as 666 [the umask's]
  WORKERS           event-loop threads, or auto: one per usable CPU [1]
  MAX_CONNECTIONS   open connections [1000]
  HEADER_TIMEOUT    time for a request's head [5s]
  IDLE_TIMEOUT      time between requests on a connection [75s]
  READ_TIMEOUT      time for the next byte of a request's body [10s]
  WRITE_TIMEOUT     time for a peer that takes nothing [30s]
  SHUTDOWN_DELAY    time to go on accepting after the first signal [0s]
  SHUTDOWN_TIMEOUT  time for requests in progress after that [8s]
  RUST_LOG          off, error, warn, info or debug [info]
  LISTEN_FDS, LISTEN_PID, NOTIFY_SOCKET
                    set by a service manager: a socket that listens goes before LISTEN and PORT

Exit codes: 0 drained, 1 could not start or had to cut connections, 2 configuration,
130 and 143 after a second SIGINT or SIGTERM.
";

const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let code = match run() {
        Ok(Drained::Complete) => ExitCode::SUCCESS,
        Ok(Drained::CutOff(_)) => ExitCode::FAILURE,
        Err(failure) => {
            // Written whatever the log level, and even if nobody reads it.
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
    // First, because the kernel drops a signal for which PID 1 has no handler.
    let signals = sys::signal_pipe().map_err(Failure::start("open signals"))?;
    let config = Config::from_lookup(env::var_os::<&str>, process::id())?;
    log::init(config.log);
    let event_loop = event_loop().map_err(Failure::start("set up the event loop"))?;
    let drained = event_loop.block_on(run_server(config, signals));
    // Dropping the event loop would wait for every `spawn_blocking` of the service, which may never end.
    event_loop.shutdown_background();
    drained
}

async fn run_server(config: Config, signals: OwnedFd) -> Result<Drained, Failure> {
    let signals = Signals::watch(signals).map_err(Failure::start("watch signals"))?;
    let listener = listen(&config)?;
    log::info_now(format_args!("Starting server on {listener}"));

    let mut manager = Notifier::new(config.notify_socket);
    let readiness = Readiness::default();
    let Some(routes) = signals.unless_signalled(make_routes(&readiness)).await else {
        manager.notify("STOPPING=1");
        log::info(format_args!(
            "Shutdown signal received before the start, exiting"
        ));
        return Ok(Drained::Complete);
    };
    let routes = routes?;

    let make_service = move |_peer| routes.clone();
    let shutdown = async {
        // Polled for the first time when every worker runs.
        manager.notify("READY=1");
        signals.first().await;
        readiness.turn_off();
        manager.notify("STOPPING=1");
    };
    let drained = serve(
        listener,
        config.limits,
        config.workers,
        make_service,
        shutdown,
    )
    .await
    .map_err(Failure::start("start the workers"))?;
    // No request is left. A service that has to write or close something does it here: keep a clone of it
    // before `make_service` takes it.
    match drained {
        Drained::Complete => log::info(format_args!("All requests finished, exiting")),
        Drained::CutOff(connections) => log::warn(format_args!(
            "SHUTDOWN_TIMEOUT passed, {connections} connections cut off"
        )),
    }
    Ok(drained)
}

fn listen(config: &Config) -> Result<Listener, Failure> {
    let Some(endpoint) = &config.endpoint else {
        return Ok(passed_listener()?);
    };
    Listener::bind(endpoint, config.socket_mode)
        .map_err(|error| Failure::Start(format!("listen on {}", config::describe(endpoint)), error))
}

/// Makes the service with all that it needs. This is where to connect to a database, with `await`: an error
/// becomes a [`Failure`], and a signal cancels it.
async fn make_routes(readiness: &Readiness) -> Result<Routes, Failure> {
    Ok(Routes::new(readiness.clone()))
}

/// The text to print, if the arguments are `--help` or `--version`.
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
    /// The step that failed, to be read after "cannot", and its error.
    Start(String, io::Error),
}

impl Failure {
    fn unknown(argument: &OsStr) -> Self {
        Self::Configuration(format!(
            "argument \"{}\": expected --help, --version or none",
            argument.as_encoded_bytes().escape_ascii()
        ))
    }

    fn start(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Start(what.to_owned(), error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error.to_string())
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
