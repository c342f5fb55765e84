//! Holds the wire structures against Xen's own public headers (Debian's libxen-dev), compiled in
//! the 64-bit layout.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop")]

mod layouts;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    mem::{offset_of, size_of},
    process::{Command, Stdio},
};

use pvh_abi::{
    Errno,
    cpuid::{
        HVM_DOMID_PRESENT, HVM_IOMMU_MAPPINGS, HVM_UPCALL_VECTOR, HVM_VCPU_ID_PRESENT,
        XEN_CPUID_BASE, XEN_CPUID_SIGNATURE,
    },
    elfnote::XenNoteType,
    hypercall::HypercallNumber,
    start_info::{
        MemmapEntry, MemmapKind, ModuleEntry, START_INFO_MAGIC, StartInfoFlags, StartInfoV1,
    },
    vcpu::{VcpuHvmContext, VcpuHvmMode, VcpuHvmX86_32, VcpuHvmX86_64, VcpuOp},
};

/// A C expression over Xen's headers, and what we say it is.
#[expect(clippy::too_many_lines, reason = "one table")]
fn expectations() -> BTreeMap<&'static str, u64> {
    let size = |bytes: usize| bytes as u64;
    BTreeMap::from([
        ("XEN_HVM_START_MAGIC_VALUE", START_INFO_MAGIC.into()),
        (
            "sizeof(struct hvm_start_info)",
            size(size_of::<StartInfoV1>()),
        ),
        ("offsetof(struct hvm_start_info, nr_modules)", 12),
        ("offsetof(struct hvm_start_info, modlist_paddr)", 16),
        ("offsetof(struct hvm_start_info, cmdline_paddr)", 24),
        ("offsetof(struct hvm_start_info, rsdp_paddr)", 32),
        (
            "offsetof(struct hvm_start_info, memmap_paddr)",
            size(offset_of!(StartInfoV1, memmap_paddr)),
        ),
        (
            "offsetof(struct hvm_start_info, memmap_entries)",
            size(offset_of!(StartInfoV1, memmap_entries)),
        ),
        (
            "sizeof(struct hvm_modlist_entry)",
            size(size_of::<ModuleEntry>()),
        ),
        (
            "offsetof(struct hvm_modlist_entry, cmdline_paddr)",
            size(offset_of!(ModuleEntry, cmdline_paddr)),
        ),
        (
            "sizeof(struct hvm_memmap_table_entry)",
            size(size_of::<MemmapEntry>()),
        ),
        (
            "offsetof(struct hvm_memmap_table_entry, type)",
            size(offset_of!(MemmapEntry, kind)),
        ),
        ("XEN_HVM_MEMMAP_TYPE_RAM", MemmapKind::RAM.0.into()),
        (
            "XEN_HVM_MEMMAP_TYPE_RESERVED",
            MemmapKind::RESERVED.0.into(),
        ),
        ("XEN_HVM_MEMMAP_TYPE_ACPI", MemmapKind::ACPI.0.into()),
        ("XEN_HVM_MEMMAP_TYPE_NVS", MemmapKind::NVS.0.into()),
        (
            "XEN_HVM_MEMMAP_TYPE_UNUSABLE",
            MemmapKind::UNUSABLE.0.into(),
        ),
        (
            "XEN_HVM_MEMMAP_TYPE_DISABLED",
            MemmapKind::DISABLED.0.into(),
        ),
        ("XEN_HVM_MEMMAP_TYPE_PMEM", MemmapKind::PMEM.0.into()),
        ("SIF_PRIVILEGED", StartInfoFlags::PRIVILEGED.0.into()),
        ("SIF_INITDOMAIN", StartInfoFlags::INITDOMAIN.0.into()),
        ("SIF_MULTIBOOT_MOD", StartInfoFlags::MULTIBOOT_MOD.0.into()),
        ("SIF_MOD_START_PFN", StartInfoFlags::MOD_START_PFN.0.into()),
        (
            "SIF_VIRT_P2M_4TOOLS",
            StartInfoFlags::VIRT_P2M_4TOOLS.0.into(),
        ),
        ("SIF_PM_MASK", StartInfoFlags::PM_MASK.0.into()),
        ("XEN_ELFNOTE_ENTRY", XenNoteType::ENTRY.0.into()),
        (
            "XEN_ELFNOTE_HYPERCALL_PAGE",
            XenNoteType::HYPERCALL_PAGE.0.into(),
        ),
        ("XEN_ELFNOTE_GUEST_OS", XenNoteType::GUEST_OS.0.into()),
        ("XEN_ELFNOTE_LOADER", XenNoteType::LOADER.0.into()),
        ("XEN_ELFNOTE_FEATURES", XenNoteType::FEATURES.0.into()),
        (
            "XEN_ELFNOTE_MOD_START_PFN",
            XenNoteType::MOD_START_PFN.0.into(),
        ),
        (
            "XEN_ELFNOTE_SUPPORTED_FEATURES",
            XenNoteType::SUPPORTED_FEATURES.0.into(),
        ),
        (
            "XEN_ELFNOTE_PHYS32_ENTRY",
            XenNoteType::PHYS32_ENTRY.0.into(),
        ),
        ("XEN_ELFNOTE_CRASH_INFO", XenNoteType::CRASH_INFO.0.into()),
        (
            "XEN_ELFNOTE_DUMPCORE_HEADER",
            XenNoteType::DUMPCORE_HEADER.0.into(),
        ),
        ("__HYPERVISOR_memory_op", HypercallNumber::MEMORY_OP.0),
        ("__HYPERVISOR_set_timer_op", HypercallNumber::SET_TIMER_OP.0),
        ("__HYPERVISOR_xen_version", HypercallNumber::XEN_VERSION.0),
        ("__HYPERVISOR_vcpu_op", HypercallNumber::VCPU_OP.0),
        ("__HYPERVISOR_sched_op", HypercallNumber::SCHED_OP.0),
        (
            "__HYPERVISOR_event_channel_op",
            HypercallNumber::EVENT_CHANNEL_OP.0,
        ),
        ("__HYPERVISOR_physdev_op", HypercallNumber::PHYSDEV_OP.0),
        ("__HYPERVISOR_hvm_op", HypercallNumber::HVM_OP.0),
        ("__HYPERVISOR_hypfs_op", HypercallNumber::HYPFS_OP.0),
        ("VCPUOP_initialise", VcpuOp::INITIALISE.0.into()),
        (
            "VCPUOP_set_singleshot_timer",
            VcpuOp::SET_SINGLESHOT_TIMER.0.into(),
        ),
        (
            "VCPUOP_register_vcpu_info",
            VcpuOp::REGISTER_VCPU_INFO.0.into(),
        ),
        (
            "VCPUOP_register_vcpu_time_memory_area",
            VcpuOp::REGISTER_VCPU_TIME_MEMORY_AREA.0.into(),
        ),
        (
            "sizeof(struct vcpu_hvm_context)",
            size(size_of::<VcpuHvmContext>()),
        ),
        (
            "offsetof(struct vcpu_hvm_x86_32, efer)",
            size(offset_of!(VcpuHvmX86_32, efer)),
        ),
        (
            "offsetof(struct vcpu_hvm_x86_32, ss_base)",
            size(offset_of!(VcpuHvmX86_32, ss_base)),
        ),
        (
            "offsetof(struct vcpu_hvm_x86_32, tr_ar)",
            size(offset_of!(VcpuHvmX86_32, tr_ar)),
        ),
        (
            "offsetof(struct vcpu_hvm_x86_64, efer)",
            size(offset_of!(VcpuHvmX86_64, efer)),
        ),
        ("VCPU_HVM_MODE_64B", VcpuHvmMode::MODE_64B.0.into()),
        ("XEN_CPUID_FIRST_LEAF", XEN_CPUID_BASE.into()),
        ("XEN_CPUID_SIGNATURE_EBX", XEN_CPUID_SIGNATURE[0].into()),
        ("XEN_CPUID_SIGNATURE_EDX", XEN_CPUID_SIGNATURE[2].into()),
        ("XEN_HVM_CPUID_IOMMU_MAPPINGS", HVM_IOMMU_MAPPINGS.into()),
        ("XEN_HVM_CPUID_VCPU_ID_PRESENT", HVM_VCPU_ID_PRESENT.into()),
        ("XEN_HVM_CPUID_DOMID_PRESENT", HVM_DOMID_PRESENT.into()),
        ("XEN_HVM_CPUID_UPCALL_VECTOR", HVM_UPCALL_VECTOR.into()),
        ("XEN_ENOSYS", Errno::ENOSYS.0.into()),
        ("XEN_EDOM", Errno::EDOM.0.into()),
        ("XEN_ETIME", Errno::ETIME.0.into()),
        ("XEN_EOPNOTSUPP", Errno::EOPNOTSUPP.0.into()),
        ("XEN_ENOBUFS", Errno::ENOBUFS.0.into()),
        ("XEN_ETIMEDOUT", Errno::ETIMEDOUT.0.into()),
    ])
}

