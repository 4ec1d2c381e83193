//! What the log says, and that it never stops the server.

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use common::{
    Client, GET, PATIENCE, Process, Server, SocketPath, limit_descriptors, read_lines, wait_until,
};

#[test]
fn info_has_no_line_for_a_request() {
    let mut server = Server::start(&[]);
    server.get("/health");
    server.get("/missing");
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(
        server.remaining_lines(),
        [
            "Ready: WORKERS=1, MAX_CONNECTIONS=1000",
            "Shutdown signal received, finishing requests...",
            "All requests finished, exiting",
        ]
    );
}

#[test]
fn a_cap_above_the_hard_limit_on_descriptors_is_lowered_with_one_warning() {
    // Beside connections the process has at least ten descriptors: five of its own, and five for a worker.
    let (cap, _) = cap_and_warning("ulimit -n 500", "1");
    let own = 500 - cap;
    assert!(own >= 10, "{own}");
    for (workers, limit, expected) in [
        ("1", own + 999, 999),
        ("1", own + 1000, 1000),
        ("3", own + 10 + 999, 999),
        ("3", own + 10 + 1000, 1000),
    ] {
        let (cap, warning) = cap_and_warning(&format!("ulimit -n {limit}"), workers);
        assert_eq!((cap, warning), (expected, expected < 1000), "{workers}");
    }
    // A descriptor that the process has from its start counts, as one does that its service opens.
    let (cap, _) = cap_and_warning("exec 3</dev/null; ulimit -n 500", "1");
    assert_eq!(cap, 500 - own - 1);
}

/// Runs a server after `setup`, and gives the cap on connections that it logs, and whether there was
/// a warning, with the same number.
fn cap_and_warning(setup: &str, workers: &str) -> (usize, bool) {
    let mut command = Server::command_after(setup);
    command.env("LISTEN", "127.0.0.1:0").env("WORKERS", workers);
    let mut server = Server::spawn(command);
    assert_eq!(server.get("/livez").status, 200);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    let lines = server.remaining_lines();
    let ready = format!("Ready: WORKERS={workers}, MAX_CONNECTIONS=");
    let cap = lines.iter().find_map(|line| line.strip_prefix(&ready));
    let cap = cap.expect("the server says what its cap is");
    let warnings: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("open files"))
        .collect();
    let warning = format!(
        "warning: MAX_CONNECTIONS=1000 is more than the limit on open files allows, which is {cap}"
    );
    assert!(
        warnings.is_empty() || warnings == [&warning],
        "{warnings:?}"
    );
    (cap.parse().expect("a number"), !warnings.is_empty())
}

