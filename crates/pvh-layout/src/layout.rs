//! One value that says where everything lies in a guest.

use alloc::{vec, vec::Vec};
use core::fmt;

use pvh_abi::{
    Gpa, GuestRange, address::PAGE_SIZE, memory::E820Entry, special_pages::SPECIAL_PAGES,
};
use pvh_start_info::MemmapRange;

use crate::{
    acpi::{PlainAcpi, RsdpPlace, XenAcpi},
    memory_map::{self, PC_HOLE_END, STACK_TOP},
    ports::{I8042_COMMAND, RESET_CPU},
    ram::{RamSizeError, ram_layout},
};

/// Which machine the guest finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a caller chooses one of two")]
pub enum Platform {
    /// A small PC: an I/O APIC, a serial port, power management. Nothing of Xen.
    Plain,
    /// A Xen PVH domain, laid out as Xen's toolstack does.
    Xen(RsdpPlace),
}

impl Platform {
    /// Returns the most vCPUs that a guest can have: 128 in a Xen domain, as in Xen, and 255
    /// otherwise.
    #[must_use]
    pub const fn max_vcpus(self) -> u32 {
        match self {
            Self::Plain => 255,
            Self::Xen(_) => 128,
        }
    }

    /// Returns the APIC ids of vCPUs 0, 1, 2 and so on: in a Xen domain twice the number of the
    /// vCPU, otherwise the number.
    ///
    /// The list ends with the last vCPU that can have an id.
    #[must_use]
    pub fn apic_ids(self, vcpus: u32) -> Vec<u8> {
        let step = match self {
            Self::Plain => 1,
            Self::Xen(_) => 2,
        };
        let ids = (0..BROADCAST).step_by(step);
        ids.zip(0..vcpus).map(|(id, _)| id).collect()
    }
}

/// What a layout is computed from.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a caller fills it in")]
pub struct LayoutConfig<'a> {
    /// Which machine the guest finds.
    pub platform: Platform,
    /// Size of guest RAM in bytes, a multiple of the page size.
    pub memory_bytes: u64,
    /// Width of a guest-physical address in bits (CPUID 0x8000_0008): at least 32; more than 52
    /// count as 52.
    pub address_bits: u8,
    /// The local APIC's id of each vCPU, in the order of the vCPUs; [`Platform::apic_ids`] has the
    /// usual ones.
    pub apic_ids: &'a [u8],
}

/// Where everything lies in a guest.
///
/// RAM ranges and pages do not overlap; each block lies in RAM or pages, and in a range that the
/// map calls ACPI.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Layout {
    /// RAM in ascending order: one range, or two where RAM goes on at 4 GiB.
    pub ram: Vec<GuestRange>,
    /// Pages beside RAM that need memory behind them, in ascending order, in the hole below 4 GiB:
    /// ACPI tables and special pages of a Xen domain. The plain platform has none.
    pub pages: Vec<GuestRange>,
    /// What start info tells the guest, and `XENMEM_memory_map`. A Xen domain's is in the
    /// toolstack's order, which is not that of addresses.
    pub memory_map: Vec<MemmapRange>,
    /// The pages for rings, of a Xen domain. They are to be zero when the guest starts.
    pub special_pages: Option<GuestRange>,
    /// The top of the guest's first stack, for ESP: the page below it is memory. `None` when RAM
    /// ends below it.
    ///
    /// The ABI leaves ESP open, and Xen sets 0. Some guests call a subroutine before they set it.
    /// The plain platform's map reserves the page; a Xen domain's calls it RAM, as Xen's map does.
    pub stack_top: Option<Gpa>,
    /// The ACPI tables, to be written before the guest starts.
    pub acpi: Vec<Block>,
    /// The address of the ACPI root pointer (RSDP), for start info.
    pub rsdp: Gpa,
    /// Code at F000:FFF0, where a PC has its firmware's first instruction, to be written before the
    /// guest starts: it resets the machine. A guest that reboots through the BIOS jumps there.
    /// `None` in a Xen domain, and when RAM ends below 1 MiB.
    pub reset_code: Option<Block>,
}

/// Bytes, and the address to write them at.
#[derive(Clone, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "bytes at an address")]
pub struct Block {
    /// The address of the first byte.
    pub at: Gpa,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Counts of a guest's pages, as `XENMEM_*` hypercalls report them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain counts")]
pub struct PageCounts {
    /// Pages that the guest has: RAM and pages beside it.
    pub pages: u64,
    /// The most pages that the guest may have: its RAM and 1 MiB, which Xen's toolstack adds for
    /// the pages beside RAM.
    pub max_pages: u64,
    /// The highest guest frame number with a page.
    pub max_gfn: u64,
}

/// Why a guest cannot be laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There is no RAM of that size.
    #[error(transparent)]
    Ram(RamSizeError),
    /// The addresses do not reach the interrupt controllers.
    #[error("{address_bits} bits of guest-physical address are too few: at least 32 are needed")]
    AddressBits {
        /// Width of a guest-physical address in bits.
        address_bits: u8,
    },
    /// The platform has no machine with so many vCPUs, or with none.
    #[error("{vcpus} vCPUs are out of range: a guest has 1 to {limit}")]
    Vcpus {
        /// How many vCPUs were asked for.
        vcpus: usize,
        /// The most that the platform has.
        limit: u32,
    },
    /// Two vCPUs have the same APIC id, or one has 255, which addresses all of them.
    #[error("vCPU {vcpu} cannot have APIC id {id}: another vCPU has it, or it is 255")]
    ApicId {
        /// Number of the vCPU.
        vcpu: usize,
        /// Its APIC id.
        id: u8,
    },
    /// RAM is too small for the ACPI tables.
    #[error("{memory_bytes} bytes of memory leave no room beside the ACPI tables")]
    NoRoomForTables {
        /// Size of guest RAM in bytes.
        memory_bytes: u64,
    },
}

