//! Names of threads, as ps(1) and `/proc` show them.

#[cfg(target_env = "musl")]
use libc::{c_char, c_int, pthread_t};

/// Takes the place of musl's function, with which std names each thread that it starts. musl's can also name
/// other threads, through a file in `/proc`, and links all of printf(3) to write the path of that file.
///
/// # Safety
///
/// `name` must be a C string.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
    // SAFETY: pthread_self(3) has no condition.
    if thread != unsafe { libc::pthread_self() } {
        return libc::ENOTSUP;
    }
    // SAFETY: prctl(2) reads at most 16 bytes, as far as the end of the string.
    match unsafe { libc::prctl(libc::PR_SET_NAME, name) } {
        0 => 0,
        _ => libc::EINVAL,
    }
}
