//! A domain that writes down what it was asked, and a guest with 64 KiB of memory.

use std::cell::RefCell;

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, PortStatus, Virq},
    grant::GrantStatus,
    hvm::HvmParam,
    memory::{E820Entry, MapSpace},
    sched::ShutdownReason,
    vcpu::VcpuHvmContext,
    version::CompileInfo,
};
use pvh_hypercall::{
    Call, Fault, GuestArray, GuestIo, Handler, Outcome, Width, Word, dispatch,
    group::{
        Assist, Console, ControlBlock, CopySide, EventChannels, Extents, ExtentsDone, GrantTable,
        GrantTableSize, Hvm, MapRequest, Memory, MemoryMapEntries, PortState, Ports, Runstate,
        Sched, Timer, Vcpus, Version,
    },
};
use zerocopy::{
    FromZeros,
    little_endian::{U32, U64},
};

/// How much memory the guest has, from linear address 0.
pub(crate) const MEMORY_BYTES: usize = 0x1_0000;

/// A guest's memory; addresses beyond it are faults.
pub(crate) struct FlatGuest(pub(crate) RefCell<Vec<u8>>);

impl FlatGuest {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(vec![0; MEMORY_BYTES]))
    }

    pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
        self.0.borrow_mut()[at..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.borrow()[at..][..N].try_into().unwrap()
    }

    pub(crate) fn put_u32(&self, at: usize, words: &[u32]) {
        for (index, word) in words.iter().enumerate() {
            self.put(
                at.saturating_add(index.saturating_mul(4)),
                &word.to_le_bytes(),
            );
        }
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

impl GuestIo for FlatGuest {
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let start = usize::try_from(linear).map_err(|_| Fault)?;
        let end = start.checked_add(buf.len()).ok_or(Fault)?;
        buf.copy_from_slice(self.0.borrow().get(start..end).ok_or(Fault)?);
        Ok(())
    }

    fn copy_to_guest(&self, linear: u64, bytes: &[u8]) -> Result<(), Fault> {
        let start = usize::try_from(linear).map_err(|_| Fault)?;
        let end = start.checked_add(bytes.len()).ok_or(Fault)?;
        let mut memory = self.0.borrow_mut();
        memory
            .get_mut(start..end)
            .ok_or(Fault)?
            .copy_from_slice(bytes);
        Ok(())
    }
}

/// The domain: 2 vCPUs, vCPU 0 calls.
#[derive(Default)]
pub(crate) struct Domain {
    pub(crate) asked: Vec<String>,
    pub(crate) map: Vec<E820Entry>,
    /// How many extents a go may do.
    pub(crate) extents_left: Option<u64>,
    /// What the extents of a go cost.
    pub(crate) extents_cost: u32,
    /// The frame that is chosen for the last extent of a go.
    pub(crate) chosen: Option<u64>,
    pub(crate) may_initialise: Option<Errno>,
}

impl Domain {
    fn note(&mut self, what: String) {
        self.asked.push(what);
    }
}

/// Makes one call to its end, and returns the result as the register has it.
pub(crate) fn call(
    domain: &mut Domain,
    guest: &FlatGuest,
    width: Width,
    number: u64,
    args: &[u64],
) -> i64 {
    let mut all = [0; 5];
    all[..args.len()].copy_from_slice(args);
    let mut call = Call::new(width, number, all);
    for _ in 0..1000 {
        match dispatch(domain, guest, call) {
            Outcome::Return(result) => return result,
            Outcome::Again(rest) => call = rest,
        }
    }
    panic!("hypercall {number} does not end");
}

impl Handler for Domain {
    fn version(&mut self) -> Option<&mut dyn Version> {
        Some(self)
    }
    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(self)
    }
    fn timer(&mut self) -> Option<&mut dyn Timer> {
        Some(self)
    }
    fn console(&mut self) -> Option<&mut dyn Console> {
        Some(self)
    }
    fn grants(&mut self) -> Option<&mut dyn GrantTable> {
        Some(self)
    }
    fn assist(&mut self) -> Option<&mut dyn Assist> {
        Some(self)
    }
    fn vcpus(&mut self) -> Option<&mut dyn Vcpus> {
        Some(self)
    }
    fn sched(&mut self) -> Option<&mut dyn Sched> {
        Some(self)
    }
    fn events(&mut self) -> Option<&mut dyn EventChannels> {
        Some(self)
    }
    fn hvm(&mut self) -> Option<&mut dyn Hvm> {
        Some(self)
    }
}

