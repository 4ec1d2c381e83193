//! What is answered: the one module to replace when this repository becomes another service.
//!
//! A service that reads request bodies does so here, and has to bound their size and the time that it
//! waits for them: the deadlines of the server end where a route begins. One that does not read them
//! must say so with `Connection: close`, as [`respond`] does, because the rest is then never read.

use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// What the routes know of the server, and the place for what a service needs of its own.
#[derive(Debug, Default)]
pub struct State {
    draining: AtomicBool,
}

impl State {
    /// Turns readiness off, for good: the server is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// Answers one request. A query does not change the route; percent-encoding does.
pub async fn respond(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let mut response = route(request.method(), request.uri().path(), state);
    if !request.body().is_end_stream() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn route(method: &Method, path: &str, state: &State) -> Response<Full<Bytes>> {
    let route: fn(&State) -> Response<Full<Bytes>> = match path {
        "/" => |_| text(StatusCode::OK, "Hello from Rust in Docker!\n"),
        "/health" | "/readyz" => readiness,
        "/livez" => |_| uncached(text(StatusCode::OK, "alive")),
        "*" if method == Method::OPTIONS => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(ALLOW, ALLOWED);
            return response;
        }
        _ => return text(StatusCode::NOT_FOUND, "not found\n"),
    };
    if method == Method::GET || method == Method::HEAD {
        return route(state);
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

fn readiness(state: &State) -> Response<Full<Bytes>> {
    uncached(if state.draining.load(Ordering::Relaxed) {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        text(StatusCode::OK, "healthy")
    })
}

fn uncached(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A response of plain text.
pub fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
