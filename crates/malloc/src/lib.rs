//! dlmalloc in the place of musl's own allocator, which makes a system call where this one does not.
//!
//! It is not Rust's global allocator but the C library's: std takes the memory for its threads from
//! the C library in any case, and a process would start up both. Whoever links this crate has it; on
//! other C libraries it is empty.

#![cfg(target_env = "musl")]

use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

/// What every object is aligned to (C17 6.2.8): two words.
const ALIGNMENT: usize = 2 * size_of::<usize>();

static HEAP: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

fn heap() -> MutexGuard<'static, Dlmalloc> {
    // A panic cannot leave an `extern "C"` function: it aborts, so nobody sees a heap that one has left.
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut u8 {
    // SAFETY: any size will do.
    unsafe { heap().c_malloc(size) }
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
    match count.checked_mul(size) {
        // SAFETY: any size will do, and the alignment is a power of two.
        Some(size) => unsafe { heap().calloc(size, ALIGNMENT) },
        None => ptr::null_mut(),
    }
}

/// # Safety
///
/// `alignment` must be a power of two.
#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut u8 {
    // SAFETY: as the caller answers for.
    unsafe { heap().c_memalign(alignment, size) }
}

/// # Safety
///
/// `object` must be null or from a function of this module, and not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(object: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: as the caller answers for.
    unsafe { heap().c_realloc(object, size) }
}

/// # Safety
///
/// `object` must be null or from a function of this module, and not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(object: *mut u8) {
    // SAFETY: as the caller answers for.
    unsafe { heap().c_free(object) }
}
