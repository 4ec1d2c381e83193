//! System calls that neither std nor tokio has. All `unsafe` of the server is here, except that of its
//! allocator. All of it is for Linux; elsewhere build.rs of the server says what to do instead.

#![cfg(target_os = "linux")]

pub use descriptors::raise_descriptor_limit;
pub use signals::signal_pipe;
pub use socket::{passed_listener, unsent};

mod descriptors;
mod signals;
mod socket;
mod threads;
