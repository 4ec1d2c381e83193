//! No request is lost when the server stops, and nobody can keep it from stopping.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use common::{Client, Server};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
/// Enough to be more than one event of the event loop, and fewer than any backlog.
const MANY: usize = 100;

/// Every promise holds with one worker as with several.
fn with_each_number_of_workers(test: impl Fn(&str)) {
    for workers in ["1", "4"] {
        test(workers);
    }
}

/// Stops the process, so that what clients do next reaches the kernel and not the server.
fn freeze(server: &Server) {
    server.signal("STOP");
    let stat = format!("/proc/{}/stat", server.pid());
    loop {
        let stat = fs::read_to_string(&stat).expect("the process exists");
        if stat
            .rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('T'))
        {
            return;
        }
        thread::yield_now();
    }
}

/// Sends SIGTERM to a frozen server and lets it go on.
fn terminate_frozen(server: &Server) {
    server.signal("TERM");
    server.signal("CONT");
}

fn assert_last_response(client: &mut Client) {
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.closes(), "{}", response.head);
    client.assert_closed();
}

/// One event loop sees the signal before the requests that came before it. Of several, another may
/// answer while the signal is on its way: then the response does not say that it is the last.
fn assert_frozen_response(client: &mut Client, workers: &str) {
    match workers {
        "1" => assert_last_response(client),
        _ => {
            assert_eq!(client.response().status, 200);
            client.assert_closed();
        }
    }
}

#[test]
fn requests_in_the_accept_queue_are_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        freeze(&server);
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(GET));
        terminate_frozen(&server);
        clients
            .iter_mut()
            .for_each(|client| assert_frozen_response(client, workers));
        assert_eq!(server.exit().code(), Some(0));
    });
}

#[test]
fn requests_in_the_accept_queue_are_answered_above_the_cap() {
    let mut server = Server::start(&[("MAX_CONNECTIONS", "2")]);
    freeze(&server);
    let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    terminate_frozen(&server);
    clients.iter_mut().for_each(assert_last_response);
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn unread_requests_on_kept_connections_are_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert!(!client.request(GET).closes());
        }
        freeze(&server);
        clients.iter_mut().for_each(|client| client.send(GET));
        terminate_frozen(&server);
        clients
            .iter_mut()
            .for_each(|client| assert_frozen_response(client, workers));
        assert_eq!(server.exit().code(), Some(0));
    });
}

#[test]
fn unread_first_requests_on_silent_connections_are_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        // Connections are accepted in order, so after this all of them are.
        server.get("/");
        freeze(&server);
        clients.iter_mut().for_each(|client| client.send(GET));
        terminate_frozen(&server);
        clients
            .iter_mut()
            .for_each(|client| assert_frozen_response(client, workers));
        assert_eq!(server.exit().code(), Some(0));
    });
}

#[test]
fn a_request_that_has_begun_is_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        let mut fresh = server.connect();
        fresh.send("GET / HT");
        let mut kept = server.connect();
        kept.request(GET);
        kept.send("GET / HT");
        let mut pipelined = server.connect();
        pipelined.send([GET, "GET / HT"].concat());
        pipelined.response();
        // A round trip each way, so that the server has read what was sent before.
        server.get("/");
        server.terminate();
        for client in [&mut fresh, &mut kept, &mut pipelined] {
            client.send("TP/1.1\r\nHost: test\r\n\r\n");
            assert_last_response(client);
        }
        assert_eq!(server.exit().code(), Some(0));
    });
}

#[test]
fn silent_and_idle_connections_are_closed_at_once() {
    with_each_number_of_workers(|workers| {
        let limits = [
            ("WORKERS", workers),
            ("HEADER_TIMEOUT", "1m"),
            ("SHUTDOWN_TIMEOUT", "1m"),
        ];
        let mut server = Server::start(&limits);
        let mut silent = server.connect();
        let mut idle = server.connect();
        idle.request(GET);
        server.terminate();
        silent.assert_closed();
        idle.assert_closed();
        assert_eq!(server.exit().code(), Some(0));
    });
}

#[test]
fn readiness_fails_and_responses_say_close_while_the_delay_lasts() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers), ("SHUTDOWN_DELAY", "1m")]);
        let mut kept = server.connect();
        kept.request(GET);
        let mut silent = server.connect();
        server.terminate();
        for (path, status, body) in [
            ("/health", 503, "draining"),
            ("/readyz", 503, "draining"),
            ("/livez", 200, "alive"),
            ("/", 200, "Hello from Rust in Docker!\n"),
        ] {
            let response = server.get(path);
            assert_eq!(
                (response.status, response.body.as_str()),
                (status, body),
                "{path}"
            );
            assert!(response.closes(), "{path}");
        }
        for client in [&mut kept, &mut silent] {
            client.send(GET);
            assert_last_response(client);
        }
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(143));
    });
}

