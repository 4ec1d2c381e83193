//! The bottom layer: starts programs and containers, watches them, and hands out samples. It knows no statistics and
//! no report.

pub mod client;
pub mod cores;
pub mod engine;
pub mod load;
pub mod proc;
pub mod process;
pub mod rounds;
pub mod samples;