impl Version for Domain {
    fn extra_version(&self) -> [u8; 16] {
        *b".7-pre\0\0\0\0\0\0\0\0\0\0"
    }
    fn compile_info(&self) -> CompileInfo {
        CompileInfo::new_zeroed()
    }
    fn capabilities(&self) -> &[u8] {
        b"hvm-3.0-x86_64"
    }
    fn changeset(&self) -> [u8; 64] {
        [0; 64]
    }
    fn uuid(&self) -> [u8; 16] {
        [7; 16]
    }
}

impl Timer for Domain {
    fn set_timer(&mut self, at_ns: i64) {
        self.note(format!("timer {at_ns}"));
    }
}

impl Console for Domain {
    fn write(&mut self, text: &[u8]) {
        self.note(format!("text of {}", text.len()));
    }
    fn read(&mut self, buf: &mut [u8]) -> usize {
        buf.fill(b'x');
        buf.len().min(3)
    }
}

impl Assist for Domain {
    fn runstate_update_flag(&mut self, enable: bool) {
        self.note(format!("assist {enable}"));
    }
}

impl Sched for Domain {
    fn yield_now(&mut self) {
        self.note("yield".into());
    }
    fn block(&mut self) {
        self.note("block".into());
    }
    fn shutdown(&mut self, reason: ShutdownReason) {
        self.note(format!("shutdown {}", reason.0));
    }
    fn shutdown_code(&mut self, reason: ShutdownReason) {
        self.note(format!("code {}", reason.0));
    }
    fn poll(&mut self, ports: &Ports<'_>, timeout_ns: u64) -> Result<(), Errno> {
        for index in 0..ports.count() {
            let port = ports.get(index)?.0;
            self.note(format!("poll {port}"));
        }
        self.note(format!("until {timeout_ns}"));
        Ok(())
    }
    fn watchdog(&mut self, id: u32, timeout_s: u32) -> Result<u32, Errno> {
        self.note(format!("watchdog {id} {timeout_s}"));
        Ok(1)
    }
}

impl Vcpus for Domain {
    fn exists(&self, vcpu: u32) -> bool {
        vcpu < 2
    }
    fn caller(&self) -> u32 {
        0
    }
    fn may_initialise(&self, _vcpu: u32) -> Result<(), Errno> {
        self.may_initialise.map_or(Ok(()), Err)
    }
    fn initialise(&mut self, vcpu: u32, context: &VcpuHvmContext) -> Result<(), Errno> {
        self.note(format!("initialise {vcpu} mode {}", context.mode));
        Ok(())
    }
    fn up(&mut self, vcpu: u32) -> Result<(), Errno> {
        self.note(format!("up {vcpu}"));
        Ok(())
    }
    fn down(&mut self, vcpu: u32) -> Result<(), Errno> {
        self.note(format!("down {vcpu}"));
        Ok(())
    }
    fn is_up(&self, vcpu: u32) -> bool {
        vcpu == 0
    }
    fn runstate(&self, _vcpu: u32) -> Runstate {
        Runstate {
            state: 1,
            since_ns: 2,
            time_ns: [3, 4, 5, 6],
        }
    }
    fn register_runstate_area(
        &mut self,
        vcpu: u32,
        linear: u64,
        width: Width,
    ) -> Result<(), Errno> {
        self.note(format!("runstate {vcpu} {linear:#x} {width:?}"));
        Ok(())
    }
    fn register_time_area(&mut self, vcpu: u32, linear: u64) -> Result<(), Errno> {
        self.note(format!("time {vcpu} {linear:#x}"));
        Ok(())
    }
    fn set_periodic_timer(&mut self, vcpu: u32, period_ns: Option<u64>) {
        self.note(format!("periodic {vcpu} {period_ns:?}"));
    }
    fn set_singleshot_timer(&mut self, at_ns: u64, fail_if_past: bool) -> Result<(), Errno> {
        self.note(format!("singleshot {at_ns} {fail_if_past}"));
        Ok(())
    }
    fn stop_singleshot_timer(&mut self) {
        self.note("stop".into());
    }
    fn register_vcpu_info(&mut self, vcpu: u32, gfn: u64, offset: u32) -> Result<(), Errno> {
        self.note(format!("vcpu_info {vcpu} {gfn:#x} {offset}"));
        Ok(())
    }
    fn send_nmi(&mut self, vcpu: u32) {
        self.note(format!("nmi {vcpu}"));
    }
}

