//! Bodies of requests that do not come.

use std::error::Error;
use std::future::ready;
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use scratch_server::{Drained, Limits};
use tokio::time::sleep;

use crate::common::PATIENCE;
use crate::harness::{Server, get, limits, text};

test_with_one_worker_and_four!(
    half_bodies_lock_nobody_out_and_are_answered_408,
    a_slow_body_that_moves_is_not_cut_off,
    a_body_that_stalls_does_not_hold_the_drain,
    the_time_of_a_body_runs_from_the_100_on,
    an_answer_under_way_is_broken_off,
);

const HALF: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello";
const HALF_CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\n";
const EXPECT: &str =
    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

fn limits_with(read_timeout: Duration) -> Limits {
    Limits {
        read_timeout,
        ..limits()
    }
}

/// Answers with the body, and tells the test of an error.
async fn echo(request: Request<Incoming>, errors: Sender<hyper::Error>) -> Response<Full<Bytes>> {
    match request.into_body().collect().await {
        Ok(body) => text(body.to_bytes()),
        Err(error) => {
            errors.send(error).expect("the test waits for it");
            text("what the handler says of it")
        }
    }
}

fn start_echo(workers: NonZeroUsize, limits: Limits) -> (Server, impl Fn() -> hyper::Error) {
    let (errors, received) = channel();
    let server = Server::start(workers, limits, move |request| {
        echo(request, errors.clone())
    });
    (server, move || {
        received.recv_timeout(PATIENCE).expect("an error")
    })
}

fn half_bodies_lock_nobody_out_and_are_answered_408(workers: NonZeroUsize) {
    let limits = Limits {
        max_connections: NonZeroUsize::new(3).expect("3 is not zero"),
        ..limits_with(Duration::from_millis(300))
    };
    let (server, error) = start_echo(workers, limits);
    for request in [HALF, HALF_CHUNKED, EXPECT] {
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        let started = Instant::now();
        clients.iter_mut().for_each(|client| client.send(request));
        assert_eq!(server.get("/").status, 200);
        for client in &mut clients {
            if request == EXPECT {
                assert_eq!(client.head_response().status, 100);
            }
            let answer = client.response();
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (408, ""),
                "{request}"
            );
            assert!(
                answer.closes() && answer.header("date").is_some(),
                "{answer:?}"
            );
            client.assert_closed();
            assert!(started.elapsed() < Limits::default().read_timeout);
            let error = error();
            let source = error.source().expect("a source");
            let source = source.downcast_ref::<io::Error>().map(io::Error::kind);
            assert_eq!(source, Some(ErrorKind::TimedOut), "{error:?}");
        }
    }
}

fn a_slow_body_that_moves_is_not_cut_off(workers: NonZeroUsize) {
    let (server, _) = start_echo(workers, limits_with(Duration::from_secs(3)));
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(200));
        client.send("x");
    }
    assert_eq!(client.request(&get("/")).body, "x".repeat(20));
    assert_eq!(client.response().status, 200);
}

fn the_time_of_a_body_runs_from_the_100_on(workers: NonZeroUsize) {
    let read_timeout = Duration::from_secs(2);
    let server = Server::start(
        workers,
        limits_with(read_timeout),
        move |request| async move {
            sleep(read_timeout * 3 / 2).await;
            let body = BodyExt::collect(Request::into_body(request)).await;
            text(body.expect("the body comes").to_bytes())
        },
    );
    let mut client = server.connect();
    client.send(EXPECT);
    assert_eq!(client.head_response().status, 100);
    client.send("hello");
    assert_eq!(client.response().body, "hello");
}

fn a_body_that_stalls_does_not_hold_the_drain(workers: NonZeroUsize) {
    let (mut server, error) = start_echo(workers, limits_with(Duration::from_secs(1)));
    let mut client = server.connect();
    client.send(HALF);
    let idle = server.connect();
    server.drain(idle);
    let answer = client.response();
    assert_eq!((answer.status, answer.closes()), (408, true));
    error();
    assert_eq!(server.drained(), Drained::Complete);
}

/// The answer is the body of the request as it comes.
fn an_answer_under_way_is_broken_off(workers: NonZeroUsize) {
    let limits = limits_with(Duration::from_millis(300));
    let server = Server::start(workers, limits, |request| {
        ready(Response::new(Request::into_body(request)))
    });
    let mut client = server.connect();
    client.send(HALF);
    let head = client.head_response();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    assert_eq!(client.read_to_end().expect("an orderly close"), b"hello");
    let mut client = server.connect();
    client.send(HALF_CHUNKED);
    assert_eq!(client.head_response().status, 200);
    assert_eq!(client.read_until("hello\r\n"), "5\r\nhello\r\n");
    client.assert_closed();
}
