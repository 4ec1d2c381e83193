//! A service that takes numbers in and gives sums out, and keeps a journal of them.

use std::convert::Infallible;
use std::env;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

const MAX_BODY: usize = 4_096;

type Body = Either<Full<Bytes>, Channel<Bytes>>;

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
}

/// The service, of which each connection has a clone.
#[derive(Clone)]
pub struct Routes {
    readiness: Readiness,
    journal: Arc<Mutex<BufWriter<File>>>,
}

#[derive(Deserialize)]
struct Numbers {
    numbers: Vec<f64>,
}

#[derive(Serialize)]
struct Sum {
    sum: f64,
}

impl Routes {
    /// Opens the file that `JOURNAL` names.
    pub async fn open(readiness: Readiness) -> io::Result<Self> {
        let path = env::var_os("JOURNAL").unwrap_or_default();
        let journal = File::options().create(true).append(true).open(path).await?;
        Ok(Self {
            readiness,
            journal: Arc::new(Mutex::new(BufWriter::new(journal))),
        })
    }

    /// Writes what is buffered. To be called when no request is left.
    pub async fn flush(&self) -> io::Result<()> {
        self.journal.lock().await.flush().await
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/livez") => text(StatusCode::OK, "alive"),
            (&Method::GET, "/health" | "/readyz") => {
                match self.readiness.draining.load(Ordering::Relaxed) {
                    false => text(StatusCode::OK, "healthy"),
                    true => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
                }
            }
            (&Method::POST, "/sum") => match self.sum(request.into_body()).await {
                Some(json) => Response::new(Either::Left(Full::new(json.into()))),
                None => text(StatusCode::BAD_REQUEST, "expected numbers\n"),
            },
            (&Method::GET, "/countdown") => Response::new(Either::Right(count_down())),
            (&Method::GET, "/about") => text(StatusCode::OK, include_str!("../static/about.txt")),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn sum(&self, body: Incoming) -> Option<Vec<u8>> {
        let body = Limited::new(body, MAX_BODY).collect().await.ok()?;
        let Numbers { numbers } = serde_json::from_slice(&body.to_bytes()).ok()?;
        let sum = Sum {
            sum: numbers.iter().sum(),
        };
        let line = serde_json::to_vec(&sum).ok()?;
        let mut journal = self.journal.lock().await;
        journal.write_all(&line).await.ok()?;
        journal.write_all(b"\n").await.ok()?;
        Some(line)
    }
}

impl Service<Request<Incoming>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let routes = self.clone();
        Box::pin(async move { Ok(routes.answer(request).await) })
    }
}

/// An answer that is made while it is sent.
fn count_down() -> Channel<Bytes> {
    let (mut sender, body) = Channel::new(1);
    spawn_local(async move {
        for number in (0..1_000).rev() {
            // An error says that the client is gone.
            if sender.send_data(format!("{number}\n").into()).await.is_err() {
                break;
            }
        }
    });
    body
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(body)));
    *response.status_mut() = status;
    response
}
