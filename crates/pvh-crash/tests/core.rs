//! Cores as files, read by the `object` crate.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::{
    fs,
    io::Cursor,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use object::{
    Endianness, elf,
    read::elf::{ElfFile64, ProgramHeader},
};
use pvh_abi::Gpa;
use pvh_crash::{CoreDump, DumpError};
use pvh_entry::EntryState;
use pvh_memory::{GuestMemory, VecMemory};
use support::{HIGH, RAM, long_mode, memory};

/// Offset, linear and physical address and length of each PT_LOAD.
fn loads(core: &[u8]) -> Vec<(u64, u64, u64, u64)> {
    let file = ElfFile64::<Endianness>::parse(core).unwrap();
    let le = Endianness::Little;
    let headers = file.elf_program_headers().iter();
    let loads = headers.filter(|header| header.p_type(le) == elf::PT_LOAD);
    loads
        .map(|h| (h.p_offset(le), h.p_vaddr(le), h.p_paddr(le), h.p_filesz(le)))
        .collect()
}

fn core(dump: &CoreDump<'_>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let dumped = dump.write_to(&mut file).unwrap();
    let mut bytes = file.into_inner();
    bytes.resize(usize::try_from(dumped.len_bytes).unwrap(), 0);
    bytes
}

#[test]
fn each_byte_of_ram_stands_at_its_physical_and_its_linear_addresses() {
    let memory = memory();
    memory.write(Gpa(0x1F_FFFF), &[0xA5]).unwrap();
    let vcpus = [(0, long_mode())];
    let core = core(&CoreDump {
        ram: &RAM,
        memory: &memory,
        vcpus: &vcpus,
    });
    let loads = loads(&core);
    let ram = *loads.last().unwrap();
    assert_eq!((ram.2, ram.3), (0, 0x20_0000));
    assert_eq!(core[usize::try_from(ram.0 + 0x1F_FFFF).unwrap()], 0xA5);
    assert!(loads.contains(&(ram.0, 0, 0, 0x20_0000)), "{loads:x?}");
    assert!(loads.contains(&(ram.0, HIGH, 0, 0x20_0000)), "{loads:x?}");
}

#[test]
fn an_unpaged_guest_has_its_physical_addresses_alone() {
    let memory = VecMemory::zeroed(&[(Gpa(0), 0x1000), (Gpa(0x8000), 0x1800)]).unwrap();
    memory.write(Gpa(0x9000), &[1]).unwrap();
    let state = EntryState::pvh(0x1000, Gpa(0x2000)).unwrap();
    let ram = [(Gpa(0), 0x1000), (Gpa(0x8000), 0x1800)];
    let core = core(&CoreDump {
        ram: &ram,
        memory: &memory,
        vcpus: &[(0, state)],
    });
    let loads = loads(&core);
    let addresses: Vec<_> = loads.iter().map(|load| (load.1, load.2, load.3)).collect();
    assert_eq!(addresses, [(0, 0, 0x1000), (0x8000, 0x8000, 0x1800)]);
    assert_eq!(core[usize::try_from(loads[1].0 + 0x1000).unwrap()], 1);
}

#[test]
fn page_tables_that_are_a_maze_are_cut_short() {
    let memory = memory();
    // Every entry of the root leads to the root.
    for index in 0..512 {
        memory
            .write(Gpa(0x10000 + index * 8), &0x10003_u64.to_le_bytes())
            .unwrap();
    }
    let vcpus = [(0, long_mode())];
    let dump = CoreDump {
        ram: &RAM,
        memory: &memory,
        vcpus: &vcpus,
    };
    let dumped = dump.write_to(&mut Cursor::new(Vec::new())).unwrap();
    assert!(dumped.is_map_cut_short);
}

#[test]
fn a_core_takes_no_room_for_zeros_and_is_for_its_owner_alone() {
    let ram = [(Gpa(0), 64 << 20)];
    let memory = VecMemory::zeroed(&ram).unwrap();
    memory.write(Gpa(0x10_0000), &[1]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let dump = CoreDump {
        ram: &ram,
        memory: &memory,
        vcpus: &[],
    };
    let dumped = dump.write_file(&path).unwrap();
    assert!(dumped.written_bytes < 128 << 10, "{dumped:?}");
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.len() > 64 << 20);
    assert!(
        metadata.blocks() * 512 < 1 << 20,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file"
    );
}

#[test]
fn a_core_that_cannot_be_written_leaves_the_file_of_before() {
    let memory = memory();
    let dump = CoreDump {
        ram: &RAM,
        memory: &memory,
        vcpus: &[],
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    fs::create_dir(&path).unwrap();
    let refused = dump.write_file(&path).unwrap_err();
    assert!(matches!(refused, DumpError::Rename { .. }), "{refused:?}");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file"
    );
    let missing = folder.path().join("none/core");
    assert!(matches!(
        dump.write_file(&missing),
        Err(DumpError::Create { .. })
    ));
}
