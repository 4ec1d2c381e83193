//! The library in-process, with services made for the test.

#[path = "../common/mod.rs"]
mod common;
mod harness;
mod routes;
mod sync;

/// Makes two tests of each function: with one worker, and with four.
macro_rules! test_with_one_worker_and_four {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use std::num::NonZeroUsize;

            #[test]
            fn with_one_worker() {
                super::$name(NonZeroUsize::MIN);
            }

            #[test]
            fn with_four_workers() {
                super::$name(NonZeroUsize::new(4).expect("4 is not zero"));
            }
        }
    )+};
}

mod abandonment;
mod abandonment_in_a_drain;
mod answers;
mod bodies_after_answers;
mod broken_answers;
mod drain;
mod echo;
mod endless_times;
mod peer;
mod read_timeout;
mod request_bodies;
mod slots;
mod slow_readers;
