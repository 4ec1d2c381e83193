//! How many descriptors this process may have.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Raises the soft limit on open descriptors to the hard one, and returns the soft limit that is then
/// in force. The soft limit is low (often 1,024) for the sake of programs that call select(2), which the
/// server does not. Processes that this one starts inherit the new limit.
///
/// # Errors
///
/// Those of prlimit(2). It is called instead of setrlimit(2), which in musl brings code for kernels
/// that have no prlimit.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: `limit` has the type that prlimit(2) writes; it changes nothing without a new limit.
    let read = unsafe { libc::prlimit64(0, libc::RLIMIT_NOFILE, ptr::null(), limit.as_mut_ptr()) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: prlimit(2) has succeeded, so it has written the limit.
    let mut limit = unsafe { limit.assume_init() };
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: prlimit(2) reads `limit` and keeps no pointer to it.
        let raised = unsafe { libc::prlimit64(0, libc::RLIMIT_NOFILE, &limit, ptr::null_mut()) };
        if raised != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}
