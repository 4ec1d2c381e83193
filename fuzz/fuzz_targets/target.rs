//! Targets of the probe: the input is one.

#![no_main]

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../healthcheck/tests/support/checks.rs"]
mod checks;

use checks::check_target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check_target(data);
});
