//! The process around the probe: a C `main`, called by the C library's start-up code.
//!
//! The binary that ships (`cfg(bare)`: musl, release) has no `std` in it. Elsewhere `std` is linked,
//! unused, as a dev build or a glibc one without it lacks `rust_eh_personality`. The code is the
//! same, so what is tested on a glibc host is what ships.

#![cfg_attr(bare, no_std)]
#![no_main]

use core::arch::asm;
use core::ffi::{CStr, c_char, c_int};
use core::iter;

use healthcheck::Streams;
use rustix::stdio::{stderr, stdout};

/// What the C library's start-up code calls.
#[unsafe(no_mangle)]
extern "C" fn main(
    _count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> c_int {
    ignore_sigpipe();
    // SAFETY: both arrays are as `strings` asks for (C17 5.1.2.2.1, and the System V ABI for the
    // environment), and nothing in this process changes them.
    let (arguments, environment) = unsafe { (strings(arguments), strings(environment)) };
    let variable = |name: &str| {
        let mut entries = environment.clone();
        entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    // The first argument is the program's name, if there is one at all.
    let arguments = arguments.skip(1);
    // SAFETY: nothing in this process opens or closes these two.
    let streams = unsafe {
        Streams {
            output: stdout(),
            errors: stderr(),
        }
    };
    healthcheck::run(arguments, variable, streams) as c_int
}

/// The strings of an array that ends with a null pointer.
///
/// # Safety
///
/// `array` must end so, its strings with a NUL, and both must be there, unchanged, from now on.
unsafe fn strings(array: *const *const c_char) -> impl Iterator<Item = &'static [u8]> + Clone {
    let mut next = array;
    iter::from_fn(move || {
        // SAFETY: `next` is never moved past the null pointer, and the strings end with a NUL.
        unsafe {
            let string = *next;
            if string.is_null() {
                return None;
            }
            next = next.add(1);
            Some(CStr::from_ptr(string).to_bytes())
        }
    })
}

/// Without this, writing to a peer or a reader that is gone ends the process with a signal. A system
/// call, as musl's `signal` is 1.4 KB of code.
fn ignore_sigpipe() {
    const SIGPIPE: usize = 13;
    const SIG_IGN: usize = 1;
    // The kernel's `struct sigaction`: handler, flags, restorer, mask.
    let action = [SIG_IGN, 0, 0, 0];
    let mask_size = size_of::<u64>();
    // SAFETY: rt_sigaction(2) reads `action`, which has the size that it has on both architectures,
    // and no handler is installed that could run.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            inlateout("rax") 13_usize => _,
            in("rdi") SIGPIPE,
            in("rsi") &action,
            in("rdx") 0_usize,
            in("r10") mask_size,
            out("rcx") _,
            out("r11") _,
            options(nostack, preserves_flags)
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "svc 0",
            in("x8") 134_usize,
            inlateout("x0") SIGPIPE => _,
            in("x1") &action,
            in("x2") 0_usize,
            in("x3") mask_size,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(bare)]
#[link(name = "c")]
unsafe extern "C" {}

/// Nothing in the probe panics. A test harness has a handler of its own.
#[cfg(all(bare, not(test)))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
