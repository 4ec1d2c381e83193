//! A service whose handlers and bodies wait, for tests of clients that do not.

use std::io;
use std::mem;
use std::num::NonZeroUsize;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use scratch_server::Limits;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::common::Client;
use crate::harness::{Family, Server, Stream, send_frame};
use crate::sync::{Count, Gate};

/// A service with a route for each kind of answer, and what it tells the test.
#[derive(Clone)]
pub struct Routes {
    /// Handlers and bodies that are not dropped yet, of `/wait` and `/stream`.
    pub running: Count,
    /// Lets through what waits under `/block` and `/wait`.
    pub gate: Gate,
    /// Handlers of `/block` so far.
    pub blocked: Count,
}

impl Routes {
    pub fn start(family: Family, workers: NonZeroUsize, limits: Limits) -> (Server, Self) {
        let routes = Self {
            running: Count::default(),
            gate: Gate::new(),
            blocked: Count::default(),
        };
        let server = Server::start_on(family, workers, limits, {
            let routes = routes.clone();
            move |request| routes.clone().answer(request)
        });
        (server, routes)
    }

    async fn answer(self, request: Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
        let body = match request.uri().path() {
            "/block" => {
                self.blocked.add(1);
                self.gate.pass_blocking();
                "blocked".into()
            }
            "/100ms" => {
                sleep(Duration::from_millis(100)).await;
                "late".into()
            }
            "/wait" => {
                let _running = self.running.guard();
                self.gate.pass().await;
                // So that a client can close its side meanwhile, and not much later.
                sleep(Duration::from_millis(100)).await;
                "waited".into()
            }
            "/stream" => {
                let running = self.running.guard();
                let (mut sender, body) = Stream::new(1);
                send_frame(&mut sender, "first");
                // Never dropped, so that the body does not end by itself.
                mem::forget(sender);
                let body = body.map_frame(move |frame| {
                    let _running = &running;
                    frame
                });
                return Response::new(body.boxed_unsync());
            }
            "/slow" => {
                let (mut sender, body) = Stream::new(1);
                spawn_local(async move {
                    for _ in 0..8 {
                        sleep(Duration::from_millis(300)).await;
                        send_frame(&mut sender, "frame");
                    }
                });
                return Response::new(body.boxed_unsync());
            }
            "/large" => vec![b'x'; 10_000_000].into(),
            "/echo" => match request.into_body().collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => "incomplete".into(),
            },
            _ => Bytes::from("now"),
        };
        Response::new(
            Full::new(body)
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
    }
}

/// A client of `server`, with its request running.
pub fn start_request(server: &Server, routes: &Routes, requests: &str) -> Client {
    let running = routes.running.current();
    let mut client = server.connect();
    client.send(requests);
    routes.running.wait_for(running + 1);
    client
}