impl EventChannels for Domain {
    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.note(format!("interdomain {} {}", remote.0, remote_port.0));
        Ok(Port(40))
    }
    fn bind_virq(&mut self, virq: Virq, vcpu: u32) -> Result<Port, Errno> {
        self.note(format!("virq {} {vcpu}", virq.0));
        Ok(Port(41))
    }
    fn close(&mut self, port: Port) -> Result<(), Errno> {
        self.note(format!("close {}", port.0));
        Err(Errno::EINVAL)
    }
    fn send(&mut self, port: Port) -> Result<(), Errno> {
        self.note(format!("send {}", port.0));
        Ok(())
    }
    fn status(&mut self, domain: DomId, port: Port) -> Result<PortState, Errno> {
        self.note(format!("status {:#x} {}", domain.0, port.0));
        Ok(PortState {
            status: PortStatus::INTERDOMAIN,
            vcpu: 1,
            detail: 9,
            remote_port: Port(10),
        })
    }
    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno> {
        self.note(format!("unbound {:#x} {}", domain.0, remote.0));
        Ok(Port(42))
    }
    fn bind_ipi(&mut self, vcpu: u32) -> Result<Port, Errno> {
        self.note(format!("ipi {vcpu}"));
        Ok(Port(43))
    }
    fn bind_vcpu(&mut self, port: Port, vcpu: u32) -> Result<(), Errno> {
        self.note(format!("vcpu {} {vcpu}", port.0));
        Ok(())
    }
    fn unmask(&mut self, port: Port) -> Result<(), Errno> {
        self.note(format!("unmask {}", port.0));
        Ok(())
    }
    fn reset(&mut self, domain: DomId) -> Result<(), Errno> {
        self.note(format!("reset {:#x}", domain.0));
        Ok(())
    }
    fn init_control(&mut self, block: &ControlBlock) -> Result<u8, Errno> {
        self.note(format!(
            "control {} {:#x} {}",
            block.vcpu, block.gfn, block.offset
        ));
        Ok(17)
    }
    fn expand_array(&mut self, gfn: u64) -> Result<(), Errno> {
        self.note(format!("expand {gfn:#x}"));
        Ok(())
    }
    fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        self.note(format!("priority {} {priority}", port.0));
        Ok(())
    }
}

impl Hvm for Domain {
    fn set_param(&mut self, domain: DomId, param: HvmParam, value: u64) -> Result<(), Errno> {
        self.note(format!("set {:#x} {} {value:#x}", domain.0, param.0));
        Ok(())
    }
    fn param(&mut self, _domain: DomId, param: HvmParam) -> Result<u64, Errno> {
        Ok(u64::from(param.0) << 32)
    }
    fn time_ns(&self) -> u64 {
        0x1122_3344_5566
    }
    fn mem_type(&mut self, _domain: DomId, _gfn: u64) -> Result<u16, Errno> {
        Ok(2)
    }
    fn set_upcall_vector(&mut self, vcpu: u32, vector: u8) -> Result<(), Errno> {
        self.note(format!("vector {vcpu} {vector:#x}"));
        Ok(())
    }
}

