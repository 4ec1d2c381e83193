//! `${NAME}` in a header: its text, and the value of the variable V.

#![no_main]

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../healthcheck/tests/support/checks.rs"]
mod checks;

use checks::check_expansion;
use libfuzzer_sys::fuzz_target;
use settings::split_at_first;

fuzz_target!(|data: &[u8]| {
    let (text, value) = split_at_first(data, b'\n').unwrap_or((data, b""));
    check_expansion(text, value);
});
