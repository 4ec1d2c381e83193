//! HTTP as it is spoken around any service. Malformed and ambiguous requests have one response at most,
//! then the connection is closed, and nothing behind them is ever taken for a request.
//!
//! Where RFC 9112 leaves a choice, the comment says what hyper does with it.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{GET, Server};

/// What would be smuggled: it must never be answered.
const SMUGGLED: &str = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";

/// Sends `request` with a second request behind it, and returns the statuses of all responses.
fn statuses(server: &Server, request: &str) -> Vec<u16> {
    let mut client = server.connect();
    client.send([request, SMUGGLED].concat());
    client
        .0
        .shutdown(std::net::Shutdown::Write)
        .expect("a half-close");
    let responses = client.read_to_end().expect("an orderly close");
    let responses = String::from_utf8(responses).expect("text");
    responses
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|response| response[..3].parse().expect("a status"))
        .collect()
}

#[test]
fn malformed_heads_are_answered_400_and_closed() {
    let server = Server::start(&[]);
    for request in [
        "\0\0\0\0\r\n\r\n",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: test\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: test\r\n\r\n",
        "GET / http/1.1\r\nHost: test\r\n\r\n",
        "GET / FTP/1.1\r\nHost: test\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nName\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n: value\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nNa me: value\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nName: a\0b\r\n\r\n",
        // RFC 9112 section 5.1: no space before the colon.
        "GET / HTTP/1.1\r\nHost: test\r\nContent-Length : 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        // Section 5.2: obsolete line folding.
        "GET / HTTP/1.1\r\nHost: test\r\nName: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: test\r\n\r\n",
        // Section 2.2: a bare CR.
        "GET / HTTP/1.1\r\nHost: test\r\nName: a\rb\r\n\r\n",
        "GET / HTTP/1.1\rHost: test\r\n\r\n",
        // Section 6.3: a length that cannot be trusted.
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5, 6\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0x5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(statuses(&server, request), [400], "{request:?}");
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_client_that_sends_on_after_a_refusal_is_not_reset() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let started = Instant::now();
        let mut client = server.connect();
        client.send("hello\r\n\r\n");
        assert_eq!(client.response().status, 400);
        client.assert_closed();
        // What is sent to a socket that is closed brings about a reset, at which the next write fails.
        let is_open = (0..2).all(|_| client.0.write_all(b"x").is_ok());
        // The server reads on for a second, in which this machine may have paused.
        assert!(is_open || started.elapsed() > Duration::from_millis(500));
    }
}

#[test]
fn ambiguous_bodies_are_answered_once_and_closed() {
    let server = Server::start(&[]);
    for request in [
        // Section 6.3: Transfer-Encoding wins, and the connection is closed after the response.
        "GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        // Chunk sizes that overflow, or are none.
        "GET /livez HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "GET /livez HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "GET /livez HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ] {
        assert_eq!(statuses(&server, request), [200], "{request:?}");
    }
}

#[test]
fn a_body_that_arrived_whole_is_skipped_and_the_next_request_answered() {
    let server = Server::start(&[]);
    for request in [
        "GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
        // Section 6.3: equal lengths may be taken as one, and are.
        "GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "GET /livez HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(statuses(&server, request), [200, 200], "{request:?}");
    }
}

#[test]
fn a_bare_line_feed_ends_a_line() {
    // Section 2.2 allows it, and hyper does it; so there are two requests here.
    let server = Server::start(&[]);
    assert_eq!(
        statuses(&server, "GET /livez HTTP/1.1\nHost: test\n\n"),
        [200, 200]
    );
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    // Section 2.2: at least one should be.
    let server = Server::start(&[]);
    assert_eq!(
        statuses(&server, "\r\n\r\nGET /livez HTTP/1.1\r\nHost: test\r\n\r\n"),
        [200, 200]
    );
}

#[test]
fn http_2_is_not_spoken() {
    let server = Server::start(&[]);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut client = server.connect();
    client.send(preface);
    client.assert_closed();
    // Nor is an upgrade to it, which section 7.8 of RFC 9110 lets a server ignore.
    let mut client = server.connect();
    let response = client.request(
        "GET /livez HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(response.status, 200);
}

#[test]
fn tls_is_answered_400_and_closed() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice());
    let response = client.response();
    assert_eq!(response.status, 400);
    response.assert_date();
    client.assert_closed();
}

#[test]
fn no_100_is_sent_for_a_body_that_nobody_reads() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(
        "GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    // The final status comes first: RFC 9110 section 10.1.1.
    assert_eq!(client.response().status, 200);
    client.assert_closed();
}

#[test]
fn one_valid_host_is_required() {
    let server = Server::start(&[]);
    for (hosts, status) in [
        ("Host: test\r\n", 200),
        ("Host: [::1]:8080\r\n", 200),
        ("Host:\r\n", 200),
        ("", 400),
        ("Host: a\r\nHost: b\r\n", 400),
        ("Host: a\r\nhost: a\r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: a/b\r\n", 400),
        ("Host: a@b\r\n", 400),
        ("Host: a, b\r\n", 400),
    ] {
        let response = server
            .connect()
            .request(&format!("GET /livez HTTP/1.1\r\n{hosts}\r\n"));
        assert_eq!(response.status, status, "{hosts:?}");
        response.assert_date();
        assert_eq!(response.closes(), status == 400, "{hosts:?}");
    }
}

#[test]
fn http_1_0_needs_no_host_and_is_closed_after_the_answer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let response = client.request("GET /livez HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, &response.head[..8]), (200, "HTTP/1.0"));
    client.assert_closed();
    assert_eq!(
        server
            .connect()
            .request("GET /livez HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")
            .status,
        400
    );
}

#[test]
fn http_1_0_is_kept_alive_when_it_asks() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..2 {
        let response = client.request("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_connection_carries_many_requests_until_one_says_close() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        assert!(!client.request(GET).closes());
    }
    let last = client.request("GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(last.closes());
    client.assert_closed();
}
