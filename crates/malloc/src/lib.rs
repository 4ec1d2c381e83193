//! dlmalloc in the place of musl's own allocator, which makes a system call where this one does not; and
//! free memory given back to the kernel, which dlmalloc alone does only at the end of its heap.
//!
//! It is not Rust's global allocator but the C library's: std takes the memory for its threads from
//! the C library in any case, and a process would start up both. Any program that links this crate has it; on
//! glibc the C library's own allocator stays.

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
