//! Where everything lies in the guest of a run.

use pvh_elfnote::XenNotes;
use pvh_layout::{Layout, LayoutConfig, LayoutError, RsdpPlace};

use super::error::RunError;
use crate::platform::Platform;

/// Lays out a guest of `memory_bytes` and `cpus` vCPUs for a kernel with these notes.
///
/// # Errors
///
/// [`RunError::Ram`], [`RunError::NoRoom`] and [`RunError::Layout`].
pub(super) fn lay_out(
    platform: Platform,
    memory_bytes: u64,
    address_bits: u8,
    cpus: u32,
    notes: &XenNotes,
) -> Result<Layout, RunError> {
    let platform = match platform {
        Platform::Plain => pvh_layout::Platform::Plain,
        Platform::Xen(_) => pvh_layout::Platform::Xen(RsdpPlace::for_guest(notes)),
    };
    let layout = Layout::new(&LayoutConfig {
        platform,
        memory_bytes,
        address_bits,
        apic_ids: &platform.apic_ids(cpus),
    });
    layout.map_err(|error| match error {
        LayoutError::Ram(source) => RunError::Ram(source),
        LayoutError::NoRoomForTables { memory_bytes } => RunError::NoRoom { memory_bytes },
        other => RunError::Layout(other),
    })
}

#[cfg(test)]
mod tests {
    use pvh_kvm::{GuestRam, HypercallTransport};
    use pvh_loader::{Image, plan::Boot};

    use super::*;

    const XEN: Platform = Platform::Xen(HypercallTransport::Intercept);

    fn demo() -> Image {
        Image::from_bytes(pvh_conformance::demo_image().to_vec()).unwrap()
    }

    fn layout(platform: Platform, cpus: u32) -> Layout {
        lay_out(platform, 16 << 20, 48, cpus, demo().notes()).unwrap()
    }

    #[test]
    fn the_platform_decides_where_the_tables_lie() {
        assert_eq!(layout(XEN, 2).acpi[0].at.0, 0xFC00_0000);
        assert!(layout(Platform::Plain, 2).pages.is_empty());
    }

    #[test]
    fn guest_ram_can_be_made_of_each_layout_and_a_kernel_planned_in_it() {
        for platform in [Platform::Plain, XEN] {
            let layout = layout(platform, 2);
            GuestRam::with_ranges(&layout.ram, &layout.pages, 48).unwrap();
            let boot = Boot {
                memmap: layout.memory_map,
                rsdp: Some(layout.rsdp),
                ..Boot::default()
            };
            demo().plan(&boot).unwrap();
        }
    }

    #[test]
    fn memory_without_room_for_tables_is_told_from_other_faults() {
        let refused = |memory_bytes, address_bits| {
            lay_out(
                Platform::Plain,
                memory_bytes,
                address_bits,
                1,
                demo().notes(),
            )
            .unwrap_err()
        };
        assert!(matches!(
            refused(0x1000, 48),
            RunError::NoRoom {
                memory_bytes: 0x1000
            }
        ));
        assert!(matches!(refused(0, 48), RunError::Ram(_)));
        assert!(matches!(refused(0x1000, 31), RunError::Layout(_)));
    }
}
