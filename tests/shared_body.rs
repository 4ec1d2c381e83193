//! A body that answers share is not copied for each of them. Alone in its process, whose memory it
//! measures.

mod common;
#[path = "service/harness.rs"]
mod harness;
#[path = "service/sync.rs"]
mod sync;

use std::fs;
use std::future::ready;
use std::num::NonZeroUsize;

use harness::{Family, Server, get, limits, text};
use hyper::body::Bytes;

const READERS: usize = 10;
const LENGTH: usize = 10_000_000;
const MOST_MORE_KB: usize = 30_000;

fn resident_kb() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.expect("a line").trim().trim_end_matches(" kB");
    kb.parse().expect("a number")
}

#[test]
fn ten_stalled_readers_of_a_large_body_do_not_multiply_it() {
    let large = Bytes::from(vec![b'x'; LENGTH]);
    for workers in [1, 4].map(|count| NonZeroUsize::new(count).expect("not zero")) {
        for family in Family::BOTH {
            let server = Server::start_on(family, workers, limits(), {
                let large = large.clone();
                move |_| ready(text(large.clone()))
            });
            assert_eq!(server.get("/").body.len(), LENGTH);
            let before = resident_kb();
            let mut readers: Vec<_> = (0..READERS).map(|_| server.connect()).collect();
            for reader in &mut readers {
                reader.send(get("/"));
                // When there is some of the body, hyper was given all that fits.
                reader.head_response();
                reader.wait_until_readable();
            }
            let more = resident_kb().saturating_sub(before);
            assert!(more <= MOST_MORE_KB, "{family:?}: {more} kB");
        }
    }
}
