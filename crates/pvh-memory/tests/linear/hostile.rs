//! Tables that no kernel would make: every walk ends, inside RAM.

use std::cell::Cell;

use pvh_abi::Gpa;
use pvh_memory::{
    Access, GuestMemory, LinearAddress, LinearFault, LinearMemory, MemoryError, PagingMode, WordOp,
};

use crate::guest::{Guest, RAM_BYTES};

/// Counts what a walk reads.
struct Counted<'guest, M: ?Sized> {
    memory: &'guest M,
    loads: Cell<usize>,
}

impl<M: GuestMemory + ?Sized> GuestMemory for Counted<'_, M> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.memory.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.loads
            .set(self.loads.get() + usize::from(op == WordOp::Load));
        self.memory.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.loads
            .set(self.loads.get() + usize::from(op == WordOp::Load));
        self.memory.atomic_u64(at, op)
    }
}

/// Where `at` leads, with a look at how much was read for it.
fn counted(guest: &Guest, at: LinearAddress) -> Result<Gpa, LinearFault> {
    let memory = Counted {
        memory: &guest.memory,
        loads: Cell::new(0),
    };
    let view = LinearMemory::new(&memory, &guest.state, &guest.policy);
    let answer = view.translate(at, Access::Write);
    assert!(memory.loads.get() <= guest.levels());
    answer
}

#[test]
fn a_table_that_is_its_own_table_maps_itself() {
    let four_level = (Guest::four_level(), 0x0000_0080_4020_1ABC);
    for (guest, at) in [four_level, (Guest::two_level(), 0x00C0_3ABC)] {
        // The root's entry leads to the root: every level is read there, and the page is the root.
        let top = guest.levels();
        let root = guest.entry_at(top).0 & !0xFFF;
        guest.set(top, root | 3);
        assert_eq!(counted(&guest, LinearAddress(at)), Ok(Gpa(root | 0xABC)));
        assert_eq!(guest.entry(top), root | 0x63, "accessed; dirty as the last");
    }
}

#[test]
fn a_pae_root_that_maps_itself_goes_on_with_its_accessed_bit() {
    let guest = Guest::pae();
    guest.set(3, 0x3001);
    let read = || {
        guest
            .view()
            .translate(LinearAddress(0x80C0_6ABC), Access::Read)
    };
    assert_eq!(read(), Ok(Gpa(0x3ABC)));
    assert_eq!(guest.entry(3), 0x3021);
    assert_eq!(read(), Ok(Gpa(0x3ABC)));
}

#[test]
fn a_write_through_a_self_map_moves_the_table_under_the_walk() {
    let guest = Guest::four_level();
    guest.set(4, 0x4003);
    // Linear address of the root's own bytes: the first page's bytes remove the map for the second.
    let at = LinearAddress(0x0000_0080_4020_1000);
    let fault = guest.view().write(at, &[0; 0x1001]).unwrap_err();
    assert_eq!(fault.at(), LinearAddress(at.0 + 0x1000));
    assert_eq!(guest.bytes(0x4000, 0x1000), vec![0; 0x1000]);
}

#[test]
fn memory_of_ones_is_no_table() {
    for mut guest in Guest::paged() {
        let ones = vec![0xFF; usize::try_from(RAM_BYTES).unwrap()];
        guest.memory.write(Gpa(0), &ones).unwrap();
        for at in [0, 0x1234_5678, 0xFFFF_FFFF].map(LinearAddress) {
            let fault = counted(&guest, at).unwrap_err();
            if guest.state.mode() == PagingMode::Pae {
                // Its highest entries reserve nothing; the address is too wide.
                assert!(matches!(fault, LinearFault::TableNotRam { level: 2, .. }));
            } else {
                assert!(matches!(fault, LinearFault::ReservedBits { .. }));
            }
        }
        // Where every bit is good, the target is not RAM.
        guest.policy.address_bits = 52;
        guest.state.cr4 = 0x20;
        for at in [0, 0x1234_5678, 0xFFFF_FFFF].map(LinearAddress) {
            assert!(guest.view().write(at, &[0]).is_err());
        }
        assert_eq!(guest.bytes(0, ones.len()), ones);
    }
}

#[test]
fn a_root_outside_ram_is_a_fault() {
    for mut guest in Guest::paged() {
        for cr3 in [RAM_BYTES, 0xFFFF_F000, 0x000F_FFFF_FFFF_F000, u64::MAX] {
            guest.state.cr3 = cr3;
            assert!(matches!(
                counted(&guest, guest.at),
                Err(LinearFault::TableNotRam { .. })
            ));
        }
    }
}

#[test]
fn a_root_wider_than_physical_addresses_is_a_fault_even_where_there_is_ram() {
    let mut guest = Guest::four_level();
    guest.policy.address_bits = 14;
    assert!(matches!(
        guest.translate(),
        Err(LinearFault::TableNotRam {
            level: 4,
            entry: Gpa(0x4008),
            ..
        })
    ));
}

#[test]
fn a_table_at_the_end_of_the_address_space_does_not_overflow() {
    let mut guest = Guest::four_level();
    guest.policy.address_bits = u8::MAX;
    guest.state.cr3 = u64::MAX;
    for at in [0, u64::MAX].map(LinearAddress) {
        assert!(matches!(
            counted(&guest, at),
            Err(LinearFault::TableNotRam { .. })
        ));
        assert!(guest.view().read(at, &mut [0; 16]).is_err());
    }
}

#[test]
fn any_policy_is_survived() {
    for mut guest in Guest::paged() {
        for address_bits in 0..=u8::MAX {
            for flags in 0..8 {
                guest.policy.address_bits = address_bits;
                guest.policy.is_amd = flags & 1 != 0;
                guest.policy.has_gib_pages = flags & 2 != 0;
                guest.policy.has_pse36 = flags & 4 != 0;
                let answer = counted(&guest, guest.at);
                assert!(
                    address_bits < 15 || answer == Ok(Gpa(0x5567)),
                    "{address_bits}"
                );
            }
        }
    }
}
