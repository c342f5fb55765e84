//! The interface before the first call: the Xen CPUID leaves, the hypercall MSR and the hypercall
//! page.

use pvh_abi::Gpa;
use pvh_hypercall::{
    CpuidConfig, CpuidLeaf, MSR_READ, Stub, TscInfo, decode_msr_write, hypercall_page, write_msr,
};
use pvh_memory::{GuestMemory, SliceMemory};

use crate::{bytes::is_printable, tape::Tape};

/// Reads leaves of any configuration, and fills a page at any address.
///
/// # Panics
///
/// If a leaf is not as in arch-x86/cpuid.h, if an entry of the page does not load its number, exit
/// and return, if a page other than page 0 is accepted, or if a byte outside the page is written.
pub fn interface(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let stub = match tape.byte() {
        port @ 0..=0x7f => Stub::PortIo { port },
        0x80..=0xbf => Stub::Vmcall,
        _ => Stub::Vmmcall,
    };
    page(stub, tape.address());
    leaves(&mut tape);
}

fn leaves(tape: &mut Tape<'_>) {
    let base = match tape.byte() {
        0..=0x7f => 0x4000_0000,
        0x80..=0xdf => 0x4000_0100,
        0xe0..=0xef => u32::MAX - u32::from(tape.byte()),
        _ => tape.word(),
    };
    let version = (tape.half(), tape.half());
    let (domain_id, vcpu_id) = (tape.word(), tape.word());
    let tsc = TscInfo {
        flags: tape.word(),
        mode: tape.word(),
        guest_khz: tape.word(),
        incarnation: tape.word(),
        offset: tape.long(),
        to_ns_mul: tape.word(),
        to_ns_shift: tape.byte().cast_signed(),
        host_khz: tape.word(),
    };
    let plain = CpuidConfig::new(domain_id, vcpu_id, tsc);
    check(&plain, tape);
    assert_eq!(answer(&plain, 0x4000_0001, 0), Some([0x0004_0011, 0, 0, 0]));
    assert_eq!(
        answer(&plain, 0x4000_0004, 7),
        Some([0; 4]),
        "it has one sub-leaf"
    );
    let moved = CpuidConfig {
        base,
        version,
        hypercall_msr: tape.word(),
        hvm_features: tape.word(),
        ..plain
    };
    check(&moved, tape);
}

fn check(config: &CpuidConfig, tape: &mut Tape<'_>) {
    let leaf = match tape.flag() {
        true => config
            .base
            .wrapping_add(u32::from(tape.half()))
            .wrapping_sub(0x40),
        false => config.base.wrapping_add(u32::from(tape.byte() & 7)),
    };
    let subleaf = match tape.byte() {
        few @ 0..=0xef => u32::from(few & 3),
        _ => tape.word(),
    };
    assert_eq!(answer(config, leaf, subleaf), wanted(config, leaf, subleaf));
    let listed: Vec<_> = config.leaves().collect();
    let all = [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (3, 1),
        (3, 2),
        (4, 0),
        (5, 0),
    ];
    let all = all.into_iter().filter_map(|(index, subleaf)| {
        let leaf = config.base.checked_add(index)?;
        Some((leaf, subleaf))
    });
    let all: Vec<(u32, u32)> = all.collect();
    let names: Vec<(u32, u32)> = listed.iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(names, all);
    for (leaf, subleaf, listed) in listed {
        assert_eq!(Some(registers(listed)), wanted(config, leaf, subleaf));
    }
}

const fn registers(leaf: CpuidLeaf) -> [u32; 4] {
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}

fn answer(config: &CpuidConfig, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
    config.leaf(leaf, subleaf).map(registers)
}

