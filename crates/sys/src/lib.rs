//! System calls that neither std nor tokio has. All `unsafe` of the server is here, except that of its
//! allocator.

pub use descriptors::raise_descriptor_limit;
pub use signals::signal_pipe;
pub use socket::unsent;

mod descriptors;
mod signals;
mod socket;