impl Layout {
    /// Computes the layout of a guest.
    ///
    /// # Errors
    ///
    /// [`LayoutError::AddressBits`] for less than 32 bits; [`LayoutError::Vcpus`] and
    /// [`LayoutError::ApicId`] for vCPUs that the platform cannot have; [`LayoutError::Ram`] for
    /// RAM that is empty, not whole pages or too large; [`LayoutError::NoRoomForTables`] when
    /// nothing is left beside the ACPI tables.
    pub fn new(config: &LayoutConfig<'_>) -> Result<Self, LayoutError> {
        let LayoutConfig {
            memory_bytes,
            address_bits,
            apic_ids,
            ..
        } = *config;
        if address_bits < 32 {
            return Err(LayoutError::AddressBits { address_bits });
        }
        check_vcpus(config)?;
        let ram = ram_layout(memory_bytes, address_bits).map_err(LayoutError::Ram)?;
        let layout = match config.platform {
            Platform::Plain => Self::plain(ram, apic_ids),
            Platform::Xen(rsdp) => Self::xen(ram, apic_ids, rsdp),
        };
        layout.ok_or(LayoutError::NoRoomForTables { memory_bytes })
    }

    /// Returns the memory map as hypercalls report it.
    #[must_use]
    pub fn e820(&self) -> Vec<E820Entry> {
        let entries = self.memory_map.iter().map(|range| E820Entry {
            addr: range.start.0.into(),
            size: range.len_bytes.into(),
            kind: range.kind.0.into(),
        });
        entries.collect()
    }

    /// Counts the guest's pages.
    #[must_use]
    pub fn page_counts(&self) -> PageCounts {
        let count = |ranges: &[GuestRange]| {
            let lengths = ranges.iter().map(|range| range.len_bytes / PAGE_SIZE);
            lengths.fold(0, u64::saturating_add)
        };
        let ends = self.ram.iter().chain(&self.pages);
        let ends = ends.map(|range| range.start.0.saturating_add(range.len_bytes) / PAGE_SIZE);
        PageCounts {
            pages: count(&self.ram).saturating_add(count(&self.pages)),
            max_pages: count(&self.ram).saturating_add(SLACK_PAGES),
            max_gfn: ends.max().unwrap_or(0).saturating_sub(1),
        }
    }

    fn plain(ram: Vec<GuestRange>, apic_ids: &[u8]) -> Option<Self> {
        // The length is the same at every address.
        let acpi_bytes = PlainAcpi::build(Gpa(0), apic_ids).bytes.len() as u64;
        let (memory_map, at) = memory_map::plain(&ram, acpi_bytes)?;
        let stack_top = Some(STACK_TOP).filter(|&top| top <= at);
        let bytes = PlainAcpi::build(at, apic_ids).bytes;
        let reset_code = (at.0 >= PC_HOLE_END).then(|| Block {
            at: RESET_ADDRESS,
            bytes: RESET_CODE.to_vec(),
        });
        Some(Self {
            ram,
            pages: Vec::new(),
            memory_map,
            special_pages: None,
            stack_top,
            acpi: vec![Block { at, bytes }],
            rsdp: at,
            reset_code,
        })
    }

    fn xen(ram: Vec<GuestRange>, apic_ids: &[u8], rsdp: RsdpPlace) -> Option<Self> {
        let acpi = XenAcpi::build(apic_ids, rsdp);
        let ram_end = ram.first().and_then(|low| low.end());
        Some(Self {
            memory_map: memory_map::xen(&ram, &acpi)?,
            ram,
            pages: vec![acpi.pages(), SPECIAL_PAGES],
            special_pages: Some(SPECIAL_PAGES),
            stack_top: Some(STACK_TOP).filter(|&top| ram_end.is_some_and(|end| top <= end)),
            rsdp: acpi.rsdp,
            acpi: acpi.into_blocks().into(),
            reset_code: None,
        })
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("at", &self.at)
            .field("len_bytes", &self.bytes.len())
            .finish()
    }
}

/// Refuses a number of vCPUs that the platform does not have, and APIC ids that cannot address one
/// vCPU each.
fn check_vcpus(config: &LayoutConfig<'_>) -> Result<(), LayoutError> {
    let (vcpus, limit) = (config.apic_ids.len(), config.platform.max_vcpus());
    if !(1..=limit).contains(&u32::try_from(vcpus).unwrap_or(u32::MAX)) {
        return Err(LayoutError::Vcpus { vcpus, limit });
    }
    for (vcpu, &id) in config.apic_ids.iter().enumerate() {
        let mut before = config.apic_ids.iter().take(vcpu);
        if id == BROADCAST || before.any(|&other| other == id) {
            return Err(LayoutError::ApicId { vcpu, id });
        }
    }
    Ok(())
}

/// F000:FFF0, 16 bytes below 1 MiB.
const RESET_ADDRESS: Gpa = Gpa(0xF_FFF0);

/// In real mode: mov al, RESET_CPU; out I8042_COMMAND, al; hlt; and once more after an NMI.
const RESET_CODE: [u8; 7] = [0xB0, RESET_CPU, 0xE6, 0x64, 0xF4, 0xEB, 0xF9];
const _: () = assert!(I8042_COMMAND == 0x64);

/// The APIC id that addresses every local APIC.
const BROADCAST: u8 = 0xFF;
/// 1 MiB, as Xen's toolstack has it.
const SLACK_PAGES: u64 = 256;

#[cfg(test)]
mod tests;
