//! axum as its documentation shows it: the hello-world and the graceful-shutdown example.

use std::{env, error::Error};

use axum::{Router, routing::get};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/", get(|| async { "Hello from Rust in Docker!\n" }))
        .route("/health", get(|| async { "healthy" }));
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
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