#[test]
fn debug_has_a_line_for_each_request_with_its_peer_and_an_escaped_path() {
    let mut server = Server::start(&[("RUST_LOG", "debug")]);
    for (request, line) in [
        ("GET /livez", r#"GET "/livez" "#),
        ("GET /livez?token=secret", r#"GET "/livez" "#),
        ("HEAD /livez", r#"HEAD "/livez" "#),
        (r#"GET /a"b"#, r#"GET "/a\"b" "#),
        ("GET /ä", r#"GET "/\xc3\xa4" "#),
    ] {
        let mut client = server.connect();
        let peer = client.0.local_addr().expect("an address");
        let response = client.request(&format!("{request} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let (status, bytes) = (response.status, response.body.len());
        let line = format!("{line}{status} {bytes} bytes ");
        let logged = server.line(&line);
        let rest = logged.strip_prefix(&line).expect("it stands first");
        let micros = rest
            .strip_suffix(&format!(" us {peer}"))
            .expect("the peer stands last");
        assert!(micros.parse::<u64>().is_ok(), "{logged}");
    }
}

#[test]
fn an_ipv4_client_of_the_dual_stack_socket_is_logged_as_one() {
    let mut command = Server::command();
    command.env("PORT", "0").env("RUST_LOG", "debug");
    let mut server = Server::spawn(command);
    let mut client = server.connect();
    let peer = client.0.local_addr().expect("an address");
    assert!(peer.is_ipv4());
    client.request(GET);
    let line = server.line("GET \"/livez\" 200 ");
    assert!(line.ends_with(&format!(" us {peer}")), "{line}");
    client.send("nonsense\r\n\r\n");
    let line = server.line(": invalid HTTP");
    assert!(line.starts_with(&format!("{peer}: ")), "{line}");
}

#[test]
fn debug_tells_why_a_connection_was_given_up() {
    let variables = [("RUST_LOG", "debug"), ("HEADER_TIMEOUT", "100ms")];
    let mut server = Server::start(&variables);
    let mut client = server.connect();
    client.send("GET / HT");
    server.line(": request head not whole in time");
    server.connect().send("nonsense\r\n\r\n");
    server.line(": invalid HTTP");
}

#[test]
fn a_pipe_that_nobody_reads_stops_neither_the_server_nor_its_exit() {
    let mut command = Server::command();
    command
        .env("LISTEN", "127.0.0.1:0")
        .env("RUST_LOG", "debug");
    let mut server = Server::spawn_unread(command);
    let mut client = server.connect();
    // Far more lines than a pipe holds, 64 KiB, and the queue behind it.
    for _ in 0..10_000 {
        let response = client.request("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(response.status, 200);
    }
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    let mut log = String::new();
    server.stderr().read_to_string(&mut log).expect("text");
    assert!(
        log.contains("GET \"/livez\" 200 "),
        "the pipe kept what came first"
    );
}

#[test]
fn dropped_lines_are_counted() {
    let mut command = Server::command();
    command
        .env("LISTEN", "127.0.0.1:0")
        .env("RUST_LOG", "debug");
    let mut server = Server::spawn_unread(command);
    let mut client = server.connect();
    let request = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";
    for _ in 0..10_000 {
        client.request(request);
    }
    let (mut written, mut dropped) = (0, 0);
    let lines = read_lines(server.stderr());
    // The lines in the queue are written as soon as there is a reader, and then the count of dropped ones.
    while written + dropped < 10_000 {
        let line = lines.recv_timeout(PATIENCE).expect("the log goes on");
        let count = line.strip_prefix("warning: ");
        if let Some(count) = count.and_then(|count| count.strip_suffix(" log lines dropped")) {
            dropped += count.parse::<usize>().expect("a number");
        } else if line.starts_with("GET ") {
            written += 1;
        }
    }
    assert_eq!(written + dropped, 10_000);
    assert!(dropped > 0);
}

#[test]
fn a_pipe_that_is_full_at_info_does_not_stop_the_exit() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut command = Server::command();
    let path = SocketPath::new("full");
    command
        .env("LISTEN", path.listen())
        .stderr(writer.try_clone().expect("a second handle"));
    let mut server = Process::spawn(command);
    path.wait_until_served();
    // Another writer of the same log fills the pipe: it holds 16 pages (pipe(7)), one of them has the
    // server's first lines, and the last write here waits for ever.
    let pages = Arc::new(AtomicUsize::new(0));
    let written = pages.clone();
    thread::spawn(move || {
        while writer.write_all(&[b'x'; 4096]).is_ok() {
            written.fetch_add(1, Relaxed);
        }
    });
    wait_until("the pipe is full", || pages.load(Relaxed) >= 15);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    drop(reader);
}

#[test]
fn a_log_that_is_gone_does_not_stop_the_server() {
    for level in ["info", "debug"] {
        let mut command = Server::command();
        command.env("LISTEN", "127.0.0.1:0").env("RUST_LOG", level);
        let mut server = Server::spawn_unread(command);
        drop(server.stderr());
        for _ in 0..100 {
            assert_eq!(server.get("/livez").status, 200);
        }
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
    }
}

#[test]
fn levels_below_info_say_nothing_of_a_good_life() {
    for level in ["off", "error", "warn"] {
        let path = SocketPath::new(level);
        let (mut log, writer) = std::io::pipe().expect("a pipe");
        let mut command = Server::command();
        command
            .env("LISTEN", path.listen())
            .env("RUST_LOG", level)
            .stderr(writer);
        let mut server = Process::spawn(command);
        path.wait_until_served();
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0), "{level}");
        let mut lines = String::new();
        log.read_to_string(&mut lines).expect("text");
        assert_eq!(lines, "", "{level}");
    }
}

#[test]
fn off_says_nothing_of_an_error() {
    let path = SocketPath::new("off-error");
    let (mut log, writer) = std::io::pipe().expect("a pipe");
    let mut command = Server::command();
    command
        .env("LISTEN", path.listen())
        .env("HEADER_TIMEOUT", "1m")
        .env("RUST_LOG", "off")
        .stderr(writer);
    let mut server = Process::spawn(command);
    path.wait_until_served();
    limit_descriptors(server.pid(), 24);
    // More than that: the last of them are accepted after an error.
    let mut clients: Vec<_> = (0..48).map(|_| Client::connect_unix(&path.0)).collect();
    for client in &mut clients {
        client.send("GET /livez HT");
    }
    for client in &mut clients {
        client.send("TP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).expect("text");
    assert_eq!(lines, "");
}
