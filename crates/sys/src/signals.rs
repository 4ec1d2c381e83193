//! SIGTERM and SIGINT as something to read.

use std::io;
use std::mem;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::c_int;

/// The write end of the pipe, open until the process ends.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Handles SIGTERM and SIGINT from now on, and returns the read end of a pipe that gets the number of
/// each as one byte, in the order of their delivery. A read of it does not wait.
///
/// To be called once: of two pipes, only the last gets signals. A signal that nobody reads does
/// nothing, so the read end is to be kept until the process ends.
///
/// PID 1 has no default action for these signals: until this call, the kernel drops those that are sent
/// to it (`sig_ignored` in its signal.c). Processes that this one starts inherit neither the pipe nor a
/// handler, and no signal is blocked for them.
///
/// # Errors
///
/// Those of pipe(2) and sigaction(2).
pub fn signal_pipe() -> io::Result<OwnedFd> {
    let (reader, writer) = pipe()?;
    PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
    // SAFETY: all zeros is a valid `sigaction`: no handler, no flag, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = write_number as *const () as libc::sighandler_t;
    // System calls that a signal interrupts go on afterwards.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: it writes the mask: full, as a signal that interrupts the handler would overtake the first.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: sigaction(2) reads `action`, and the handler may run at any time.
        if unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(reader)
}

/// A pipe of which neither end is inherited, and neither waits: its read end and its write end.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: pipe2(2) writes two descriptors, and nothing else owns them.
    unsafe {
        match libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) {
            0 => Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The handler. A signal that finds the pipe full is lost, and thousands before it are still to be read.
extern "C" fn write_number(signal: c_int) {
    let byte = signal as u8;
    // SAFETY: write(2) may be called in a handler (signal-safety(7)) and reads one byte. The code that
    // was interrupted may be about to read its `errno`, so that is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        *errno = before;
    }
}
