//! Bodies of requests, read or not: the connection stays in step, or says that it closes.

use std::future::ready;
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use scratch_server::{Drained, Limits};
use tokio::task::spawn_local;

use crate::common::PATIENCE;
use crate::harness::{Server, get, limits, text};
use crate::sync::Count;

test_with_one_worker_and_four!(
    a_handler_that_reads_its_body_keeps_the_connection_in_step,
    a_body_above_the_limit_of_its_handler_is_refused_and_the_connection_closed,
    a_handler_reads_its_body_after_the_100_that_it_asks_for,
    an_answer_says_close_exactly_when_the_connection_closes,
    a_connection_is_idle_after_a_body_that_was_read,
    a_body_may_be_read_after_the_answer,
    a_body_that_is_read_after_the_answer_has_an_end,
);

/// The head of a `POST`, with these fields.
fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n")
}

/// Answers with the body of the request, if it has no more than ten bytes.
async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match Limited::new(request.into_body(), 10).collect().await {
        Ok(body) => text(body.to_bytes()),
        Err(error) => {
            let mut response = text(error.to_string());
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        }
    }
}

fn a_handler_that_reads_its_body_keeps_the_connection_in_step(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), echo);
    let mut client = server.connect();
    for request in [
        post("Content-Length: 5") + "hello",
        post("Transfer-Encoding: chunked") + "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ] {
        // In one piece, with a pipelined request behind it.
        client.send(request.clone() + &get("/"));
        assert_eq!(client.response().body, "hello");
        assert_eq!(client.response().body, "");
        // In two.
        let (first, second) = request.split_at(request.len() - 7);
        client.send(first);
        client.send(second);
        assert_eq!(client.request(&get("/")).body, "hello");
        assert_eq!(client.response().body, "");
    }
}

fn a_body_above_the_limit_of_its_handler_is_refused_and_the_connection_closed(
    workers: NonZeroUsize,
) {
    let server = Server::start(workers, limits(), echo);
    for request in [
        post("Content-Length: 1000000") + "GET / HTTP/1.1\r\n",
        post("Transfer-Encoding: chunked") + "b\r\nhello world\r\n",
    ] {
        let mut client = server.connect();
        client.send(request);
        let answer = client.response();
        assert_eq!(answer.status, 413);
        assert!(answer.closes());
        client.assert_closed();
    }
}

fn a_handler_reads_its_body_after_the_100_that_it_asks_for(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), echo);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(post("Content-Length: 5\r\nExpect: 100-continue"));
        assert_eq!(client.head_response().status, 100);
        client.send("hello".to_owned() + &get("/"));
        assert_eq!(client.response().body, "hello");
        assert_eq!(client.response().body, "");
    }
}

fn an_answer_says_close_exactly_when_the_connection_closes(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), |_| ready(text("not read")));
    let large = "x".repeat(100_000);
    for (closes, request) in [
        (false, post("Content-Length: 5") + "hello"),
        (true, post("Content-Length: 5") + "hel"),
        (true, post("Content-Length: 100000") + &large),
        (
            false,
            post("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n",
        ),
        (true, post("Transfer-Encoding: chunked") + "5\r\nhello\r\n"),
        (true, post("Content-Length: 5\r\nExpect: 100-continue")),
        (
            true,
            post("Transfer-Encoding: chunked\r\nExpect: 100-continue"),
        ),
    ] {
        let name = &request[..request.len().min(100)];
        let mut client = server.connect();
        client.send(&request);
        let answer = client.response();
        assert_eq!((answer.status, answer.body.as_str()), (200, "not read"));
        assert_eq!(answer.closes(), closes, "{name:?}");
        if closes {
            client.assert_closed();
        } else {
            assert_eq!(client.request(&get("/")).status, 200, "{name:?}");
        }
    }
}

