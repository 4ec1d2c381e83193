//! What a binary needs from the system that runs it.

use std::fs;
use std::path::Path;

use object::Endianness;
use object::elf::{
    DT_NEEDED, ET_DYN, FileHeader64, PF_R, PF_X, PT_INTERP, PT_LOAD, ProgramHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

fn parse(data: &[u8]) -> (&FileHeader64<Endianness>, &[ProgramHeader64<Endianness>]) {
    let header = FileHeader64::<Endianness>::parse(data).expect("a 64-bit ELF file");
    let endian = header.endian().expect("a known byte order");
    let segments = header.program_headers(endian, data);
    (header, segments.expect("program headers"))
}

/// Asserts that the kernel alone can run `binary`, with no interpreter and no library; and that it does so
/// at a random address, where rustc makes such programs.
pub fn assert_static(binary: &Path) {
    let data = fs::read(binary).expect("the binary is there");
    let (header, segments) = parse(&data);
    let endian = header.endian().expect("a known byte order");
    let dynamic = segments
        .iter()
        .find_map(|segment| {
            let dynamic = segment.dynamic(endian, &*data);
            dynamic.expect("a dynamic section")
        })
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
    // Of static programs, rustc makes only those for x86_64 position-independent by itself. The
    // Dockerfile makes it do so for arm64 as well.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(header.e_type(endian), ET_DYN, "{name}: at a fixed address");
    }
}

/// Asserts that all of `binary` is in one segment, and that nothing writes to it: there is nothing to
/// relocate, and no page for the kernel to copy.
pub fn assert_one_segment(binary: &Path) {
    let data = fs::read(binary).expect("the binary is there");
    let (header, segments) = parse(&data);
    let endian = header.endian().expect("a known byte order");
    let loaded: Vec<u32> = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .map(|segment| segment.p_flags(endian))
        .collect();
    assert_eq!(loaded, [PF_R | PF_X], "{}", binary.display());
}