#[test]
fn the_listener_is_closed_after_the_delay() {
    let variables = [
        ("SHUTDOWN_DELAY", "1ms"),
        ("HEADER_TIMEOUT", "1m"),
        ("SHUTDOWN_TIMEOUT", "1m"),
    ];
    let mut server = Server::start(&variables);
    let mut last = server.connect();
    last.send("GET / HT");
    server.terminate();
    // Refused from some moment on, although the process is still there for the last request.
    loop {
        match std::net::TcpStream::connect(server.address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            _ => thread::yield_now(),
        }
    }
    last.send("TP/1.1\r\nHost: test\r\n\r\n");
    assert_last_response(&mut last);
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn a_late_head_is_cut_off_when_the_shutdown_timeout_passes() {
    with_each_number_of_workers(|workers| {
        let limits = [
            ("WORKERS", workers),
            ("HEADER_TIMEOUT", "1m"),
            ("SHUTDOWN_TIMEOUT", "200ms"),
        ];
        let mut server = Server::start(&limits);
        let mut client = server.connect();
        client.send("GET / HT");
        server.get("/");
        server.terminate();
        assert_eq!(server.exit().code(), Some(1));
        let lines = server.remaining_lines();
        assert_eq!(
            lines,
            ["warning: SHUTDOWN_TIMEOUT passed, 1 connections cut off"]
        );
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_when_the_shutdown_timeout_passes() {
    let mut server = Server::start(&[("WRITE_TIMEOUT", "1m"), ("SHUTDOWN_TIMEOUT", "200ms")]);
    let _stalled = stalled(&server);
    server.terminate();
    assert_eq!(server.exit().code(), Some(1));
}

#[test]
fn clients_that_dawdle_end_by_their_own_limits_before_the_shutdown_timeout() {
    let variables = [
        ("HEADER_TIMEOUT", "300ms"),
        ("WRITE_TIMEOUT", "300ms"),
        ("SHUTDOWN_TIMEOUT", "1m"),
    ];
    let mut server = Server::start(&variables);
    let _stalled = stalled(&server);
    let mut late = server.connect();
    late.send("GET / HT");
    server.get("/");
    server.terminate();
    assert_eq!(late.response().status, 408);
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn a_second_signal_exits_at_once_with_its_number() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let limits = [("HEADER_TIMEOUT", "1m"), ("SHUTDOWN_TIMEOUT", "1m")];
        let mut server = Server::start(&limits);
        let mut client = server.connect();
        client.send("GET / HT");
        server.get("/");
        server.terminate();
        server.signal(signal);
        assert_eq!(server.exit().code(), Some(code));
    }
}

#[test]
fn a_zero_shutdown_timeout_cuts_off_at_once() {
    let mut server = Server::start(&[("SHUTDOWN_TIMEOUT", "0")]);
    let mut client = server.connect();
    client.send("GET / HT");
    server.get("/");
    server.terminate();
    assert_eq!(server.exit().code(), Some(1));
}

/// A client that sends requests until the server takes no more, and reads no answer.
fn stalled(server: &Server) -> Client {
    let mut client = server.connect();
    client
        .0
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout can be set");
    while client.0.write(GET.repeat(100).as_bytes()).is_ok() {}
    client
        .0
        .set_nonblocking(true)
        .expect("sockets can be nonblocking");
    let peeked = client.0.peek(&mut [0]);
    client
        .0
        .set_nonblocking(false)
        .expect("sockets can be blocking");
    assert!(matches!(peeked, Ok(1)), "answers are waiting");
    client
}

#[test]
fn a_stalled_client_gets_its_answers_when_it_reads_again() {
    let mut server = Server::start(&[]);
    let mut client = stalled(&server);
    server.terminate();
    let mut answers = Vec::new();
    let _ = client.0.read_to_end(&mut answers);
    let answers = String::from_utf8(answers).expect("text");
    let last = answers
        .rsplit("HTTP/1.1 200 OK\r\n")
        .next()
        .expect("a last answer");
    assert!(last.contains("connection: close\r\n"), "{last}");
    assert!(last.ends_with("Hello from Rust in Docker!\n"), "{last}");
    assert_eq!(server.exit().code(), Some(0));
}
