//! Memory from the kernel, and back to it.

use std::ptr;

use dlmalloc::Allocator;

const PAGE: usize = 4_096;

/// Maps memory for dlmalloc, whose own way to the kernel cannot be told to refuse.
pub(crate) struct Kernel {
    /// Set while dlmalloc must make do with the memory that it has.
    pub(crate) refuses: bool,
}

impl Kernel {
    pub(crate) const fn new() -> Self {
        Self { refuses: false }
    }
}

// SAFETY: what it returns are mappings of this process that nothing else knows of.
unsafe impl Allocator for Kernel {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        const NONE: (*mut u8, usize, u32) = (ptr::null_mut(), 0, 0);
        if self.refuses {
            return NONE;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: mmap(2) takes the place of no other mapping.
        match unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) } {
            libc::MAP_FAILED => NONE,
            memory => (memory.cast(), size, 0),
        }
    }

    fn remap(&self, memory: *mut u8, size: usize, new_size: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: dlmalloc gives a mapping of its own.
        match unsafe { libc::mremap(memory.cast(), size, new_size, flags) } {
            libc::MAP_FAILED => ptr::null_mut(),
            memory => memory.cast(),
        }
    }

    fn free_part(&self, memory: *mut u8, size: usize, new_size: usize) -> bool {
        self.free(memory.wrapping_add(new_size), size - new_size)
    }

    fn free(&self, memory: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc gives memory of its own that nothing uses.
        unsafe { libc::munmap(memory.cast(), size) == 0 }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

/// Gives the whole pages among `size` bytes back to the kernel, which hands out zeros when they are next
/// used.
///
/// # Safety
///
/// Nothing may need what these bytes hold.
pub(crate) unsafe fn release(memory: *mut u8, size: usize) {
    let before = memory.align_offset(PAGE);
    let pages = size.saturating_sub(before) / PAGE * PAGE;
    // SAFETY: the pages are of the memory that the caller answers for. Where the kernel refuses, because
    // they are locked, they stay as they are.
    unsafe { libc::madvise(memory.add(before).cast(), pages, libc::MADV_DONTNEED) };
}
