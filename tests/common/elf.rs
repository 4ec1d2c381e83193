//! What a binary needs from the system that runs it.

use std::fs;
use std::path::Path;

use object::Endianness;
use object::elf::{DT_NEEDED, ET_DYN, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// Asserts that the kernel alone can run `binary`: no interpreter and no library. And that it does so
/// at a random address, where Rust can have that.
pub fn assert_static(binary: &Path) {
    let data = fs::read(binary).expect("the binary is there");
    let header = FileHeader64::<Endianness>::parse(&*data).expect("a 64-bit ELF file");
    let endian = header.endian().expect("a known byte order");
    let segments = header
        .program_headers(endian, &*data)
        .expect("program headers");
    let dynamic = segments
        .iter()
        .find_map(|segment| segment.dynamic(endian, &*data).expect("a dynamic section"))
        .unwrap_or_default();
    let name = binary.display();
    assert!(
        segments
            .iter()
            .all(|segment| segment.p_type(endian) != PT_INTERP),
        "{name}: INTERP"
    );
    assert!(
        dynamic.iter().all(|entry| entry.tag(endian) != DT_NEEDED),
        "{name}: NEEDED"
    );
    // Of static programs, Rust makes only those for x86_64 position-independent.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(header.e_type(endian), ET_DYN, "{name}: at a fixed address");
    }
}
