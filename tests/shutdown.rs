//! No request is lost when the server stops, and nobody can keep it from stopping.

mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Client, GET, Server, SocketPath, wait_until, with_each_number_of_workers};

/// Enough to be more than one event of the event loop, and fewer than any backlog.
const MANY: usize = 100;

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

/// Sends a request from each client to a frozen server, then SIGTERM, and lets it go on.
fn assert_stop_answers_all(server: &mut Server, clients: &mut [Client], workers: &str) {
    clients.iter_mut().for_each(|client| client.send(GET));
    server.signal("TERM");
    server.thaw();
    for client in clients {
        assert_frozen_response(client, workers);
    }
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn requests_in_the_accept_queue_are_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        server.freeze();
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        assert_stop_answers_all(&mut server, &mut clients, workers);
    });
}

#[test]
fn requests_in_the_accept_queue_are_answered_above_the_cap() {
    let mut server = Server::start(&[("MAX_CONNECTIONS", "2")]);
    server.freeze();
    let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
    assert_stop_answers_all(&mut server, &mut clients, "1");
}

#[test]
fn unread_requests_on_kept_connections_are_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert!(!client.request(GET).closes());
        }
        server.freeze();
        assert_stop_answers_all(&mut server, &mut clients, workers);
    });
}

#[test]
fn unread_first_requests_on_silent_connections_are_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        // Connections are accepted in order, so after this all of them are.
        server.get("/livez");
        server.freeze();
        assert_stop_answers_all(&mut server, &mut clients, workers);
    });
}

#[test]
fn a_first_request_that_is_about_to_arrive_is_answered() {
    // A connection has some milliseconds for its first request. A try in which this test needs longer says
    // nothing; without that time, no try would succeed.
    let is_answered = || {
        let mut server = Server::start(&[]);
        let mut idle = server.connect();
        idle.request(GET);
        let mut fresh = server.connect();
        server.terminate();
        // From here on the server drains.
        idle.assert_closed();
        fresh.send(GET);
        let answer = fresh.read_to_end();
        assert_eq!(server.exit().code(), Some(0));
        answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    };
    assert!((0..50).any(|_| is_answered()));
}

#[test]
fn a_request_that_has_begun_is_answered() {
    with_each_number_of_workers(|workers| {
        let mut server = Server::start(&[("WORKERS", workers)]);
        let mut fresh = server.connect();
        fresh.send("GET /livez HT");
        let mut kept = server.connect();
        kept.request(GET);
        kept.send("GET /livez HT");
        let mut pipelined = server.connect();
        pipelined.send([GET, "GET /livez HT"].concat());
        pipelined.response();
        // A round trip each way, so that the server has read what was sent before.
        server.get("/livez");
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
        for (path, status) in [("/health", 503), ("/readyz", 503), ("/livez", 200)] {
            let response = server.get(path);
            assert_eq!(
                (response.status, response.closes()),
                (status, true),
                "{path}"
            );
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
    last.send("GET /livez HT");
    server.terminate();
    // Refused from some moment on, although the process is still there for the last request.
    wait_until("the listener is closed", || {
        TcpStream::connect(server.address)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
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
        client.send("GET /livez HT");
        server.get("/livez");
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
    let path = SocketPath::new("takes-nothing");
    let listen = path.listen();
    let variables = [
        ("LISTEN", listen.as_str()),
        ("WRITE_TIMEOUT", "1m"),
        ("SHUTDOWN_TIMEOUT", "200ms"),
    ];
    let mut server = Server::start(&variables);
    let _stalled = server.stall();
    server.terminate();
    assert_eq!(server.exit().code(), Some(1));
}

#[test]
fn clients_that_dawdle_end_by_their_own_limits_before_the_shutdown_timeout() {
    let path = SocketPath::new("dawdle");
    let listen = path.listen();
    let variables = [
        ("LISTEN", listen.as_str()),
        ("HEADER_TIMEOUT", "300ms"),
        // Not before the client is known to stall the server.
        ("WRITE_TIMEOUT", "5s"),
        ("SHUTDOWN_TIMEOUT", "1m"),
    ];
    let mut server = Server::start(&variables);
    let _stalled = server.stall();
    let mut late = server.connect();
    late.send("GET /livez HT");
    server.get("/livez");
    let started = Instant::now();
    server.terminate();
    assert_eq!(late.response().status, 408);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "not the default"
    );
    assert_eq!(server.exit().code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "not the default"
    );
}

#[test]
fn a_second_signal_exits_at_once_with_its_number() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let limits = [("HEADER_TIMEOUT", "1m"), ("SHUTDOWN_TIMEOUT", "1m")];
        let mut server = Server::start(&limits);
        let mut client = server.connect();
        client.send("GET /livez HT");
        server.get("/livez");
        server.terminate();
        server.signal(signal);
        assert_eq!(server.exit().code(), Some(code));
        let line = "warning: second signal received, exiting at once";
        assert_eq!(server.remaining_lines(), [line]);
    }
}

#[test]
fn a_zero_shutdown_timeout_cuts_off_at_once() {
    let mut server = Server::start(&[("SHUTDOWN_TIMEOUT", "0")]);
    let mut client = server.connect();
    client.send("GET /livez HT");
    server.get("/livez");
    server.terminate();
    assert_eq!(server.exit().code(), Some(1));
}

#[test]
fn a_stalled_client_gets_its_answers_when_it_reads_again() {
    let path = SocketPath::new("late");
    let listen = path.listen();
    let mut server = Server::start(&[("LISTEN", &listen)]);
    let body = server.get("/livez").body;
    let mut stalled = server.stall();
    server.terminate();
    let mut answers = Vec::new();
    // What it sent and the server did not read may have the connection reset.
    let _ = stalled.client.0.read_to_end(&mut answers);
    let answers = String::from_utf8(answers).expect("text");
    let last = answers
        .rsplit("HTTP/1.1 200 OK\r\n")
        .next()
        .expect("a last answer");
    assert!(last.contains("connection: close\r\n"), "{last}");
    assert!(last.ends_with(&format!("\r\n\r\n{body}")), "{last}");
    assert_eq!(server.exit().code(), Some(0));
}
