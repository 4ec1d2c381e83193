//! The functions of C, and a heap for them.

use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

use crate::kernel::{Kernel, release};

/// What every object is aligned to (C17 6.2.8): two words.
const ALIGNMENT: usize = 2 * size_of::<usize>();

/// Pieces of free memory to look for in [`trim`]. The smallest has a whole page in it, wherever it lies.
const LARGEST_PIECE: usize = 1 << 20;
const SMALLEST_PIECE: usize = 1 << 13;

static HEAP: Mutex<Dlmalloc<Kernel>> = Mutex::new(Dlmalloc::new_with_allocator(Kernel::new()));

fn heap() -> MutexGuard<'static, Dlmalloc<Kernel>> {
    // A panic cannot leave an `extern "C"` function: it aborts, so no call sees a heap that a panic has left.
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
    // SAFETY: the caller keeps to the condition above.
    unsafe { heap().c_memalign(alignment, size) }
}

/// # Safety
///
/// `object` must be null or from a function of this module, and not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(object: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: the caller keeps to the condition above.
    unsafe { heap().c_realloc(object, size) }
}

/// # Safety
///
/// `object` must be null or from a function of this module, and not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(object: *mut u8) {
    // SAFETY: the caller keeps to the condition above.
    unsafe { heap().c_free(object) }
}

/// Gives the pages of free memory back to the kernel: those that lie in pieces of at least 8 KiB. Other
/// threads that need memory wait meanwhile, which takes about a millisecond for 10 MB.
pub fn trim() {
    let mut heap = heap();
    // dlmalloc does not say where memory is free. So all free memory is allocated, with no more from the
    // kernel, and freed again. A free piece that has lost its pages is as good as before: dlmalloc keeps its
    // lists in the first and the last bytes of a piece, which are outside of the released pages.
    heap.allocator_mut().refuses = true;
    let mut taken: *mut *mut u8 = ptr::null_mut();
    let mut size = LARGEST_PIECE;
    while size >= SMALLEST_PIECE {
        // SAFETY: any size will do.
        let piece = unsafe { heap.c_malloc(size) };
        if piece.is_null() {
            size /= 2;
            continue;
        }
        // SAFETY: the piece is this function's own, and large enough for a pointer to the one before, which
        // is written after its pages are gone.
        unsafe {
            release(piece, size);
            *piece.cast() = taken;
        }
        taken = piece.cast();
    }
    while !taken.is_null() {
        // SAFETY: each piece is from this heap and begins with a pointer to the one before.
        unsafe {
            let piece = taken;
            taken = (*piece).cast();
            heap.c_free(piece.cast());
        }
    }
    heap.allocator_mut().refuses = false;
}
