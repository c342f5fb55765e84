//! The structures of hypercalls in both layouts: the compiler of C itself compares, for 64 and for
//! 32 bits, without linking anything.

use std::{
    fmt::Write as _,
    io::Write as _,
    mem::{offset_of, size_of},
    process::{Command, Stdio},
};

use pvh_abi::{
    DomId,
    event_channel::{
        AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, EventChannelOp,
        EventChannelPort, EventChannelStatus, ExpandArray, InitControl, PortStatus, ResetPorts,
        SetPriority, Virq,
    },
    grant::{
        GetVersion, GrantCopy, GrantCopyCompat, GrantEntryV1, GrantOp, GrantStatus, MapGrantRef,
        QuerySize, SetVersion, SetupTable, SetupTableCompat, UnmapGrantRef,
    },
    hvm::{GetMemType, GetTime, HvmOp, HvmParam, HvmParamArg, PagetableDying, UpcallVector},
    memory::{
        AddToPhysmap, AddToPhysmapBatch, AddToPhysmapBatchCompat, AddToPhysmapCompat,
        ForeignMemoryMap, ForeignMemoryMapCompat, MapSpace, MemoryMap, MemoryMapCompat, MemoryOp,
        MemoryReservation, MemoryReservationCompat, RemoveFromPhysmap, RemoveFromPhysmapCompat,
    },
    multicall::{MulticallEntry, MulticallEntryCompat},
    sched::{
        SchedOp, SchedPinOverride, SchedPoll, SchedPollCompat, SchedRemoteShutdown, SchedShutdown,
        SchedWatchdog, ShutdownReason,
    },
    vcpu::{
        RegisterArea, RegisterVcpuInfo, RunstateInfo, RunstateInfoCompat, SINGLESHOT_FUTURE,
        SetPeriodicTimer, SetSingleshotTimer, SetSingleshotTimerCompat, VcpuHvmContext,
    },
    version::{CompileInfo, FeatureInfo, Features, VersionOp},
};

/// A C expression, and its value for 64- and for 32-bit callers.
type Claim = (String, i128, i128);

/// The size and the offsets of one structure, as claims.
macro_rules! layout {
    ($c:literal, $native:ty, $compat:ty $(, $field:ident)*) => {
        [
            (format!("sizeof({})", $c), size_of::<$native>() as i128, size_of::<$compat>() as i128),
            $((
                format!("offsetof({}, {})", $c, stringify!($field)),
                offset_of!($native, $field) as i128,
                offset_of!($compat, $field) as i128,
            ),)*
        ]
    };
    ($c:literal, $both:ty $(; $field:ident)*) => {
        layout!($c, $both, $both $(, $field)*)
    };
}