fn a_connection_is_idle_after_a_body_that_was_read(workers: NonZeroUsize) {
    let request = post("Content-Length: 5") + "hello";
    let short = Duration::from_millis(300);
    // The next head is late.
    let late_head = Limits {
        header_timeout: short,
        ..limits()
    };
    let server = Server::start(workers, late_head, echo);
    let mut client = server.connect();
    assert_eq!(client.request(&request).body, "hello");
    client.send("GET / HTTP/1.1\r\n");
    assert_eq!(client.response().status, 408);
    client.assert_closed();
    // There is none.
    let idle = Limits {
        idle_timeout: short,
        ..limits()
    };
    let server = Server::start(workers, idle, echo);
    let mut client = server.connect();
    assert_eq!(client.request(&request).body, "hello");
    client.assert_closed();
    // Its slot is needed, or the server stops.
    let one = Limits {
        max_connections: NonZeroUsize::MIN,
        ..limits()
    };
    let mut server = Server::start(workers, one, echo);
    let mut client = server.connect();
    assert_eq!(client.request(&request).body, "hello");
    let mut other = server.connect();
    assert_eq!(other.request(&request).body, "hello");
    client.assert_closed();
    server.drain(other);
    assert_eq!(server.drained(), Drained::Complete);
}

/// What comes after the answer is the body, even where it looks like a request, and however slow.
fn a_body_may_be_read_after_the_answer(workers: NonZeroUsize) {
    const PIECE: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    const PIECES: usize = 10;
    for framing in [
        "Content-Length: 300",
        "Transfer-Encoding: chunked",
        // The answer is the last in any case.
        "Content-Length: 300\r\nConnection: close",
        "Transfer-Encoding: chunked\r\nConnection: close",
    ] {
        let (called, received, ended) = (Count::default(), Count::default(), Count::default());
        let bytes = Arc::new(Mutex::new(Vec::new()));
        // Shorter than the body takes, which is no late head.
        let limits = Limits {
            header_timeout: Duration::from_millis(100),
            idle_timeout: Duration::from_millis(100),
            ..limits()
        };
        let server = Server::start(workers, limits, {
            let (called, received, ended) = (called.clone(), received.clone(), ended.clone());
            let bytes = bytes.clone();
            move |mut request| {
                called.add(1);
                let (received, ended, bytes) = (received.clone(), ended.clone(), bytes.clone());
                spawn_local(async move {
                    while let Some(Ok(frame)) = request.frame().await {
                        let data = frame.into_data().expect("no trailers were sent");
                        bytes
                            .lock()
                            .expect("nobody panics")
                            .extend_from_slice(&data);
                        received.add(data.len());
                    }
                    ended.add(1);
                });
                ready(text("at once"))
            }
        });
        let is_chunked = framing.contains("chunked");
        let mut client = server.connect();
        client.send(post(framing));
        assert_eq!(client.response().body, "at once", "{framing}");
        for piece in 1..=PIECES {
            // A pause, after which a quiet connection would have given its buffers back.
            std::thread::sleep(Duration::from_millis(50));
            if is_chunked {
                client.send(format!("{:x}\r\n{PIECE}\r\n", PIECE.len()));
            } else {
                client.send(PIECE);
            }
            received.wait_for(piece * PIECE.len());
        }
        if is_chunked {
            client.send("0\r\n\r\n");
        }
        ended.wait_for(1);
        client.assert_closed();
        assert_eq!(
            *bytes.lock().expect("nobody panics"),
            PIECE.repeat(PIECES).as_bytes()
        );
        assert_eq!(called.current(), 1);
    }
}

/// It may come within the header timeout or later: hyper does not do the same at its end.
fn a_body_that_is_read_after_the_answer_has_an_end(workers: NonZeroUsize) {
    const HEADER_TIMEOUT: Duration = Duration::from_millis(100);
    let limits = Limits {
        header_timeout: HEADER_TIMEOUT,
        ..limits()
    };
    let (sender, bodies) = channel();
    let server = Server::start(workers, limits, move |request: Request<Incoming>| {
        let sender = sender.clone();
        spawn_local(async move {
            let body = request.into_body().collect().await;
            let body = body.map(|body| body.to_bytes());
            sender.send(body).expect("the test waits for it");
        });
        ready(text("at once"))
    });
    for pause in [Duration::ZERO, 2 * HEADER_TIMEOUT] {
        let mut client = server.connect();
        assert_eq!(client.request(&post("Content-Length: 5")).status, 200);
        std::thread::sleep(pause);
        client.send("hello");
        let body = bodies.recv_timeout(PATIENCE).expect("the end of the body");
        assert_eq!(body.expect("a whole body"), "hello", "{pause:?}");
        // No 408: nothing that came was a head.
        client.assert_closed();
    }
}
