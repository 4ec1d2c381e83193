//! `serve` on a thread of its own.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::convert::Infallible;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, channel};
use std::thread;

use http_body_util::Full;
use http_body_util::channel::{Channel, Sender};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use scratch_server::{Drained, Limits, Listener, Peer, event_loop, serve};
use settings::Endpoint;
use tokio::sync::oneshot;

use crate::common::{Client, PATIENCE, Response as Answer};

/// A streamed body, whose sender the test holds.
pub type Stream = Channel<Bytes, io::Error>;
pub type StreamSender = Sender<Bytes, io::Error>;

/// Limits that no test reaches by being slow.
pub fn limits() -> Limits {
    Limits {
        header_timeout: 2 * PATIENCE,
        idle_timeout: 2 * PATIENCE,
        read_timeout: 2 * PATIENCE,
        write_timeout: 2 * PATIENCE,
        shutdown_timeout: 2 * PATIENCE,
        ..Limits::default()
    }
}

/// A `GET` of `path`.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// A response with this body.
pub fn text(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::new(Full::new(body.into()))
}

/// Gives hyper a frame of a streamed body, which waits for no other.
pub fn send_frame(sender: &mut StreamSender, bytes: &'static str) {
    let frame = Frame::data(Bytes::from_static(bytes.as_bytes()));
    sender.try_send(frame).expect("the body is still there");
}

/// What a server listens on.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    Ipv4,
    /// One socket for both IP families.
    DualStack,
    Unix,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::Ipv4, Self::Unix];
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A server in this process, told to stop on drop.
pub struct Server {
    address: Address,
    stop: Option<oneshot::Sender<()>>,
    drained: Receiver<io::Result<Drained>>,
    /// Until this is dropped, everything stays as `serve` left it: the event loop neither runs nor is dropped.
    _hold: mpsc::Sender<()>,
}

impl Server {
    /// Serves every connection on 127.0.0.1 with `handler`.
    pub fn start<H, A, B>(workers: NonZeroUsize, limits: Limits, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<B>> + 'static,
        B: Body<Data: 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        Self::start_on(Family::Ipv4, workers, limits, handler)
    }

    /// Serves every connection with `handler`.
    pub fn start_on<H, A, B>(
        family: Family,
        workers: NonZeroUsize,
        limits: Limits,
        handler: H,
    ) -> Self
    where
        H: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<B>> + 'static,
        B: Body<Data: 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        let make_service = move |_peer| {
            let handler = handler.clone();
            service_fn(move |request| {
                let answer = handler(request);
                async { Ok::<_, Infallible>(answer.await) }
            })
        };
        Self::start_with(family, workers, limits, make_service)
    }

    /// Serves each connection with a service made for it.
    pub fn start_with<M, S, B>(
        family: Family,
        workers: NonZeroUsize,
        limits: Limits,
        make_service: M,
    ) -> Self
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        B: Body<Data: 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let file = format!("service-{}-{}", process::id(), COUNT.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(file);
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = channel();
        let (ended, drained) = channel();
        let (hold, held) = channel::<()>();
        let first_worker = move || {
            event_loop().expect("an event loop").block_on(async move {
                let endpoint = match family {
                    Family::Ipv4 => Endpoint::Ip(([127, 0, 0, 1], 0).into()),
                    Family::DualStack => Endpoint::Any { port: 0 },
                    Family::Unix => Endpoint::Unix(path.as_os_str().as_encoded_bytes()),
                };
                let listener = Listener::bind(&endpoint, None).expect("a listener");
                let address = listener.local_addr();
                let address = address.map_or_else(|| Address::Unix(path.clone()), Address::Tcp);
                let _ = bound.send(address);
                let shutdown = async {
                    let _ = stopped.await;
                };
                let drained = serve(listener, limits, workers, make_service, shutdown).await;
                let _ = ended.send(drained);
                let _ = held.recv();
            });
        };
        thread::Builder::new()
            .name("first worker".into())
            .spawn(first_worker)
            .expect("a thread");
        Self {
            address: address.recv_timeout(PATIENCE).expect("the server binds"),
            stop: Some(stop),
            drained,
            _hold: hold,
        }
    }

    pub fn connect(&self) -> Client {
        match &self.address {
            Address::Tcp(address) => Client::connect(([127, 0, 0, 1], address.port()).into()),
            Address::Unix(path) => Client::connect_unix(path),
        }
    }

    /// The address of a server that listens on TCP.
    pub fn address(&self) -> SocketAddr {
        match self.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => panic!("a unix socket"),
        }
    }

    /// One `GET` on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.connect().request(&get(path))
    }

    /// Tells the server to stop.
    pub fn stop(&mut self) {
        let stop = self.stop.take().expect("the server is stopped once");
        stop.send(()).expect("the server serves");
    }

    /// Tells the server to stop, and waits until it drains: `kept` is idle and closed then.
    pub fn drain(&mut self, mut kept: Client) {
        self.stop();
        kept.assert_closed();
    }

    /// Waits until `serve` returns.
    pub fn drained(&self) -> Drained {
        let drained = self.drained.recv_timeout(PATIENCE);
        drained.expect("serve returns").expect("serve succeeds")
    }
}
