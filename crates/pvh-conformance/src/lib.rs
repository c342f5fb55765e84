#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod expect;
pub mod fuzz;
pub mod known;
pub mod peers;
pub mod reference;
pub mod report;
pub mod selection;
pub mod summary;
pub mod table;
pub mod tap;

/// Returns the demo guest: an ELF32 image with a `PHYS32_ENTRY` note. It prints what it finds at
/// entry to COM1 and powers off by ACPI, or as a Xen guest.
#[must_use]
pub fn demo_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/demo.elf"))
}

/// Returns the demo guest for the draft of the start info: 20 bytes, with 8-byte module entries.
///
/// No field distinguishes the draft from later versions, so the draft needs a separate image. The
/// draft has no RSDP, so this guest powers off on Xen only; elsewhere it halts with interrupts off.
#[must_use]
pub fn draft_demo_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/demo-draft.elf"))
}

/// Returns the soak guest, for the Xen platform with 4 vCPUs: they take each other up and down at
/// random with `VCPUOP_*`. The guest prints to COM1 whether each vCPU obeyed (`soak: ok` or `soak:
/// failed`), and powers off.
///
/// Its command line may have `seed=` and a hexadecimal number, to which the guest adds its clock;
/// `exact=` and the number that an earlier run printed, to repeat that run; and `reboot`, to reboot
/// at the end.
#[must_use]
pub fn soak_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/soak.elf"))
}

/// Returns the guest that uses each device of a PC as a driver would, for either platform with one
/// vCPU. It prints for each device whether the ACPI tables say that it is there, and checks that
/// the device agrees (`check ok: `, `check failed: `; `PVH devices: ok` at the end). Then it powers
/// off by ACPI.
#[must_use]
pub fn devices_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/devices.elf"))
}

/// Returns the attacking guest, for the Xen platform with up to 128 vCPUs. Every vCPU but the last
/// repeats a multicall without end.
///
/// Its command line begins with the name of the attack: `downs`, `flush`, `balloon` (needs 512
/// MiB), `slots` or `resets`. It prints the number of vCPUs to COM1 (`attack: 4 vCPUs`) before it
/// starts them.
#[must_use]
pub fn attack_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/attack.elf"))
}

/// Returns the conformance guest, for the Xen platform with 4 vCPUs and 64 MiB. It makes every call
/// that a PVH domain offers, from 32-bit and from 64-bit code, and starts secondary vCPUs in each
/// mode. It prints one check per line ([`tap::Tap`]) to the PV console, or to COM1 or port 0xE9 if
/// there is none, and powers off.
///
/// Its command line may have `only=` or `no=` and names of sections, separated by commas
/// ([`selection`]).
#[must_use]
pub fn conformance_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/conformance.elf"))
}

/// Returns the fuzz guest, for either platform with up to 4 vCPUs and at least 32 MiB. It carries
/// out the steps of a program ([`fuzz::Program`]) and prints each to COM1 or port 0xE9, before and
/// after ([`fuzz::Log`]); then it powers off.
///
/// Its command line has `seed=`, `steps=` and `keep=` (numbers and ranges). A module holds a program
/// itself, of 16 bytes a step: kind, vCPU, two bytes and three words. Of a guest that hangs, the
/// memory has a ring of the last steps: the word 0x5a46_5650, the seed, how many steps began, and
/// the last 61 numbers.
#[must_use]
pub fn fuzz_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/fuzz.elf"))
}

/// Returns the plain guest: it checks the machine of any PVH VMM, without the help of a hypervisor,
/// before it changes anything. It prints TAP with a line for each check ([`tap::Tap`]) to COM1, or
/// the Xen console, or port 0xE9, and ends the machine by every way that a VMM may know.
///
/// The command line of a module may have `sha256=` and the hash of its bytes; the guest's may have
/// `module0.sha256=` and so on, for a VMM that gives modules no command line.
#[must_use]
pub fn plain_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/plain.elf"))
}

/// Returns the same guest as an ELF64 file, for a VMM that loads nothing else. Its note has 8 bytes.
#[must_use]
pub fn plain_image_64() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/plain64.elf"))
}

/// Returns every image with the name of its file.
#[must_use]
pub fn images() -> [(&'static str, &'static [u8]); 9] {
    [
        ("demo.elf", demo_image()),
        ("demo-draft.elf", draft_demo_image()),
        ("soak.elf", soak_image()),
        ("devices.elf", devices_image()),
        ("attack.elf", attack_image()),
        ("conformance.elf", conformance_image()),
        ("fuzz.elf", fuzz_image()),
        ("plain.elf", plain_image()),
        ("plain64.elf", plain_image_64()),
    ]
}

/// Tells which C compiler built the images: the first line of its `--version`.
#[must_use]
pub const fn compiler() -> &'static str {
    env!("PVH_GUEST_COMPILER")
}

/// Returns the report of the conformance guest from Xen 4.17.5, with the command line `no=pae`.
#[must_use]
pub const fn report_of_xen() -> &'static str {
    reference::XEN_4_17.report
}

/// Returns its report from this project's VMM, on a KVM that emulates instructions.
#[must_use]
pub fn report_of_pvh_vmm() -> &'static str {
    include_str!("../results/pvh-vmm.tap")
}
