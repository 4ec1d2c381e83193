//! The server as a process: its arguments, its environment, its exit codes and what it prints.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};

use common::elf::assert_static;
use common::{Server, server_binary};

fn run(mut command: Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the server starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn run_with(variable: &str, value: &str) -> (Option<i32>, String, String) {
    let mut command = Server::command();
    command.env(variable, value);
    run(command)
}

/// A path for a socket in a directory of its own, removed on drop.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(test: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("scratch-server-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for the socket");
        Self(directory.join("server.sock"))
    }

    fn listen(&self) -> String {
        format!("unix:{}", self.0.display())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().expect("a directory"));
    }
}

#[test]
fn the_binary_is_static() {
    assert_static(&server_binary());
}

#[test]
fn help_and_version_are_printed() {
    let mut command = Server::command();
    command.arg("--help");
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for variable in [
        "LISTEN",
        "PORT",
        "WORKERS",
        "MAX_CONNECTIONS",
        "HEADER_TIMEOUT",
        "IDLE_TIMEOUT",
        "WRITE_TIMEOUT",
        "SHUTDOWN_DELAY",
        "SHUTDOWN_TIMEOUT",
        "RUST_LOG",
    ] {
        assert!(stdout.contains(&format!("\n  {variable} ")), "{variable}");
    }

    let mut command = Server::command();
    command.arg("--version");
    let version = format!("server {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(command), (Some(0), version, String::new()));
}

#[test]
fn any_other_argument_is_named() {
    for arguments in [vec!["--verbose"], vec!["--help", "--verbose"]] {
        let mut command = Server::command();
        command.args(arguments);
        let line = "error: argument \"--verbose\": expected --help, --version or none\n";
        assert_eq!(run(command), (Some(2), String::new(), line.to_owned()));
    }
}

#[test]
fn a_bad_value_is_one_line_and_exit_code_2() {
    for (variable, value, line) in [
        (
            "PORT",
            "http",
            "PORT=\"http\": expected a number from 0 to 65535",
        ),
        (
            "WORKERS",
            "none",
            "WORKERS=\"none\": expected a number from 1 to 1000000, or auto",
        ),
        (
            "RUST_LOG",
            "hyper=debug",
            "RUST_LOG=\"hyper=debug\": expected off, error, warn, info or debug, and no directives",
        ),
    ] {
        let expected = (Some(2), String::new(), format!("error: {line}\n"));
        assert_eq!(run_with(variable, value), expected);
    }
}

#[test]
fn an_address_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let (code, _, stderr) = run_with("LISTEN", &address.to_string());
    assert_eq!(code, Some(1));
    let start = format!("error: cannot listen on {address}: Address");
    assert!(
        stderr.starts_with(&start) && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn an_address_that_cannot_be_bound_is_one_line_and_exit_code_1() {
    // TEST-NET-1 of RFC 5737: no machine has it.
    let (code, _, stderr) = run_with("LISTEN", "192.0.2.1:8080");
    assert_eq!(code, Some(1));
    let start = "error: cannot listen on 192.0.2.1:8080: ";
    assert!(
        stderr.starts_with(start) && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn sigint_stops_as_sigterm_does() {
    let mut server = Server::start(&[]);
    server.signal("INT");
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let path = SocketPath::new("served");
    let mut server = Server::start(&[("LISTEN", &path.listen())]);
    let mut client = UnixStream::connect(&path.0).expect("the server accepts");
    let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut client, request).expect("the server reads");
    let response = std::io::read_to_string(client).expect("an answer");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.ends_with("\r\n\r\nHello from Rust in Docker!\n"),
        "{response}"
    );
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!(!path.0.exists());
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let path = SocketPath::new("stale");
    drop(UnixListener::bind(&path.0).expect("a socket"));
    assert!(path.0.exists(), "std leaves the file behind");
    let _server = Server::start(&[("LISTEN", &path.listen())]);
    assert!(UnixStream::connect(&path.0).is_ok());
}

#[test]
fn a_live_unix_socket_and_a_plain_file_are_left_alone() {
    let path = SocketPath::new("live");
    let live = UnixListener::bind(&path.0).expect("a socket");
    let start = format!("error: cannot listen on {}: ", path.listen());
    let (code, _, stderr) = run_with("LISTEN", &path.listen());
    assert!(code == Some(1) && stderr.starts_with(&start), "{stderr}");
    assert!(UnixStream::connect(&path.0).is_ok());

    drop(live);
    fs::remove_file(&path.0).expect("the socket is there");
    fs::write(&path.0, "precious").expect("a file");
    let (code, _, stderr) = run_with("LISTEN", &path.listen());
    assert!(code == Some(1) && stderr.starts_with(&start), "{stderr}");
    assert_eq!(fs::read_to_string(&path.0).expect("the file"), "precious");
}
