//! A route that panics ends the process, and does not leave it half alive.
//!
//! Needs the example as `cargo build` makes it, which aborts as the server does; what `cargo test`
//! makes unwinds: `cargo build --example panicking && cargo test --test panic -- --ignored`

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use common::{GET, Server, example};

/// Runs the example, asks for the route that panics, and gives the signal that ended the process.
fn signal_after_panic(command: Command) -> Option<i32> {
    let mut server = Server::spawn(command);
    let mut kept = server.connect();
    assert_eq!(kept.request(GET).status, 200);
    let mut client = server.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n");
    let signal = server.exit().signal();
    let lines = server.remaining_lines();
    let message = lines.iter().any(|line| line.contains("has a bug"));
    assert!(message, "{lines:?}");
    signal
}

#[test]
#[ignore = "needs the example"]
fn a_route_that_panics_ends_the_process_by_sigabrt() {
    // A shell reports it as 134.
    let signal = signal_after_panic(Command::new(example("panicking")));
    assert_eq!(signal, Some(libc::SIGABRT));
}

#[test]
#[ignore = "needs the example, and root for a PID namespace"]
fn a_route_that_panics_ends_pid_1_by_sigsegv() {
    // unshare(1) ends as its child does. Docker reports it as 139.
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(example("panicking"));
    // The kernel keeps SIGABRT from a PID 1 that has no handler for it. So abort(3) goes on, on x86-64
    // in either C library, to an instruction that faults.
    assert_eq!(signal_after_panic(command), Some(libc::SIGSEGV));
}