#[test]
#[ignore = "needs libxen-dev"]
fn xen_headers_say_the_same() {
    let expectations = expectations();
    let said = ask_the_headers(expectations.keys().copied());
    assert_eq!(said.len(), expectations.len());
    for ((expression, ours), theirs) in expectations.iter().zip(said) {
        assert_eq!(*ours, theirs, "{expression}");
    }
}

/// Compiles a program that prints each expression, and returns what it printed.
fn ask_the_headers<'a>(expressions: impl Iterator<Item = &'a str>) -> Vec<u64> {
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <xen/xen.h>\n\
         #include <xen/elfnote.h>\n#include <xen/arch-x86/hvm/start_info.h>\n\
         #include <xen/vcpu.h>\n#include <xen/hvm/hvm_vcpu.h>\n#include <xen/arch-x86/cpuid.h>\n\
         #include <xen/errno.h>\nint main(void) {\n",
    );
    for expression in expressions {
        source += &format!("printf(\"%llu\\n\", (unsigned long long)({expression}));\n");
    }
    source += "return 0; }\n";
    let program = env::temp_dir().join(format!("xen-headers-{}", std::process::id()));
    let mut compiler = Command::new("cc")
        .arg("-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__")
        .args(["-x", "c", "-", "-o"])
        .arg(&program)
        .stdin(Stdio::piped())
        .spawn()
        .expect("cc starts");
    compiler
        .stdin
        .take()
        .unwrap()
        .write_all(source.as_bytes())
        .unwrap();
    assert!(
        compiler.wait().unwrap().success(),
        "the headers of libxen-dev compile"
    );
    let output = Command::new(&program).output().unwrap();
    fs::remove_file(&program).unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect()
}
