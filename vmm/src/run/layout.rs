//! What goes where in guest memory besides kernel and modules, on either platform.

use pvh_abi::{Gpa, GuestRange};
use pvh_domain::memory;
use pvh_elfnote::XenNotes;
use pvh_start_info::MemmapRange;

use crate::{
    acpi::{Acpi, RsdpPlace, XenAcpi},
    machine::{draw, draw_xen},
    platform::Platform,
};

/// The guest's memory as it is told to it.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The RAM ranges.
    pub(super) ram: Vec<GuestRange>,
    /// The memory map.
    pub(super) memmap: Vec<MemmapRange>,
    /// Where the root of the ACPI tables is.
    pub(super) rsdp: Gpa,
    /// The tables, and where they go.
    pub(super) tables: Vec<(Gpa, Vec<u8>)>,
    /// Pages in the hole below 4 GiB.
    pub(super) pages: Vec<GuestRange>,
    /// What a domain tells its guest about memory.
    pub(super) domain: memory::Config,
}

impl Layout {
    /// Decides for a kernel with these notes, and `cpus` vCPUs; `None` if RAM is too small for the tables.
    pub(super) fn draw(
        platform: Platform,
        ram: &[GuestRange],
        cpus: u32,
        notes: &XenNotes,
    ) -> Option<Self> {
        match platform {
            Platform::Plain => Self::plain(ram, &apic_ids(cpus, 1)),
            Platform::Xen(_) => {
                // Xen's are even.
                let acpi = XenAcpi::build(&apic_ids(cpus, 2), RsdpPlace::for_guest(notes));
                Self::xen(ram, &acpi)
            }
        }
    }

    fn plain(ram: &[GuestRange], apic_ids: &[u8]) -> Option<Self> {
        let acpi_bytes = Acpi::build(Gpa(0), apic_ids).bytes.len() as u64;
        let map = draw(ram, acpi_bytes)?;
        let acpi = Acpi::build(map.acpi, apic_ids);
        Some(Self {
            ram: ram.to_vec(),
            memmap: map.ranges,
            rsdp: acpi.rsdp,
            tables: vec![(map.acpi, acpi.bytes)],
            pages: Vec::new(),
            domain: memory::Config::default(),
        })
    }

    fn xen(ram: &[GuestRange], acpi: &XenAcpi) -> Option<Self> {
        let map = draw_xen(ram, acpi)?;
        let tables = acpi.pieces().map(|(at, bytes)| (at, bytes.to_vec()));
        Some(Self {
            ram: ram.to_vec(),
            memmap: map.ranges,
            rsdp: acpi.rsdp,
            tables: tables.into(),
            pages: map.pages,
            domain: map.domain,
        })
    }
}

/// The APIC ids of so many vCPUs, in steps.
fn apic_ids(cpus: u32, step: usize) -> Vec<u8> {
    let ids = (0..=u8::MAX).step_by(step);
    ids.zip(0..cpus).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use pvh_kvm::HypercallTransport;
    use pvh_layout::ram_layout;
    use pvh_loader::Image;

    use super::*;

    #[test]
    fn a_domain_has_even_apic_ids_and_pages_in_the_hole() {
        assert_eq!(apic_ids(3, 2), [0, 2, 4]);
        assert_eq!(apic_ids(128, 2).last(), Some(&254));
        assert_eq!(apic_ids(255, 1).last(), Some(&254));
        let image = Image::from_bytes(pvh_conformance::demo_image().to_vec()).unwrap();
        let ram = ram_layout(16 << 20, 48).unwrap();
        let xen = Platform::Xen(HypercallTransport::Intercept);
        let layout = Layout::draw(xen, &ram, 2, image.notes()).unwrap();
        assert!(
            layout
                .pages
                .iter()
                .any(|page| page.start == Gpa(0xFEFF_8000))
        );
        assert_eq!(layout.tables[0].0, Gpa(0xFC00_0000));
        let plain = Layout::draw(Platform::Plain, &ram, 2, image.notes()).unwrap();
        assert!(plain.pages.is_empty());
    }
}
