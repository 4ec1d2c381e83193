//! Arguments of the probe: a line of them, and the value of each variable.

#![no_main]

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../healthcheck/tests/support/checks.rs"]
mod checks;

use checks::check_options;
use libfuzzer_sys::fuzz_target;
use settings::split_at_first;

fuzz_target!(|data: &[u8]| {
    let (line, environment) = split_at_first(data, b'\n').unwrap_or((data, b""));
    check_options(line, environment);
});