impl Memory for Domain {
    fn decrease_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.note("decrease".to_owned());
        self.populate_physmap(extents)
    }
    fn populate_physmap(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        let last = extents.count().checked_sub(1).unwrap();
        match (extents.frame(0), extents.frame(last)) {
            (Ok(first), Ok(last)) => self.note(format!("extents {first:#x} to {last:#x}")),
            _ => {
                return ExtentsDone {
                    count: 0,
                    is_refused: true,
                };
            }
        }
        extents.budget().charge(self.extents_cost);
        if let Some(gfn) = self.chosen {
            let [inside, past] = [last, extents.count()].map(|at| extents.set_frame(at, gfn));
            self.note(format!("{inside:?} {past:?}"));
        }
        let count = self.extents_left.unwrap_or(extents.count());
        ExtentsDone {
            count,
            is_refused: count < extents.count() && !extents.budget().is_spent(),
        }
    }
    fn maximum_ram_page(&mut self) -> u64 {
        0x7_ffff
    }
    fn current_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        if domain != DomId::SELF {
            return Err(Errno::ESRCH);
        }
        Ok(0x8000)
    }
    fn maximum_reservation(&mut self, _domain: DomId) -> Result<u64, Errno> {
        Ok(0x9000)
    }
    fn maximum_gpfn(&mut self, _domain: DomId) -> Result<u64, Errno> {
        Ok(0xf_ffff)
    }
    fn may_add_to_physmap(&self, domain: DomId, _space: MapSpace) -> Result<(), Errno> {
        if domain == DomId(9) {
            return Err(Errno::ESRCH);
        }
        Ok(())
    }
    fn add_to_physmap(&mut self, _domain: DomId, request: &MapRequest) -> Result<(), Errno> {
        let MapRequest {
            space, idx, gpfn, ..
        } = request;
        let foreign = request.foreign.map(|domain| format!(" of {}", domain.0));
        let foreign = foreign.unwrap_or_default();
        self.note(format!("add {} {idx:#x} {gpfn:#x}{foreign}", space.0));
        if *idx == 0xbad {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
    fn remove_from_physmap(&mut self, _domain: DomId, gpfn: u64) -> Result<(), Errno> {
        self.note(format!("remove {gpfn:#x}"));
        Err(Errno::ENOENT)
    }
    fn memory_map_len(&self) -> u32 {
        u32::try_from(self.map.len()).unwrap()
    }
    fn memory_map_entry(&self, index: u32) -> E820Entry {
        self.map[usize::try_from(index).unwrap()]
    }
    fn set_memory_map(&mut self, _domain: DomId, map: &MemoryMapEntries<'_>) -> Result<(), Errno> {
        self.map = (0..map.count())
            .map(|index| map.get(index))
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl GrantTable for Domain {
    fn setup_table(
        &mut self,
        _domain: DomId,
        count: u32,
        frames: &GuestArray<'_, Word>,
    ) -> GrantStatus {
        for index in 0..u64::from(count.min(2)) {
            if frames.set_word(index, index.saturating_add(0x100)).is_err() {
                return GrantStatus::GENERAL_ERROR;
            }
        }
        GrantStatus::OKAY
    }
    fn query_size(&mut self, domain: DomId) -> Result<GrantTableSize, GrantStatus> {
        if domain != DomId::SELF {
            return Err(GrantStatus::BAD_DOMAIN);
        }
        Ok(GrantTableSize {
            frames: 0,
            max_frames: 64,
        })
    }
    fn set_version(&mut self, version: u32) -> Result<u32, Errno> {
        if version == 2 {
            return Err(Errno::ENOSYS);
        }
        Ok(1)
    }
    fn version(&mut self, _domain: DomId) -> Result<u32, Errno> {
        Ok(1)
    }
    fn copy(&mut self, source: &CopySide, dest: &CopySide, len_bytes: u16) -> GrantStatus {
        self.note(format!(
            "copy {} {:#x} to {} {:#x}+{} {len_bytes}",
            source.is_grant, source.place, dest.is_grant, dest.place, dest.offset
        ));
        GrantStatus::BAD_GNTREF
    }
}

/// An entry of a memory map.
pub(crate) fn e820(addr: u64, size: u64) -> E820Entry {
    E820Entry {
        addr: U64::new(addr),
        size: U64::new(size),
        kind: U32::new(1),
    }
}
