//! How many descriptors this process may have.

use std::io;
use std::mem::MaybeUninit;

/// Raises the soft limit on open descriptors to the hard one, and returns the soft limit that is then
/// in force. The soft limit is low (often 1,024) for programs that call select(2), and this is none of
/// them. Processes that this one starts inherit the new limit.
///
/// # Errors
///
/// Those of getrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` has the type that getrlimit(2) writes.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getrlimit(2) has succeeded, so it has written the limit.
    let mut limit = unsafe { limit.assume_init() };
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: setrlimit(2) reads `limit` and keeps no pointer to it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}
