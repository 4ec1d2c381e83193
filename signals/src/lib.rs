//! SIGTERM and SIGINT as something to read: signalfd(2).
//!
//! tokio has handlers of its own for signals, with a table for all 65 of them: 34 KB to be touched
//! before the server can listen, and seven system calls more.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::FromRawFd;
use std::ptr;

/// The size of `struct signalfd_siginfo`, which a read gives whole.
pub const RECORD: usize = size_of::<libc::signalfd_siginfo>();

/// Blocks SIGTERM and SIGINT in this thread and in those that it starts from now on, and opens a
/// file to read them from instead, a [`RECORD`] each, without waiting. To be called while there is
/// no other thread, which would still take the default action for both.
///
/// A blocked signal is kept until it is read, also for PID 1, which has no default action for it: of
/// signals to PID 1, the kernel drops what is neither handled nor blocked (`sig_ignored` in its
/// signal.c).
///
/// # Errors
///
/// Those of pthread_sigmask(3) and signalfd(2).
pub fn open() -> io::Result<File> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the set that the other calls read, and nobody else owns
    // the descriptor that signalfd(2) has just opened.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}

/// The number of the signal that a record is about: `ssi_signo`, its first field.
pub fn number(record: [u8; RECORD]) -> i32 {
    let [first, second, third, fourth, ..] = record;
    i32::from_ne_bytes([first, second, third, fourth])
}
