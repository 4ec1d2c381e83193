//! A whole connection of the skeleton: the input is what a client sends, and in how many pieces.

#![no_main]

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process;
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use scratch_server::{Limits, Listener, event_loop, serve};

/// How long anything may take that should happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// The requests that reached the service since the last look: whether each was `HEAD`.
static CALLS: Mutex<Vec<bool>> = Mutex::new(Vec::new());

/// Where the one server of this process listens.
static SERVER: LazyLock<SocketAddr> = LazyLock::new(start_server);

fuzz_target!(|data: &[u8]| {
    let Some((&pieces, bytes)) = data.split_first() else {
        return;
    };
    let calls = |answers: &[u8]| check_answers(answers, &take_calls());
    calls(&exchange(bytes, usize::from(pieces % 8) + 1));
    let answers = exchange(b"GET /fresh HTTP/1.1\r\nHost: fuzz\r\n\r\n", 1);
    assert!(
        answers.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "{}",
        answers.escape_ascii()
    );
    calls(&answers);
});

fn start_server() -> SocketAddr {
    let name = format!("scratch-server-fuzz-{}", process::id());
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    let socket = UnixListener::bind_addr(&address).expect("a free name");
    let limits = Limits {
        header_timeout: 2 * PATIENCE,
        idle_timeout: 2 * PATIENCE,
        read_timeout: 2 * PATIENCE,
        write_timeout: 2 * PATIENCE,
        ..Limits::default()
    };
    thread::spawn(move || {
        event_loop().expect("an event loop").block_on(async move {
            let listener = Listener::adopt(socket.into()).expect("a listener");
            let make_service = |_| service_fn(answer);
            let never = std::future::pending();
            serve(listener, limits, NonZeroUsize::MIN, make_service, never).await
        })
    });
    address
}

/// Reads the body or leaves it, as the path says.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_head = request.method() == Method::HEAD;
    CALLS.lock().expect("no panic").push(is_head);
    let body = match request.uri().path() {
        "/read" => match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::from_static(b"cut short"),
        },
        _ => Bytes::from_static(b"left"),
    };
    Ok(Response::new(Full::new(body)))
}

fn take_calls() -> Vec<bool> {
    std::mem::take(&mut CALLS.lock().expect("no panic"))
}

/// Sends `bytes` in so many pieces and then the end of the stream; returns all that comes back until the
/// server closes.
fn exchange(bytes: &[u8], pieces: usize) -> Vec<u8> {
    let stream = UnixStream::connect_addr(&SERVER).expect("the server accepts");
    // Its writes do not raise SIGPIPE, which libFuzzer leaves deadly.
    let mut stream = TcpStream::from(OwnedFd::from(stream));
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
    for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
        // The server may have closed by now.
        if let Err(error) = stream.write_all(piece) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "the server reads");
            break;
        }
        // So that the server most often reads each piece on its own.
        thread::yield_now();
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Ok(_) => {}
        // The server closed with bytes that it had not read.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it closes"),
    }
    answers
}

/// The answers are whole and well formed, one for each call of the service, and at the end perhaps one for
/// what is no request.
fn check_answers(mut bytes: &[u8], calls: &[bool]) {
    let mut calls = calls.iter();
    let mut is_over = false;
    while !bytes.is_empty() {
        let shown = bytes.escape_ascii();
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).expect("a well-formed response");
        assert!(parsed.is_complete(), "a whole head: {shown}");
        bytes = &bytes[parsed.unwrap()..];
        let status = response.code.expect("the head is complete");
        if status < 200 {
            assert_eq!(status, 100, "{shown}");
            continue;
        }
        assert!(!is_over, "an answer after the last one: {shown}");
        let value = |name: &str| {
            let mut fields = response.headers.iter();
            let field = fields.find(|field| field.name.eq_ignore_ascii_case(name));
            field.map(|field| str::from_utf8(field.value).expect("text"))
        };
        let has_body = match calls.next() {
            Some(is_head) => !is_head,
            None => {
                assert!((400..600).contains(&status), "no request, but {shown}");
                is_over = true;
                true
            }
        };
        is_over |= value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert!(value("date").is_some(), "{shown}");
        let length = value("content-length").map_or(0, |length| length.parse().expect("a number"));
        if has_body {
            assert!(bytes.len() >= length, "a whole body: {shown}");
            bytes = &bytes[length..];
        }
    }
    assert_eq!(
        calls.len(),
        0,
        "each request that reached the service is answered"
    );
}
