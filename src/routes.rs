//! What is answered: the one file to replace when this repository becomes another service.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Whether the server wants requests. `main` holds one handle, and the service another.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
}

impl Readiness {
    /// Turns readiness off, for good: the server is about to stop.
    pub fn turn_off(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }
}

/// The service, of which each connection has a clone. State that these share belongs in an `Arc`.
#[derive(Clone, Debug)]
pub struct Routes {
    readiness: Readiness,
}

impl Routes {
    pub fn new(readiness: Readiness) -> Self {
        Self { readiness }
    }

    /// Answers one request. A query does not change the route; percent-encoding does.
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let answer = match path {
            "/" => text(StatusCode::OK, "Hello from Rust in Docker!\n"),
            "/health" | "/readyz" if self.readiness.is_on() => {
                uncached(text(StatusCode::OK, "healthy"))
            }
            "/health" | "/readyz" => uncached(text(StatusCode::SERVICE_UNAVAILABLE, "draining")),
            "/livez" => uncached(text(StatusCode::OK, "alive")),
            "*" if method == Method::OPTIONS => no_content(),
            _ => return text(StatusCode::NOT_FOUND, "not found\n"),
        };
        match *method {
            Method::GET | Method::HEAD => answer,
            // HAProxy's check sends OPTIONS to find out whether a server is ready.
            Method::OPTIONS if answer.status() == StatusCode::SERVICE_UNAVAILABLE => answer,
            Method::OPTIONS => with_methods(no_content()),
            _ => with_methods(text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")),
        }
    }
}

impl Service<Request<Incoming>> for Routes {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    // A service that waits has `Pin<Box<dyn Future<Output = …>>>` here, and `Box::pin(async move { … })`
    // below.
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

/// Says which methods a route has (RFC 9110 sections 9.3.7 and 15.5.6).
fn with_methods(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

fn no_content() -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn uncached(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
