//! What the kernel knows about a socket, and the one that this process was started with.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START` of sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;

/// The socket that a service manager has passed as descriptor 3, if that is one that listens. Processes
/// that this one starts do not inherit it.
///
/// To be called before this process has a listening socket of its own, which could have that number.
///
/// # Errors
///
/// Those of getsockopt(2), such as `EBADF` and `ENOTSOCK`; [`ErrorKind::InvalidInput`] for a socket that
/// does not listen, and when this was called before.
pub fn passed_listener() -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let mut listens: libc::c_int = 0;
    let mut size = mem::size_of_val(&listens) as libc::socklen_t;
    // SAFETY: getsockopt(2) writes no more than `size` bytes to `listens`. It may be called with any
    // number, and fails if that is no socket.
    let known = unsafe {
        libc::getsockopt(
            FIRST_PASSED,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            ptr::from_mut(&mut listens).cast(),
            &raw mut size,
        )
    };
    if known != 0 {
        return Err(io::Error::last_os_error());
    }
    if listens == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Err(ErrorKind::InvalidInput.into());
    }
    // SAFETY: fcntl(2) changes nothing but the flag of a descriptor that is open.
    if unsafe { libc::fcntl(FIRST_PASSED, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nothing else owns it: this process has not made a socket that listens, and
    // only the first call comes here.
    Ok(unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) })
}
