//! What is sampled. `startup` and `image` are for any server and any image; the others are about the product.

pub mod image;
pub mod latency;
pub mod memory;
pub mod probe;
pub mod shutdown;
pub mod startup;
pub mod syscalls;
pub mod throughput;
pub mod workers;