/// The leaves that the header lists, of the 256 leaves of Xen.
fn wanted(config: &CpuidConfig, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
    let (leaf, base) = (u64::from(leaf), u64::from(config.base));
    if !(base..base + 256).contains(&leaf) {
        return None;
    }
    let tsc = &config.tsc;
    let text = |at: usize| {
        let letters: [u8; 4] = std::array::from_fn(|i| b"XenVMMXenVMM"[at + i]);
        u32::from_le_bytes(letters)
    };
    let if_told = |bit: u32, id: u32| match config.hvm_features >> bit & 1 {
        0 => 0,
        _ => id,
    };
    let low_32 = |long: u64| u32::try_from(long & 0xffff_ffff).unwrap_or_default();
    let highest = u32::try_from(base + 5).unwrap_or(u32::MAX);
    let (major, minor) = (u32::from(config.version.0), u32::from(config.version.1));
    Some(match (leaf - base, subleaf) {
        (0, _) => [highest, text(0), text(4), text(8)],
        (1, _) => [major * 0x1_0000 + minor, 0, 0, 0],
        (2, _) => [1, config.hypercall_msr, 0, 0],
        (3, 0) => [tsc.flags, tsc.mode, tsc.guest_khz, tsc.incarnation],
        (3, 1) => {
            let shift = u32::from(tsc.to_ns_shift.cast_unsigned());
            [
                low_32(tsc.offset),
                low_32(tsc.offset >> 32),
                tsc.to_ns_mul,
                shift,
            ]
        }
        (3, 2) => [tsc.host_khz, 0, 0, 0],
        (4, 0) => {
            let (vcpu, domain) = (if_told(3, config.vcpu_id), if_told(4, config.domain_id));
            [config.hvm_features, vcpu, domain, 0]
        }
        _ => [0; 4],
    })
}

const RAM_AT: u64 = 0x3000;
const RAM_BYTES: usize = 0x3000;

/// Fills the page by a write to the MSR, in RAM of three pages.
fn page(stub: Stub, value: u64) {
    let page = hypercall_page(stub);
    for (number, entry) in page.chunks(32).enumerate() {
        check_entry(stub, number, entry);
    }
    assert_eq!(MSR_READ, 0);
    let mut ram = vec![0x55; RAM_BYTES];
    let memory = SliceMemory::new(Gpa(RAM_AT), &mut ram);
    let is_ram = (RAM_AT..RAM_AT + 0x3000).contains(&value);
    let is_aligned = value & 0xfff == 0;
    let written = write_msr(value, stub, &memory);
    match written {
        Ok(at) => {
            assert!(at == Gpa(value) && is_aligned && is_ram);
            let mut found = [0; 4096];
            memory.read(at, &mut found).expect("it is RAM");
            assert_eq!(found, page);
        }
        Err(error) => {
            is_printable(&error);
            assert!(!is_aligned || !is_ram, "{error}");
        }
    }
    assert_eq!(decode_msr_write(value).is_ok(), is_aligned);
    let (before, from) = match written {
        Ok(_) => ram.split_at(usize::try_from(value - RAM_AT).expect("it is RAM")),
        Err(_) => ram.split_at(RAM_BYTES),
    };
    let after = from.get(4096..).unwrap_or_default();
    let untouched = [0x55; RAM_BYTES];
    let is_untouched = |bytes: &[u8]| bytes == &untouched[..bytes.len()];
    assert!(
        is_untouched(before) && is_untouched(after),
        "more than a page"
    );
}

/// Decodes an entry as a processor would, and checks the bytes after it.
fn check_entry(stub: Stub, number: usize, entry: &[u8]) {
    let rest = match entry {
        // ud2: a call of `iret` has no meaning
        [0x0f, 0x0b, rest @ ..] if number == 23 => rest,
        // mov eax, number
        [0xb8, n0, n1, n2, n3, rest @ ..] if number != 23 => {
            let loaded = u32::from_le_bytes([*n0, *n1, *n2, *n3]);
            assert_eq!(u64::from(loaded), number as u64);
            match (stub, rest) {
                // vmcall; vmmcall; out port, eax: each with a ret behind it
                (Stub::Vmcall, [0x0f, 0x01, 0xc1, 0xc3, rest @ ..]) => rest,
                (Stub::Vmmcall, [0x0f, 0x01, 0xd9, 0xc3, rest @ ..]) => rest,
                (Stub::PortIo { port }, [0xe7, to, 0xc3, rest @ ..]) if *to == port => rest,
                _ => panic!("entry {number} does not leave: {entry:02x?}"),
            }
        }
        _ => panic!("entry {number}: {entry:02x?}"),
    };
    assert!(
        rest.iter().all(|&byte| byte == 0xcc),
        "code behind entry {number}"
    );
}
