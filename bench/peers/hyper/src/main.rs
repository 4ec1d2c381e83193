//! hyper as its own guide shows it (hyper.rs, "Getting started with a server"), nothing added.

use std::{convert::Infallible, env, error::Error};

use http_body_util::Full;
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/" => (200, "Hello from Rust in Docker!\n"),
        "/health" => (200, "healthy"),
        _ => (404, "not found"),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(Full::new(Bytes::from_static(text.as_bytes())))
        .expect("status and header are valid"))
}

async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // An error here belongs to one connection.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(respond))
                .await;
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT")?.parse()?;
    // The threads it is allowed, and the runtime that tokio's documentation gives for that number.
    let runtime = match env::var("WORKERS")?.parse()? {
        1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
        workers => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()?,
    };
    runtime.block_on(serve(port))
}
