//! Makes the probe small where it ships: on musl, in the release profile.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/link.ld");
    println!("cargo:rustc-check-cfg=cfg(bare)");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        println!("cargo:rustc-cfg=bare");
        let package = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{package}/src/link.ld");
        // For x86_64 musl, Rust links a static-pie; for others, a program at a fixed address, and
        // the kernel maps nothing at the lowest ones.
        let base = match is("CARGO_CFG_TARGET_ARCH", "x86_64") {
            true => "0",
            false => "0x400000",
        };
        println!("cargo:rustc-link-arg-bins=-Wl,--defsym=BASE={base}");
    }
}
