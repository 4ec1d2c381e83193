//! The program of the "Rust in Docker from scratch" guide that scratch-server comes from:
//! actix-web, one index route, one health route.

use std::env;

use actix_web::{App, HttpResponse, HttpServer, Responder, get};

#[get("/")]
async fn index() -> impl Responder {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("Hello from Rust in Docker!\n")
}

#[get("/health")]
async fn health() -> impl Responder {
    HttpResponse::Ok().body("healthy")
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let port = env::var("PORT").expect("the benchmark sets PORT");
    let workers = env::var("WORKERS").expect("the benchmark sets WORKERS");
    HttpServer::new(|| App::new().service(index).service(health))
        .workers(workers.parse().expect("WORKERS is a number"))
        .bind(format!("127.0.0.1:{port}"))?
        .run()
        .await
}
