//! The skeleton of a server that is alone in its container image: [`serve`] runs any hyper service
//! with limits for its clients and a drain at its end.
//!
//! The path of a request: `accept` puts a connection into a slot → `connection` waits for a first byte,
//! then lends the connection to hyper → the service → bytes.
//!
//! # Layout
//!
//! Each module uses only those below it.
//!
//! - `server`: [`serve`], from the start to the end of the drain
//! - `workers`: the event loops, and the threads of all but the first
//! - `accept`: the accept loop of one worker
//! - `connection`: one connection, from accept to close
//!   - `driver`: polls hyper and looks at the deadlines; a 408 for a late head is decided here
//!   - `deadlines`: which deadlines run, and which has passed, as a pure value
//!   - `exchange`: one request and its answer: the rule about `Host`, `Connection: close`, the 408 of a
//!     late body, the log line
//!   - `io`: the stream as hyper sees it
//!   - `alarm`, `activity`: the connection's one timer, and a record of what hyper does
//! - `shared`: what all workers share
//! - `head_timer`: finds out whether hyper waits for the head of a request
//! - `memory`: gives free memory back to the kernel
//! - `slots`: how many connections there may be, and which one is evicted
//! - `lifecycle`: the stages of the server, and the count of its parts that still run
//! - `listener`: the listening socket, TCP or unix
//! - [`log`]: lines on stderr
//! - `limits`: the limits on connections and on the time of each step, with their defaults
//! - `service`: the bounds that a service has to meet
//!
//! Three parts are crates of their own: `settings`, which the probe reads too; `malloc`, the allocator;
//! and `sys`, all other `unsafe` of the server. The binary beside this library is `main`, `config`,
//! `manager`, `routes` and `shutdown`.
//!
//! # What is absent
//!
//! No route, no readiness, and no environment variable that is read: these are the binary's. Nothing that
//! a client sends or leaves out can cause a panic or a wait without a deadline, or make the server hold
//! more than a read buffer of 8 KiB and a write buffer of at most 24 KiB for its connection. How long a
//! service takes, and how much it holds, is its own affair. Only connections that are in the accept queue
//! when the drain begins are served above the cap.

#![forbid(unsafe_code)]

mod accept;
mod connection;
mod head_timer;
mod lifecycle;
mod limits;
mod listener;
pub mod log;
mod memory;
mod server;
mod service;
mod shared;
mod slots;
mod workers;

pub use limits::Limits;
pub use listener::{Listener, Peer};
pub use server::{Drained, serve};
pub use workers::{event_loop, spawn_boxed};
