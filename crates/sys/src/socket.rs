//! What the kernel knows about a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How much the send queue of a connected stream socket holds (SIOCOUTQ). It falls when the peer takes
/// something, and 0 means that the peer has everything.
///
/// On TCP these are the bytes that the peer's kernel has not acknowledged (tcp(7)). On a unix socket
/// it is the memory of what the peer has not read, which is more than the bytes themselves (unix(7)).
/// Both fall in steps of up to some MiB, so a slow reader can leave the number as it is for seconds.
///
/// # Errors
///
/// Those of ioctl(2): `EINVAL` for a socket that listens, `ENOTTY` for what has no send queue.
pub fn unsent(socket: impl AsFd) -> io::Result<u32> {
    let mut unsent = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one `int`.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
    match result {
        0 => Ok(libc::c_int::unsigned_abs(unsent)),
        _ => Err(io::Error::last_os_error()),
    }
}
