//! What stands in for the C library's start-up code in the binary that ships.

use core::arch::naked_asm;
use core::ffi::c_int;

use crate::system_call;

/// Where the process begins, with the stack pointer at what the System V ABI puts there. The C library's
/// start-up code would also set up what C code needs, such as thread-local storage: two system calls, and a
/// page that has to be written to.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "mov rdi, rsp",
        "lea rsi, [rip + __ehdr_start]",
        "lea rdx, [rip + relocations]",
        "lea rcx, [rip + relocations_end]",
        "call {begin}",
        begin = sym begin
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x0, sp",
        "adrp x1, __ehdr_start",
        "add x1, x1, :lo12:__ehdr_start",
        "adrp x2, relocations",
        "add x2, x2, :lo12:relocations",
        "adrp x3, relocations_end",
        "add x3, x3, :lo12:relocations_end",
        "b {begin}",
        begin = sym begin
    );
}

/// Relocates the program and calls `main`. Optimised for size there is nothing to relocate, but that is
/// for the compiler to decide.
///
/// # Safety
///
/// `stack` must be the stack pointer that the process begins with, and `program` the address of its ELF
/// header, which is linked at 0. From `relocation` to `end` there must be its relocations, all of places that
/// can be written to and all of the kind RELATIVE: a program without dynamic symbols has no other kind.
unsafe extern "C" fn begin(
    stack: *const usize,
    program: *mut u8,
    mut relocation: *const [usize; 3],
    end: *const [usize; 3],
) -> ! {
    // SAFETY: each is an `Elf64_Rela`, and its place is in .data (link.ld). On the stack are the number
    // of arguments, the arguments and a null pointer, the environment.
    let (count, arguments, environment) = unsafe {
        while relocation < end {
            let [offset, _, address] = *relocation;
            let place = program.add(offset).cast();
            *place = program as usize + address;
            relocation = relocation.add(1);
        }
        let count = *stack;
        (count, stack.add(1).cast(), stack.add(count + 2).cast())
    };
    exit(crate::main(count as c_int, arguments, environment))
}

fn exit(code: c_int) -> ! {
    #[cfg(target_arch = "x86_64")]
    const EXIT_GROUP: usize = 231;
    #[cfg(target_arch = "aarch64")]
    const EXIT_GROUP: usize = 94;
    loop {
        // SAFETY: it ends the process and touches nothing else.
        unsafe { system_call(EXIT_GROUP, [code as usize, 0, 0, 0]) };
    }
}

/// Comparisons of slices are compiled to calls of this: 0 if they are the same. The C library's `bcmp` would
/// be called through a table of addresses, which would have to be relocated.
///
/// # Safety
///
/// Both must have `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> c_int {
    // SAFETY: both are that long. Volatile, or this loop might be compiled to a call of itself.
    let differs = |at| unsafe { one.add(at).read_volatile() != other.add(at).read_volatile() };
    (0..len).any(differs).into()
}

/// Copies that are not done in place are compiled to calls of this, such as that of a unix socket's address.
/// The C library's `memcpy` has 396 bytes on this architecture, for the sake of long copies.
///
/// # Safety
///
/// Both must have `len` bytes, none of them in common.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: both are that long. Volatile, or this loop might be compiled to a call of itself.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

// For other levels of optimisation, which compile more to calls of the C library's functions.
#[link(name = "c")]
unsafe extern "C" {}

/// Nothing in the probe panics. A test harness has a handler of its own.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(healthcheck::Outcome::Unhealthy as c_int)
}
