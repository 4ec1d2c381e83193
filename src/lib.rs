//! A hyper server that is alone in its container image.
//!
//! The path of a request: `main` → [`server::serve`] accepts it into a slot → `connection` lends
//! it to hyper → [`routes::respond`] → static bytes.
//!
//! # Layout
//!
//! - [`config`]: the environment, read once into typed values
//! - [`listener`]: the listening socket, TCP or unix
//! - [`server`]: the accept loop, workers, and the drain at the end
//! - `slots`: how many connections there may be, and who makes room
//! - `connection`: the deadlines and the life of one connection
//! - [`routes`]: what is answered; the module to replace for another service
//! - [`shutdown`]: SIGTERM and SIGINT
//! - [`log`]: lines on stderr
//!
//! Crates of their own are what the probe reads as well (`settings`) and what needs `unsafe`: the
//! allocator (`malloc`) and system calls (`sys`).
//!
//! # What is absent
//!
//! Nothing that a client sends or leaves out can panic, wait without a deadline, or make the server
//! hold more than the two buffers of its connection, 8 to 16 KiB each; what a route awaits is up to
//! the route. No connection is served above the cap but those that the kernel had accepted when the
//! server stopped. No configuration is read after start.

#![forbid(unsafe_code)]

pub mod config;
mod connection;
pub mod listener;
pub mod log;
pub mod routes;
pub mod server;
pub mod shutdown;
mod slots;
