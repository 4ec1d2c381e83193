//! The server as a process: its arguments, its environment, its exit codes and what it prints.

mod common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use common::elf::assert_static;
use common::{
    Client, GET, Process, Server, SocketPath, server_binary, with_each_number_of_workers,
};
use socket2::{Domain, Socket, Type};

fn run_with(variable: &str, value: &str) -> (Option<i32>, String, String) {
    let mut command = Server::command();
    command.env(variable, value);
    Process::run(command)
}

#[test]
fn the_binary_is_static() {
    assert_static(&server_binary());
}

#[test]
fn help_and_version_are_printed() {
    let mut command = Server::command();
    command.arg("--help");
    let (code, stdout, stderr) = Process::run(command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for variable in [
        "LISTEN",
        "PORT",
        "SOCKET_MODE",
        "WORKERS",
        "MAX_CONNECTIONS",
        "HEADER_TIMEOUT",
        "IDLE_TIMEOUT",
        "READ_TIMEOUT",
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
    assert_eq!(Process::run(command), (Some(0), version, String::new()));
}

#[test]
fn any_other_argument_is_named() {
    for arguments in [vec!["--verbose"], vec!["--help", "--verbose"]] {
        let mut command = Server::command();
        command.args(arguments);
        let line = "error: argument \"--verbose\": expected --help, --version or none\n";
        assert_eq!(
            Process::run(command),
            (Some(2), String::new(), line.to_owned())
        );
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
            "SOCKET_MODE",
            "rw-rw-rw-",
            "SOCKET_MODE=\"rw-rw-rw-\": expected three octal digits, such as 660 or 0666",
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
fn a_port_that_is_taken_in_one_family_is_not_served_in_the_other() {
    for any in [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Ipv6Addr::UNSPECIFIED.into(),
    ] {
        let address = SocketAddr::new(any, 0);
        let taken = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let taken = taken.expect("a socket");
        if any.is_ipv6() {
            taken.set_only_v6(true).expect("an option of IPv6");
        }
        taken.bind(&address.into()).expect("a free port");
        taken.listen(1).expect("it is bound");
        let bound = taken.local_addr().expect("an address").as_socket();
        let port = bound.expect("of TCP").port();
        let (code, _, stderr) = run_with("PORT", &port.to_string());
        assert_eq!(code, Some(1), "{any}");
        let start = format!("error: cannot listen on :{port}: Address");
        assert!(stderr.starts_with(&start), "{stderr}");
    }
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
fn workers_that_cannot_start_are_one_line_and_exit_code_1() {
    for (workers, limit) in [("20", "64"), ("5000", "1024")] {
        let mut command = Server::command_after(&format!("ulimit -n {limit}"));
        command
            .env("LISTEN", "127.0.0.1:0")
            .env("WORKERS", workers)
            // Not the line of the start.
            .env("RUST_LOG", "error");
        let (code, stdout, stderr) = Process::run(command);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        // EMFILE, which each C library has its own words for.
        let is_told = stderr.starts_with("error: cannot start the workers: ")
            && stderr.ends_with(" (os error 24)\n");
        assert!(is_told && stderr.lines().count() == 1, "{stderr}");
    }
}

#[test]
fn auto_is_one_worker_per_usable_cpu() {
    let threads = |setup: &str, workers: &str| {
        let mut command = Server::command_after(setup);
        command.env("LISTEN", "127.0.0.1:0").env("WORKERS", workers);
        Server::spawn(command).threads()
    };
    let usable = thread::available_parallelism().expect("a number of CPUs");
    assert_eq!(threads(":", "auto"), threads(":", &usable.to_string()));
    let one_cpu = "read -r _ cpus < <(grep Cpus_allowed_list /proc/self/status); \
        taskset --cpu-list --pid \"${cpus%%[-,]*}\" $$ >/dev/null";
    assert_eq!(threads(one_cpu, "auto"), threads(":", "1"));
}

#[test]
fn sigint_stops_as_sigterm_does() {
    let mut server = Server::start(&[]);
    server.signal("INT");
    assert_eq!(server.exit().code(), Some(0));
}

/// Without SO_REUSEADDR the kernel refuses that for a minute, until TIME_WAIT is over.
#[test]
fn a_port_is_bound_again_although_the_server_closed_a_connection_of_it_just_now() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.send("GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.assert_closed();
    // The side that closes first is the one in TIME_WAIT, so the client closes last.
    drop(client);
    let address = server.address.to_string();
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    let server = Server::start(&[("LISTEN", &address)]);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let path = SocketPath::new("served");
    let mut server = Server::start(&[("LISTEN", &path.listen())]);
    let mut client = UnixStream::connect(&path.0).expect("the server accepts");
    let request = b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut client, request).expect("the server reads");
    let response = std::io::read_to_string(client).expect("an answer");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!(!path.0.exists());
}

#[test]
fn a_unix_socket_has_the_permissions_of_socket_mode_or_of_the_umask() {
    for (umask, mode, permissions) in [
        ("077", Some("666"), 0o666),
        ("077", Some("0666"), 0o666),
        ("000", Some("600"), 0o600),
        ("022", Some("770"), 0o770),
        ("022", Some("000"), 0o000),
        ("022", Some(""), 0o755),
        ("022", None, 0o755),
        ("117", None, 0o660),
    ] {
        let path = SocketPath::new("mode");
        let mut command = Server::command_after(&format!("umask {umask}"));
        command.env("LISTEN", path.listen());
        if let Some(mode) = mode {
            command.env("SOCKET_MODE", mode);
        }
        let _server = Server::spawn(command);
        let metadata = fs::metadata(&path.0).expect("the socket");
        assert_eq!(
            metadata.permissions().mode() & 0o777,
            permissions,
            "{umask} {mode:?}"
        );
    }
}

#[test]
fn socket_mode_means_nothing_to_tcp() {
    let server = Server::start(&[("SOCKET_MODE", "600")]);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_server_that_stops_leaves_the_socket_of_its_successor() {
    with_each_number_of_workers(|workers| {
        let path = SocketPath::new("successor");
        let listen = path.listen();
        let variables = [("LISTEN", listen.as_str()), ("WORKERS", workers)];
        let mut first = Server::start(&variables);
        fs::remove_file(&path.0).expect("the socket is there");
        let mut second = Server::start(&variables);
        first.signal("TERM");
        assert_eq!(first.exit().code(), Some(0));
        let client = UnixStream::connect(&path.0);
        drop(client.expect("the successor accepts"));
        second.signal("TERM");
        assert_eq!(second.exit().code(), Some(0));
        assert!(!path.0.exists());
    });
}

#[test]
fn a_server_that_stops_leaves_a_file_that_is_not_its_socket() {
    let path = SocketPath::new("file");
    let mut server = Server::start(&[("LISTEN", &path.listen())]);
    fs::remove_file(&path.0).expect("the socket is there");
    fs::write(&path.0, "precious").expect("a file");
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(fs::read_to_string(&path.0).expect("the file"), "precious");
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

#[test]
fn every_loopback_address_reaches_the_default_endpoint() {
    let mut command = Server::command();
    command.env("PORT", "0");
    let server = Server::spawn(command);
    let port = server.address.port();
    for address in ["127.0.0.1", "::1"] {
        let address = std::net::SocketAddr::new(address.parse().unwrap(), port);
        // A kernel without IPv6 has no ::1 to connect to.
        if std::net::TcpListener::bind((address.ip(), 0)).is_ok() {
            let mut client = Client::connect(address);
            let response = client.request(GET);
            assert_eq!(response.status, 200, "{address}");
        }
    }
}
