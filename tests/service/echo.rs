//! Requests as RFC 9112 has them, and as it does not, to a service that answers with the body.

use std::num::NonZeroUsize;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};

use crate::common::Client;
use crate::harness::{Server, get, limits, text};

test_with_one_worker_and_four!(
    a_valid_request_is_answered_with_its_body_and_the_connection_kept,
    a_valid_request_in_http_1_0_is_answered_and_the_connection_closed,
    pipelined_requests_are_answered_in_order,
    an_invalid_head_is_answered_400_and_the_connection_closed,
    an_invalid_body_is_an_error_to_its_handler_and_the_connection_closed,
    a_body_that_ends_early_is_an_error_to_its_handler,
);

async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.into_body().collect().await {
        Ok(body) => text(body.to_bytes()),
        Err(_) => {
            let mut response = text("broken");
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            response
        }
    }
}

/// Statuses and bodies of all responses until the server closes.
fn responses(client: &mut Client) -> Vec<(u16, String)> {
    let bytes = client.read_to_end().expect("an orderly close");
    let all = String::from_utf8(bytes).expect("text");
    let parse = |response: &str| {
        let (head, body) = response.split_once("\r\n\r\n").expect("a whole head");
        (head[2..5].parse().expect("a status"), body.to_owned())
    };
    // A request in HTTP/1.0 is answered in that version.
    all.split("HTTP/1.").skip(1).map(parse).collect()
}

/// Sends `request`, another one that is never to be answered, and the end of the stream.
fn responses_to(server: &Server, request: &str) -> Vec<(u16, String)> {
    let mut client = server.connect();
    client.send(request.to_owned() + &get("/smuggled"));
    client.half_close();
    responses(&mut client)
}

fn a_valid_request_is_answered_with_its_body_and_the_connection_kept(workers: NonZeroUsize) {
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = Server::start(workers, limits(), echo);
    for (body, request) in [
        ("", get("/")),
        ("", get("http://test/path?query")),
        ("", get("/path?query#")),
        ("", "\r\n\r\n".to_owned() + &get("/")),
        ("", "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n".into()),
        ("", "GET / HTTP/1.1\r\nHost:\r\n\r\n".into()),
        (
            "",
            "GET / HTTP/1.1\r\nhost: [::1]:80 \r\nName:\t value \r\n\r\n".into(),
        ),
        (
            "",
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        (
            "hello",
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello".into(),
        ),
        (
            "hello",
            "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 005\r\n\r\nhello".into(),
        ),
        (
            "hello",
            "PROPFIND / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello".into(),
        ),
        ("", [CHUNKED, "0\r\n\r\n"].concat()),
        ("hello", [CHUNKED, "5\r\nhello\r\n0\r\n\r\n"].concat()),
        (
            "hello world",
            [CHUNKED, "6\r\nhello \r\n0005\r\nworld\r\n000\r\n\r\n"].concat(),
        ),
        (
            "0123456789abcdef",
            [CHUNKED, "A\r\n0123456789\r\n6\r\nabcdef\r\n0\r\n\r\n"].concat(),
        ),
        // Section 7.1.1: extensions are ignored.
        (
            "hello",
            [
                CHUNKED,
                "5;name=value;other=\"a b\"\r\nhello\r\n0;last\r\n\r\n",
            ]
            .concat(),
        ),
        // Section 7.1.2: trailers may be discarded.
        (
            "hello",
            [
                CHUNKED,
                "5\r\nhello\r\n0\r\nDigest: abc\r\nOther: x\r\n\r\n",
            ]
            .concat(),
        ),
        (
            "hello",
            CHUNKED.replace("chunked", "Chunked") + "5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let mut client = server.connect();
        client.send(&request);
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, body),
            "{request:?}"
        );
        assert!(!answer.closes(), "{request:?}");
        assert_eq!(client.request(&get("/")).status, 200, "{request:?}");
    }
    let mut client = server.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head_response().status, 100);
    client.send("hello");
    assert_eq!(client.response().body, "hello");
    assert_eq!(client.request(&get("/")).status, 200);
}

fn a_valid_request_in_http_1_0_is_answered_and_the_connection_closed(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), echo);
    for (body, request) in [
        ("", "GET / HTTP/1.0\r\n\r\n"),
        ("", "GET http://test/ HTTP/1.0\r\nHost: test\r\n\r\n"),
        ("hello", "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"),
        // Section 10.1.1 of RFC 9110: an expectation in HTTP/1.0 is ignored.
        (
            "hello",
            "POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        ),
    ] {
        let mut client = server.connect();
        let answer = client.request(request);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, body),
            "{request:?}"
        );
        client.assert_closed();
    }
}

fn pipelined_requests_are_answered_in_order(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), echo);
    let mut client = server.connect();
    let bodies: Vec<String> = (0..100).map(|number| format!("body {number}")).collect();
    for (number, body) in bodies.iter().enumerate() {
        let length = body.len();
        client.send(if number % 2 == 0 {
            format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}")
        } else {
            format!(
                "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {length:x}\r\n{body}\r\n0\r\n\r\n"
            )
        });
    }
    client.half_close();
    for body in bodies {
        assert_eq!(client.response().body, body);
    }
    client.assert_closed();
}

fn an_invalid_head_is_answered_400_and_the_connection_closed(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), echo);
    for request in [
        "hello\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: test\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nName: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nName: a\0b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(
            responses_to(&server, request),
            [(400, String::new())],
            "{request:?}"
        );
    }
}

fn an_invalid_body_is_an_error_to_its_handler_and_the_connection_closed(workers: NonZeroUsize) {
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = Server::start(workers, limits(), echo);
    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        // No CRLF behind a size, or behind a chunk.
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello world\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nNa me: value\r\n\r\n",
    ] {
        let request = [CHUNKED, body].concat();
        assert_eq!(
            responses_to(&server, &request),
            [(422, "broken".into())],
            "{body:?}"
        );
    }
}

fn a_body_that_ends_early_is_an_error_to_its_handler(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), echo);
    for request in [
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 50\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 50\r\n\r\nhello",
        "POST / HTTP/1.0\r\nContent-Length: 50\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let mut client = server.connect();
        client.send(request);
        client.half_close();
        let answers = responses(&mut client);
        assert_eq!(answers, [(422, "broken".into())], "{request:?}");
    }
}
