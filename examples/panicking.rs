//! A service on the skeleton whose route `/panic` has a bug: `panicking [PORT]`, on loopback.
//!
//! `tests/panic.rs` runs it to see how the process ends.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::future::pending;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use scratch_server::log::{self, Level};
use scratch_server::{Limits, Listener, event_loop, serve};
use settings::Endpoint;

fn main() -> Result<(), Box<dyn Error>> {
    if cfg!(panic = "unwind") {
        return Err("this is what `cargo test` builds: `cargo build --example panicking`".into());
    }
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let endpoint = Endpoint::Ip((Ipv4Addr::LOCALHOST, port).into());
    event_loop()?.block_on(async {
        let listener = Listener::bind(&endpoint, None)?;
        log::init(Level::Info);
        log::info_now(format_args!("Starting server on {listener}"));
        let make_service = |_peer| service_fn(answer);
        let _ = serve(
            listener,
            Limits::default(),
            NonZeroUsize::MIN,
            make_service,
            pending(),
        )
        .await?;
        Ok(())
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_ne!(request.uri().path(), "/panic", "this route has a bug");
    Ok(Response::new(Full::from("Hello!\n")))
}
