//! What a service may answer with: any body, at its own pace.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{HeaderMap, HeaderValue, TRAILER};
use hyper::service::service_fn;
use hyper::{Request, Response};
use scratch_server::Limits;
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep;

use crate::common::PATIENCE;
use crate::harness::{Family, Server, Stream, get, limits, send_frame, text};
use crate::sync::Count;

test_with_one_worker_and_four!(
    a_body_that_pauses_longer_than_the_write_timeout_is_no_stalled_peer,
    a_large_answer_arrives_whole,
    a_body_that_is_always_ready_lets_others_be_served,
    trailers_are_sent_to_a_client_that_takes_them,
    head_has_the_length_of_get_and_no_body,
    a_service_may_have_futures_that_are_not_send,
    a_body_may_be_boxed_or_a_stream,
);

fn a_body_that_pauses_longer_than_the_write_timeout_is_no_stalled_peer(workers: NonZeroUsize) {
    let write_timeout = Duration::from_millis(100);
    let limits = Limits {
        write_timeout,
        ..limits()
    };
    let server = Server::start(workers, limits, move |_| {
        let (mut sender, body) = Stream::new(1);
        spawn_local(async move {
            for frame in ["one", "two", "six"] {
                send_frame(&mut sender, frame);
                sleep(5 * write_timeout).await;
            }
        });
        ready(Response::new(body))
    });
    let mut client = server.connect();
    client.send(get("/"));
    client.head_response();
    let body = "3\r\none\r\n3\r\ntwo\r\n3\r\nsix\r\n0\r\n\r\n";
    assert_eq!(client.read_until("0\r\n\r\n"), body);
}

fn a_large_answer_arrives_whole(workers: NonZeroUsize) {
    let large: Bytes = (0..10_000_000_u32)
        .map(|byte| b'a' + (byte % 23) as u8)
        .collect();
    for family in Family::BOTH {
        let server = Server::start_on(family, workers, limits(), {
            let large = large.clone();
            move |_| ready(text(large.clone()))
        });
        let answer = server.get("/");
        assert!(answer.body.as_bytes() == large, "{family:?}");
    }
}

/// Empty frames, without a pause, until the test ends them.
struct Endless(Arc<AtomicBool>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let is_over = self.0.load(Relaxed);
        Poll::Ready((!is_over).then(|| Ok(Frame::data(Bytes::new()))))
    }
}

/// The frames are empty, so even a slow peer never makes the body wait.
fn a_body_that_is_always_ready_lets_others_be_served(workers: NonZeroUsize) {
    let (is_over, called) = (Arc::new(AtomicBool::new(false)), Count::default());
    let server = Server::start(workers, limits(), {
        let (is_over, called) = (is_over.clone(), called.clone());
        move |request| {
            called.add(1);
            ready(Response::new(match request.uri().path() {
                "/endless" => Endless(is_over.clone()).boxed(),
                _ => Full::from("served").boxed(),
            }))
        }
    });
    // One for each worker, and one more.
    let count = workers.get() + 1;
    let mut clients: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(get("/endless"));
    }
    called.wait_for(count);
    for _ in 0..count {
        assert_eq!(server.get("/").body, "served");
    }
    is_over.store(true, Relaxed);
    for mut client in clients {
        client.head_response();
        assert_eq!(client.read_until("\r\n\r\n"), "0\r\n\r\n");
    }
}

fn trailers_are_sent_to_a_client_that_takes_them(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), |_| {
        let trailers = HeaderMap::from_iter([(
            "digest".parse().expect("a name"),
            HeaderValue::from_static("abc"),
        )]);
        let (mut sender, body) = Stream::new(2);
        send_frame(&mut sender, "body");
        let trailers = sender.try_send(Frame::trailers(trailers));
        trailers.expect("the body is still there");
        let response = Response::builder().header(TRAILER, "digest").body(body);
        ready(response.expect("a valid response"))
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n");
    client.head_response();
    assert_eq!(
        client.read_until("\r\n\r\n"),
        "4\r\nbody\r\n0\r\ndigest: abc\r\n\r\n"
    );
    client.send(get("/"));
    client.head_response();
    assert_eq!(client.read_until("\r\n\r\n"), "4\r\nbody\r\n0\r\n\r\n");
}

fn head_has_the_length_of_get_and_no_body(workers: NonZeroUsize) {
    let server = Server::start(workers, limits(), |_| ready(text("body")));
    let mut client = server.connect();
    let head = client.request("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("4"))
    );
    // Nothing of the body is in front of the next answer.
    assert_eq!(client.request(&get("/")).body, "body");
}

fn a_service_may_have_futures_that_are_not_send(workers: NonZeroUsize) {
    let make_service = |_peer| {
        let state = Rc::new(String::from("shared by the requests of one connection"));
        service_fn(move |_: Request<_>| {
            let state = state.clone();
            async move {
                yield_now().await;
                Ok(text(state.as_bytes().to_vec()))
            }
        })
    };
    let server = Server::start_with(Family::Ipv4, workers, limits(), make_service);
    let mut client = server.connect();
    for _ in 0..2 {
        let answer = client.request(&get("/"));
        assert_eq!(answer.body, "shared by the requests of one connection");
    }
}

fn a_body_may_be_boxed_or_a_stream(workers: NonZeroUsize) {
    let (senders, bodies) = channel();
    let server = Server::start(workers, limits(), move |request| {
        let body: UnsyncBoxBody<Bytes, io::Error> = if request.uri() == "/stream" {
            let (sender, body) = Stream::new(1);
            senders.send(sender).expect("the test waits for it");
            StreamBody::new(BodyStream::new(body)).boxed_unsync()
        } else {
            Full::new(Bytes::from("boxed"))
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        ready(Response::new(body))
    });
    let mut client = server.connect();
    assert_eq!(client.request(&get("/")).body, "boxed");
    client.send(get("/stream"));
    let mut sender = bodies.recv_timeout(PATIENCE).expect("a request");
    send_frame(&mut sender, "frame");
    drop(sender);
    client.head_response();
    assert_eq!(client.read_until("0\r\n\r\n"), "5\r\nframe\r\n0\r\n\r\n");
}
