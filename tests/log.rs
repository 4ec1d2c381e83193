//! What the log says, and that it never stops the server.

mod common;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use common::Server;

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
fn a_cap_above_the_descriptor_limit_is_warned_of_once() {
    // Beside connections: 4 files, and 4 for each worker.
    for (workers, limit, warned) in [
        ("1", 1007, true),
        ("1", 1008, false),
        ("3", 1015, true),
        ("3", 1016, false),
    ] {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {limit}; exec \"$0\"")])
            .arg(common::server_binary())
            .env_clear()
            .env("LISTEN", "127.0.0.1:0")
            .env("WORKERS", workers)
            .env("HEADER_TIMEOUT", "300ms");
        let mut server = Server::spawn(command);
        // The limit is looked at a moment after start, and this takes longer.
        server.connect().assert_closed();
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
        let expected = format!(
            "warning: MAX_CONNECTIONS=1000 needs {} open files, and the limit is {limit}",
            limit + 1
        );
        let lines = server.remaining_lines();
        let warnings = lines.iter().filter(|line| **line == expected).count();
        assert_eq!(warnings, usize::from(warned), "{lines:?}");
    }
}

#[test]
fn debug_has_a_line_a_request_with_peer_and_escapes() {
    let mut server = Server::start(&[("RUST_LOG", "debug")]);
    for (request, line) in [
        ("GET / HTTP/1.1", "GET \"/\" 200 27 bytes "),
        (
            "GET /health?token=secret HTTP/1.1",
            "GET \"/health\" 200 7 bytes ",
        ),
        ("HEAD / HTTP/1.1", "HEAD \"/\" 200 0 bytes "),
        ("POST /livez HTTP/1.1", "POST \"/livez\" 405 19 bytes "),
        ("GET /a\"b HTTP/1.1", "GET \"/a\\\"b\" 404 10 bytes "),
    ] {
        let mut client = server.connect();
        let peer = client.0.local_addr().expect("an address");
        client.request(&format!("{request}\r\nHost: test\r\n\r\n"));
        let logged = server.line(line);
        let rest = logged.strip_prefix(line).expect("nothing stands before it");
        let micros = rest
            .strip_suffix(&format!(" us {peer}"))
            .expect("the peer stands last");
        assert!(micros.parse::<u64>().is_ok(), "{logged}");
    }
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
    let mut stderr = BufReader::new(server.stderr());
    // What waited is written as soon as there is a reader; then this line finds a place again.
    while written + dropped < 10_000 {
        let mut line = String::new();
        assert!(
            stderr.read_line(&mut line).expect("text") > 0,
            "the log ended"
        );
        let count = line.strip_prefix("warning: ");
        if let Some(count) = count.and_then(|count| count.strip_suffix(" log lines dropped\n")) {
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
    let path = env::temp_dir().join(format!("scratch-server-full-{}", std::process::id()));
    command
        .env("LISTEN", format!("unix:{}", path.display()))
        .stderr(writer.try_clone().expect("a second handle"));
    let mut child = command.spawn().expect("the server starts");
    while UnixStream::connect(&path).is_err() {
        assert!(
            child.try_wait().expect("a child").is_none(),
            "the server has ended"
        );
        thread::yield_now();
    }
    // Another writer of the same log fills the pipe: it holds 16 pages (pipe(7)), one of them has the
    // server's first lines, and the last write here waits for ever.
    let pages = Arc::new(AtomicUsize::new(0));
    let written = pages.clone();
    thread::spawn(move || {
        while writer.write_all(&[b'x'; 4096]).is_ok() {
            written.fetch_add(1, Relaxed);
        }
    });
    while pages.load(Relaxed) < 15 {
        thread::yield_now();
    }
    common::kill("TERM", child.id());
    assert_eq!(child.wait().expect("the server ends").code(), Some(0));
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
        let path = env::temp_dir().join(format!("scratch-server-{level}-{}", std::process::id()));
        let mut command = Server::command();
        command
            .env("LISTEN", format!("unix:{}", path.display()))
            .env("RUST_LOG", level);
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        while UnixStream::connect(&path).is_err() {
            assert!(
                child.try_wait().expect("a child").is_none(),
                "the server has ended"
            );
            thread::yield_now();
        }
        common::kill("TERM", child.id());
        let output = child.wait_with_output().expect("the server ends");
        assert_eq!(
            (output.status.code(), output.stderr),
            (Some(0), Vec::new()),
            "{level}"
        );
    }
}
