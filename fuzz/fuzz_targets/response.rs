//! Responses to the probe: where to cut it, whether a text is wanted, and the response.

#![no_main]

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../healthcheck/tests/support/checks.rs"]
mod checks;

use checks::check_response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let [cut, wanted, bytes @ ..] = data {
        let text = (wanted % 2 == 1).then_some("healthy");
        check_response(bytes, usize::from(*cut), text);
    }
});