fn event_channels() -> Vec<Claim> {
    let mut claims = Vec::new();
    claims.extend(layout!("struct evtchn_bind_interdomain", BindInterdomain; remote_dom; remote_port; local_port));
    claims.extend(layout!("struct evtchn_bind_virq", BindVirq; virq; vcpu; port));
    claims.extend(layout!("struct evtchn_bind_pirq", BindPirq; pirq; flags; port));
    claims.extend(layout!("struct evtchn_close", EventChannelPort; port));
    claims.extend(layout!("struct evtchn_send", EventChannelPort; port));
    claims.extend(layout!("struct evtchn_unmask", EventChannelPort; port));
    claims.extend(layout!("struct evtchn_status", EventChannelStatus; dom; port; status; vcpu));
    claims.push((
        "offsetof(struct evtchn_status, u.interdomain.port)".into(),
        20,
        20,
    ));
    claims.push(("offsetof(struct evtchn_status, u.virq)".into(), 16, 16));
    claims.extend(layout!("struct evtchn_alloc_unbound", AllocUnbound; dom; remote_dom; port));
    claims.extend(layout!("struct evtchn_bind_ipi", BindIpi; vcpu; port));
    claims.extend(layout!("struct evtchn_bind_vcpu", BindVcpu; port; vcpu));
    claims.extend(layout!("struct evtchn_reset", ResetPorts; dom));
    claims.extend(
        layout!("struct evtchn_init_control", InitControl; control_gfn; offset; vcpu; link_bits),
    );
    claims.extend(layout!("struct evtchn_expand_array", ExpandArray; array_gfn));
    claims.extend(layout!("struct evtchn_set_priority", SetPriority; port; priority));
    claims
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn memory_and_grants() -> Vec<Claim> {
    let mut claims = Vec::new();
    claims.extend(layout!(
        "struct xen_memory_reservation",
        MemoryReservation,
        MemoryReservationCompat,
        extent_start,
        nr_extents,
        extent_order,
        mem_flags,
        domid
    ));
    claims.extend(layout!(
        "struct xen_add_to_physmap",
        AddToPhysmap,
        AddToPhysmapCompat,
        domid,
        size,
        space,
        idx,
        gpfn
    ));
    claims.extend(layout!(
        "struct xen_add_to_physmap_batch",
        AddToPhysmapBatch,
        AddToPhysmapBatchCompat,
        domid,
        space,
        size,
        idxs,
        gpfns,
        errs
    ));
    claims.extend(layout!(
        "struct xen_remove_from_physmap",
        RemoveFromPhysmap,
        RemoveFromPhysmapCompat,
        domid,
        gpfn
    ));
    claims.extend(layout!(
        "struct xen_memory_map",
        MemoryMap,
        MemoryMapCompat,
        nr_entries,
        buffer
    ));
    claims.extend(layout!(
        "struct xen_foreign_memory_map",
        ForeignMemoryMap,
        ForeignMemoryMapCompat,
        domid,
        map
    ));
    claims.extend(layout!("struct grant_entry_v1", GrantEntryV1; flags; domid; frame));
    claims.extend(layout!("struct gnttab_map_grant_ref", MapGrantRef; host_addr; flags; dom; status; handle; dev_bus_addr));
    claims.push(("offsetof(struct gnttab_map_grant_ref, ref)".into(), 12, 12));
    claims.extend(layout!("struct gnttab_unmap_grant_ref", UnmapGrantRef; host_addr; dev_bus_addr; handle; status));
    claims.extend(layout!(
        "struct gnttab_setup_table",
        SetupTable,
        SetupTableCompat,
        dom,
        nr_frames,
        status,
        frame_list
    ));
    claims.extend(
        layout!("struct gnttab_query_size", QuerySize; dom; nr_frames; max_nr_frames; status),
    );
    claims.extend(layout!("struct gnttab_set_version", SetVersion; version));
    claims.extend(layout!(
        "struct gnttab_copy",
        GrantCopy,
        GrantCopyCompat,
        source,
        dest,
        len,
        flags,
        status
    ));
    claims.extend([
        ("offsetof(struct gnttab_copy, source.domid)".into(), 8, 4),
        ("offsetof(struct gnttab_copy, dest.offset)".into(), 26, 14),
    ]);
    claims.extend(layout!("struct gnttab_get_version", GetVersion; dom; version));
    claims
}

fn the_rest() -> Vec<Claim> {
    let mut claims = Vec::new();
    claims.extend(layout!(
        "struct sched_poll",
        SchedPoll,
        SchedPollCompat,
        ports,
        nr_ports,
        timeout
    ));
    claims.extend(layout!("struct sched_shutdown", SchedShutdown; reason));
    claims.extend(layout!("struct sched_remote_shutdown", SchedRemoteShutdown; domain_id; reason));
    claims.extend(layout!("struct sched_watchdog", SchedWatchdog; id; timeout));
    claims.extend(layout!("struct sched_pin_override", SchedPinOverride; pcpu));
    claims.extend(layout!(
        "struct vcpu_runstate_info",
        RunstateInfo,
        RunstateInfoCompat,
        state,
        state_entry_time,
        time
    ));
    claims.extend(layout!("struct vcpu_register_runstate_memory_area", RegisterArea; addr));
    claims.extend(layout!("struct vcpu_register_time_memory_area", RegisterArea; addr));
    claims.extend(layout!("struct vcpu_set_periodic_timer", SetPeriodicTimer; period_ns));
    claims.extend(layout!(
        "struct vcpu_set_singleshot_timer",
        SetSingleshotTimer,
        SetSingleshotTimerCompat,
        timeout_abs_ns,
        flags
    ));
    claims.extend(layout!("struct vcpu_register_vcpu_info", RegisterVcpuInfo; mfn; offset; rsvd));
    claims.extend(layout!("struct vcpu_hvm_context", VcpuHvmContext; mode; cpu_regs));
    claims.extend(layout!("struct xen_compile_info", CompileInfo; compiler; compile_by; compile_domain; compile_date));
    claims.extend(layout!("struct xen_feature_info", FeatureInfo; submap_idx; submap));
    claims.extend(layout!("struct xen_hvm_param", HvmParamArg; domid; index; value));
    claims.extend(layout!("struct xen_hvm_pagetable_dying", PagetableDying; domid; gpa));
    claims.extend(layout!("struct xen_hvm_get_time", GetTime; now));
    claims.extend(layout!("struct xen_hvm_get_mem_type", GetMemType; domid; mem_type; pfn));
    claims.extend(layout!("struct xen_hvm_evtchn_upcall_vector", UpcallVector; vcpu; vector));
    claims.extend(layout!(
        "struct multicall_entry",
        MulticallEntry,
        MulticallEntryCompat,
        op,
        result,
        args
    ));
    claims
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn numbers() -> Vec<Claim> {
    let named: [(&str, i128); 31] = [
        ("DOMID_SELF", DomId::SELF.0.into()),
        ("DOMID_INVALID", DomId::INVALID.0.into()),
        ("DOMID_IDLE", DomId::IDLE.0.into()),
        (
            "EVTCHNOP_alloc_unbound",
            EventChannelOp::ALLOC_UNBOUND.0.into(),
        ),
        (
            "EVTCHNOP_init_control",
            EventChannelOp::INIT_CONTROL.0.into(),
        ),
        (
            "EVTCHNOP_set_priority",
            EventChannelOp::SET_PRIORITY.0.into(),
        ),
        ("EVTCHNSTAT_ipi", PortStatus::IPI.0.into()),
        ("VIRQ_XENPMU", Virq::XENPMU.0.into()),
        ("NR_VIRQS", Virq::COUNT.into()),
        ("SCHEDOP_poll", SchedOp::POLL.0.into()),
        ("SCHEDOP_pin_override", SchedOp::PIN_OVERRIDE.0.into()),
        ("SHUTDOWN_soft_reset", ShutdownReason::SOFT_RESET.0.into()),
        ("XENMEM_add_to_physmap", MemoryOp::ADD_TO_PHYSMAP.0.into()),
        ("XENMEM_memory_map", MemoryOp::MEMORY_MAP.0.into()),
        (
            "XENMEM_remove_from_physmap",
            MemoryOp::REMOVE_FROM_PHYSMAP.0.into(),
        ),
        (
            "XENMEM_acquire_resource",
            MemoryOp::ACQUIRE_RESOURCE.0.into(),
        ),
        ("XENMAPSPACE_gmfn_foreign", MapSpace::GMFN_FOREIGN.0.into()),
        ("XENMAPSPACE_dev_mmio", MapSpace::DEV_MMIO.0.into()),
        ("XENVER_get_features", VersionOp::GET_FEATURES.0.into()),
        ("XENVER_build_id", VersionOp::BUILD_ID.0.into()),
        (
            "1 << XENFEAT_hvm_callback_vector",
            Features::HVM_CALLBACK_VECTOR.0.into(),
        ),
        (
            "1 << XENFEAT_not_direct_mapped",
            Features::NOT_DIRECT_MAPPED.0.into(),
        ),
        (
            "HVMOP_set_evtchn_upcall_vector",
            HvmOp::SET_EVTCHN_UPCALL_VECTOR.0.into(),
        ),
        ("HVMOP_get_mem_type", HvmOp::GET_MEM_TYPE.0.into()),
        (
            "HVM_PARAM_CONSOLE_EVTCHN",
            HvmParam::CONSOLE_EVTCHN.0.into(),
        ),
        ("HVM_PARAM_MCA_CAP", HvmParam::MCA_CAP.0.into()),
        ("HVM_NR_PARAMS", HvmParam::COUNT.into()),
        ("GNTTABOP_query_size", GrantOp::QUERY_SIZE.0.into()),
        ("GNTTABOP_swap_grant_ref", GrantOp::SWAP_GRANT_REF.0.into()),
        ("GNTST_no_space", GrantStatus::NO_SPACE.0.into()),
        ("VCPU_SSHOTTMR_future", SINGLESHOT_FUTURE.into()),
    ];
    named
        .map(|(name, value)| (name.into(), value, value))
        .into()
}

/// Has the compiler prove every claim for one of the two widths.
fn prove(claims: &[Claim], width: &str) {
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdint.h>\n#include <xen/xen.h>\n\
         #include <xen/event_channel.h>\n#include <xen/sched.h>\n#include <xen/memory.h>\n\
         #include <xen/version.h>\n#include <xen/features.h>\n#include <xen/vcpu.h>\n\
         #include <xen/hvm/hvm_vcpu.h>\n#include <xen/hvm/hvm_op.h>\n#include <xen/hvm/params.h>\n\
         #include <xen/grant_table.h>\n",
    );
    for (expression, native, compat) in claims {
        let value = if width == "-m64" { native } else { compat };
        writeln!(
            source,
            "_Static_assert(({expression}) == {value}, \"{expression}\");"
        )
        .unwrap();
    }
    let mut compiler = Command::new("cc")
        .args([width, "-ffreestanding", "-fsyntax-only"])
        .arg("-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__")
        .args(["-x", "c", "-"])
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
        "{width}: see what cc said above"
    );
}

#[test]
#[ignore = "needs libxen-dev"]
fn xen_headers_lay_out_the_same_for_64_and_32_bits() {
    let claims: Vec<Claim> =
        [event_channels(), memory_and_grants(), the_rest(), numbers()].concat();
    assert!(claims.len() > 150, "{} claims", claims.len());
    prove(&claims, "-m64");
    prove(&claims, "-m32");
}
