//! dlmalloc in place of musl's allocator, which makes system calls where dlmalloc makes none; and [`trim`],
//! which gives free pages back to the kernel, where dlmalloc gives back only the end of its heap.
//!
//! It replaces the C library's allocator, not Rust's global one: std takes the memory for its threads from the
//! C library in any case, so a process would start up two allocators. Any program that links this crate has
//! it; on glibc the C library's own allocator stays.

#[cfg(target_env = "musl")]
pub use musl::trim;

#[cfg(target_env = "musl")]
mod kernel;
#[cfg(target_env = "musl")]
mod musl;

/// Gives the pages of free memory back to the kernel.
#[cfg(target_env = "gnu")]
pub fn trim() {
    // SAFETY: malloc_trim(3) may be called at any time.
    unsafe { libc::malloc_trim(0) };
}
