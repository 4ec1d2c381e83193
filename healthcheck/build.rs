//! Makes the probe small where it ships: on musl, in the release profile.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(bare)");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        println!("cargo:rustc-cfg=bare");
        // One segment for code and constants, instead of three that each start on a page.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,noseparate-code");
        println!("cargo:rustc-link-arg-bins=-Wl,--build-id=none");
    }
}
