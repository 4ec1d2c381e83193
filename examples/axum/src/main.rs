//! The skeleton with an axum `Router` in place of `src/routes.rs`: from the first signal handler to
//! the exit code.
//!
//! `serve` with its limits and its drain, the configuration, the signals and the allocator are the
//! skeleton's, as they are. What is new here: the start may wait and may fail (`App::open`), and the end
//! has something to wait for and to write (`App::finish`).

mod app;
#[path = "../../../src/config.rs"]
mod config;
#[path = "../../../src/manager.rs"]
mod manager;
mod routes;
#[path = "../../../src/shutdown.rs"]
mod shutdown;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{self, ExitCode};

use hyper_util::service::TowerToHyperService;
use scratch_server::{Drained, Listener, event_loop, log, serve};

use crate::app::App;
use crate::config::{Config, ConfigError, describe};
use crate::manager::{Notifier, passed_listener};
use crate::shutdown::Signals;

const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let code = match run() {
        Ok(Drained::Complete) => ExitCode::SUCCESS,
        Ok(Drained::CutOff(_)) => ExitCode::FAILURE,
        Err(error) => {
            // Written whatever the log level, and even if nobody reads it.
            let _ = writeln!(io::stderr(), "error: {error}");
            match error.is::<ConfigError>() {
                true => ExitCode::from(EXIT_CONFIGURATION),
                false => ExitCode::FAILURE,
            }
        }
    };
    log::flush();
    code
}

fn run() -> Result<Drained, Box<dyn Error>> {
    // First, because the kernel drops a signal for which PID 1 has no handler.
    let signals = sys::signal_pipe()?;
    let config = Config::from_lookup(env::var_os::<&str>, process::id())?;
    log::init(config.log);
    let event_loop = event_loop()?;
    let drained = event_loop.block_on(run_server(config, signals));
    // Dropping the event loop would wait for file operations, which may never end: the journal may be a pipe.
    event_loop.shutdown_background();
    drained
}

async fn run_server(config: Config, signals: OwnedFd) -> Result<Drained, Box<dyn Error>> {
    let signals = Signals::watch(signals)?;
    let listener = match &config.endpoint {
        None => passed_listener()?,
        Some(endpoint) => Listener::bind(endpoint, config.socket_mode)
            .map_err(|error| format!("cannot listen on {}: {error}", describe(endpoint)))?,
    };
    log::info_now(format_args!("Starting server on {listener}"));
    let mut manager = Notifier::new(config.notify_socket);

    // A pool of database connections would be made here as well. A signal ends the wait.
    let Some(app) = signals.unless_signalled(App::open()).await else {
        log::info(format_args!("Shutdown signal received before the start"));
        return Ok(Drained::Complete);
    };
    let app = app?;

    // A clone for each connection, which costs one atomic operation.
    let service = TowerToHyperService::new(routes::router(app.clone()));
    let make_service = move |_peer| service.clone();
    let shutdown = async {
        // Polled for the first time when every worker runs.
        manager.notify("READY=1");
        signals.first().await;
        app.stop();
        manager.notify("STOPPING=1");
    };
    let drained = serve(
        listener,
        config.limits,
        config.workers,
        make_service,
        shutdown,
    )
    .await?;
    if let Drained::CutOff(connections) = drained {
        log::warn(format_args!("{connections} connections cut off"));
    }
    // No request is left, and a second signal still ends the process.
    app.finish().await?;
    log::info(format_args!("Everything is written, exiting"));
    Ok(drained)
}
