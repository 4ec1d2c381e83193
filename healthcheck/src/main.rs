//! The process around the probe: a C `main`.
//!
//! The binary that ships (`cfg(bare)`: musl, release) has no `std` in it and calls `main` itself, in
//! `start`. Elsewhere the C library calls it, and `std` is linked but unused: without it a dev build, or
//! one for glibc, lacks `rust_eh_personality`. All but `start` is the same, so what is tested on a glibc
//! host is what ships.

#![cfg_attr(bare, no_std)]
#![no_main]

use core::arch::asm;
use core::ffi::c_int;
use core::{iter, slice};

use healthcheck::Streams;
use healthcheck::options::ROOM;
use rustix::stdio::{stderr, stdout};

#[cfg(all(bare, panic = "unwind", not(test)))]
compile_error!(
    "without std nothing unwinds: build the probe with `--config 'profile.release.panic=\"abort\"'`"
);

#[cfg(bare)]
mod start;

/// What the C library's start-up code calls, or `start`.
#[unsafe(no_mangle)]
extern "C" fn main(
    _count: c_int,
    arguments: *const *const u8,
    environment: *const *const u8,
) -> c_int {
    ignore_sigpipe();
    let mut room = [0; ROOM];
    // SAFETY: both arrays are as `strings` asks for (C17 5.1.2.2.1, and the System V ABI for the
    // environment), and nothing in this process changes them.
    let (mut arguments, environment) = unsafe { (strings(arguments), strings(environment)) };
    // Skips the program's name, which may be missing.
    arguments.next();
    let variable = |name: &[u8]| {
        let mut entries = environment.clone();
        entries.find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    };
    // SAFETY: nothing in this process opens or closes these two.
    let streams = unsafe {
        Streams {
            output: stdout(),
            errors: stderr(),
        }
    };
    healthcheck::run(arguments, variable, &mut room, streams) as c_int
}

/// The strings of an array that ends with a null pointer.
///
/// # Safety
///
/// `array` must end that way and its strings with a NUL, and all of them must stay there, unchanged, for
/// the lifetime that the caller chooses.
unsafe fn strings<'a>(array: *const *const u8) -> impl Iterator<Item = &'a [u8]> + Clone {
    let mut next = array;
    iter::from_fn(move || {
        // SAFETY: `next` is never moved past the null pointer, nor `len` past the NUL.
        unsafe {
            let string = *next;
            if string.is_null() {
                return None;
            }
            next = next.add(1);
            let mut len = 0;
            // Volatile, or the compiler would make this a call of `strlen`: 450 bytes more.
            while string.add(len).read_volatile() != 0 {
                len += 1;
            }
            Some(slice::from_raw_parts(string, len))
        }
    })
}

/// Without this, writing to a peer or a reader that is gone ends the process with a signal. A system
/// call, as musl's `signal` is 1.4 KB of code.
fn ignore_sigpipe() {
    const SIGPIPE: usize = 13;
    const SIG_IGN: usize = 1;
    #[cfg(target_arch = "x86_64")]
    const RT_SIGACTION: usize = 13;
    #[cfg(target_arch = "aarch64")]
    const RT_SIGACTION: usize = 134;
    // The kernel's `struct sigaction`: handler, flags, restorer, mask.
    let action = [SIG_IGN, 0, 0, 0];
    // SAFETY: rt_sigaction(2) reads `action`, which has the size that it has on both architectures,
    // and no handler is installed that could run.
    unsafe {
        system_call(
            RT_SIGACTION,
            [SIGPIPE, action.as_ptr() as usize, 0, size_of::<u64>()],
        );
    }
}

/// A system call, for the two that rustix has no stable function for.
///
/// # Safety
///
/// That of the call.
unsafe fn system_call(number: usize, arguments: [usize; 4]) {
    let [first, second, third, fourth] = arguments;
    // SAFETY: these are the registers of the calling convention, and the caller answers for the
    // call itself.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            inlateout("rax") number => _,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first => _,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            options(nostack)
        );
    }
}
