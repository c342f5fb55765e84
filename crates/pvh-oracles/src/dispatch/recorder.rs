//! A domain that notes what it is asked, and answers out of a list.

use pvh_abi::{
    DomId, Errno,
    event_channel::Port,
    grant::GrantStatus,
    memory::{E820Entry, MapSpace},
    vcpu::{VcpuHvmContext, VcpuOp},
    version::CompileInfo,
};
use pvh_hypercall::{
    GuestArray, Handler, Width, Word,
    group::{
        Assist, Console, CopySide, EventChannels, Extents, ExtentsDone, GrantMapping, GrantTable,
        GrantTableSize, Hvm, MapRequest, MappedGrant, Memory, MemoryMapEntries, Runstate, Sched,
        Timer, Vcpus, Version,
    },
};
use zerocopy::{
    FromZeros, IntoBytes,
    little_endian::{U32, U64},
};

use super::script::{Script, code, extents_done, map_len, status};
use crate::bytes::field;

pub(super) struct Recorder {
    offered: u16,
    pub(super) script: Script,
}

impl Recorder {
    pub(super) const fn new(offered: u16, answers: [u8; 8]) -> Self {
        Self {
            offered,
            script: Script::new(answers),
        }
    }

    pub(super) fn ask(&self, name: &'static str, args: &[u64]) -> Result<u64, Errno> {
        self.script.ask(name, args)
    }

    pub(super) fn word(&self, name: &'static str, args: &[u64]) -> Result<u32, Errno> {
        Ok(self.ask(name, args)?.try_into().expect("it is small"))
    }

    pub(super) fn done(&self, name: &'static str, args: &[u64]) -> Result<(), Errno> {
        self.ask(name, args).map(|_| ())
    }

    pub(super) fn port(&self, name: &'static str, args: &[u64]) -> Result<Port, Errno> {
        self.word(name, args).map(Port)
    }

    fn offer<'a, T: ?Sized>(&mut self, bit: u32, group: fn(&mut Self) -> &mut T) -> Option<&mut T>
    where
        Self: 'a,
    {
        (self.offered >> bit & 1 == 1).then(|| group(self))
    }

    fn extents(&self, name: &'static str, extents: &Extents<'_>) -> ExtentsDone {
        let count = extents.count();
        assert_eq!(extents.frame(count), Err(Errno(22)));
        let (first, last) = (extents.frame(0), extents.frame(count - 1));
        let chosen = extents.set_frame(count - 1, 0x77).map(|()| 0);
        let (order, flags) = (extents.order.into(), extents.flags.into());
        let domain = extents.domain.0.into();
        let args = [
            domain,
            order,
            flags,
            count,
            code(first),
            code(last),
            code(chosen),
        ];
        let done = extents_done(count, self.ask(name, &args));
        ExtentsDone {
            count: done,
            is_refused: done < count,
        }
    }
}

impl Handler for Recorder {
    fn memory(&mut self) -> Option<&mut dyn Memory> {
        self.offer(0, |this| this)
    }
    fn timer(&mut self) -> Option<&mut dyn Timer> {
        self.offer(1, |this| this)
    }
    fn version(&mut self) -> Option<&mut dyn Version> {
        self.offer(2, |this| this)
    }
    fn console(&mut self) -> Option<&mut dyn Console> {
        self.offer(3, |this| this)
    }
    fn grants(&mut self) -> Option<&mut dyn GrantTable> {
        self.offer(4, |this| this)
    }
    fn assist(&mut self) -> Option<&mut dyn Assist> {
        self.offer(5, |this| this)
    }
    fn vcpus(&mut self) -> Option<&mut dyn Vcpus> {
        self.offer(6, |this| this)
    }
    fn sched(&mut self) -> Option<&mut dyn Sched> {
        self.offer(7, |this| this)
    }
    fn events(&mut self) -> Option<&mut dyn EventChannels> {
        self.offer(8, |this| this)
    }
    fn hvm(&mut self) -> Option<&mut dyn Hvm> {
        self.offer(9, |this| this)
    }
}

impl Memory for Recorder {
    fn increase_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.extents("increase", extents)
    }
    fn decrease_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.extents("decrease", extents)
    }
    fn populate_physmap(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.extents("populate", extents)
    }
    fn maximum_ram_page(&mut self) -> u64 {
        self.ask("maximum_ram_page", &[]).unwrap_or(u64::MAX)
    }
    fn current_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.ask("current_reservation", &[domain.0.into()])
    }
    fn maximum_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.ask("maximum_reservation", &[domain.0.into()])
    }
    fn maximum_gpfn(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.ask("maximum_gpfn", &[domain.0.into()])
    }
    fn may_add_to_physmap(&self, domain: DomId, space: MapSpace) -> Result<(), Errno> {
        self.done("may_add", &[domain.0.into(), space.0.into()])
    }
    fn add_to_physmap(&mut self, domain: DomId, request: &MapRequest) -> Result<(), Errno> {
        let foreign = request.foreign.map_or(u64::MAX, |domain| domain.0.into());
        let MapRequest { idx, gpfn, .. } = *request;
        let (domain, space) = (domain.0.into(), request.space.0.into());
        self.done("add", &[domain, space, foreign, idx, gpfn])
    }
    fn remove_from_physmap(&mut self, domain: DomId, gpfn: u64) -> Result<(), Errno> {
        self.done("remove", &[domain.0.into(), gpfn])
    }
    fn memory_map_len(&self) -> u32 {
        map_len(self.script.answers)
    }
    fn memory_map_entry(&self, index: u32) -> E820Entry {
        E820Entry {
            addr: U64::new(u64::from(index) << 32),
            size: U64::new(0x1000),
            kind: U32::new(index + 1),
        }
    }
    fn set_memory_map(&mut self, domain: DomId, map: &MemoryMapEntries<'_>) -> Result<(), Errno> {
        let count = map.count();
        let get = |index| map.get(index).map(|entry| entry.addr.get());
        assert_eq!(get(count), Err(Errno(22)));
        let args = [
            domain.0.into(),
            count.into(),
            code(get(0)),
            code(get(count.saturating_sub(1))),
        ];
        self.done("set_memory_map", &args)
    }
}

impl Timer for Recorder {
    fn set_timer(&mut self, at_ns: i64) {
        self.script.tell("set_timer", &[at_ns.cast_unsigned()]);
    }
}

impl Version for Recorder {
    fn extra_version(&self) -> [u8; 16] {
        [b'x'; 16]
    }
    fn compile_info(&self) -> CompileInfo {
        let mut info = CompileInfo::new_zeroed();
        info.as_mut_bytes().fill(b'c');
        info
    }
    fn capabilities(&self) -> &[u8] {
        b"hvm"
    }
    fn changeset(&self) -> [u8; 64] {
        [b's'; 64]
    }
    fn uuid(&self) -> [u8; 16] {
        [b'u'; 16]
    }
}

impl Console for Recorder {
    fn write(&mut self, text: &[u8]) {
        let text: Vec<u64> = text.iter().map(|&byte| byte.into()).collect();
        self.script.tell("write", &text);
    }
    fn read(&mut self, buf: &mut [u8]) -> usize {
        buf.fill(b'r');
        let len = self.ask("read", &[buf.len() as u64]).unwrap_or(0);
        usize::try_from(len).expect("it is small")
    }
}

impl Assist for Recorder {
    fn runstate_update_flag(&mut self, enable: bool) {
        self.script.tell("runstate_update_flag", &[enable.into()]);
    }
}

impl GrantTable for Recorder {
    fn setup_table(
        &mut self,
        domain: DomId,
        count: u32,
        frames: &GuestArray<'_, Word>,
    ) -> GrantStatus {
        let listed = frames.set_word(1, 0x1234).map(|()| 0);
        let args = [domain.0.into(), count.into(), code(listed)];
        GrantStatus(status(self.ask("setup_table", &args)))
    }
    fn query_size(&mut self, domain: DomId) -> Result<GrantTableSize, GrantStatus> {
        let size = self.word("query_size", &[domain.0.into()]);
        let frames = size.map_err(|errno| GrantStatus(status(Err(errno))))?;
        let max_frames = frames + 1;
        Ok(GrantTableSize { frames, max_frames })
    }
    fn set_version(&mut self, version: u32) -> Result<u32, Errno> {
        self.word("set_version", &[version.into()])
    }
    fn version(&mut self, domain: DomId) -> Result<u32, Errno> {
        self.word("version", &[domain.0.into()])
    }
    fn map(&mut self, mapping: &GrantMapping) -> Result<MappedGrant, GrantStatus> {
        let (flags, reference) = (mapping.flags.into(), mapping.reference.into());
        let args = [mapping.host_addr, flags, reference, mapping.domain.0.into()];
        let handle = self.word("map", &args);
        let handle = handle.map_err(|errno| GrantStatus(status(Err(errno))))?;
        let dev_bus_addr = u64::from(handle) << 12;
        Ok(MappedGrant {
            handle,
            dev_bus_addr,
        })
    }
    fn unmap(&mut self, handle: u32, host_addr: u64, dev_bus_addr: u64) -> GrantStatus {
        GrantStatus(status(
            self.ask("unmap", &[handle.into(), host_addr, dev_bus_addr]),
        ))
    }
    fn copy(&mut self, source: &CopySide, dest: &CopySide, len_bytes: u16) -> GrantStatus {
        let side = |side: &CopySide| {
            let (domain, offset) = (side.domain.0.into(), side.offset.into());
            [side.is_grant.into(), side.place, domain, offset]
        };
        let args = [&side(source)[..], &side(dest), &[len_bytes.into()]].concat();
        GrantStatus(status(self.ask("copy", &args)))
    }
    fn swap(&mut self, first: u32, second: u32) -> GrantStatus {
        GrantStatus(status(self.ask("swap", &[first.into(), second.into()])))
    }
}

impl Vcpus for Recorder {
    fn exists(&self, vcpu: u32) -> bool {
        vcpu < 4
    }
    fn caller(&self) -> u32 {
        1
    }
    fn knows_state(&mut self, op: VcpuOp, vcpu: u32) -> bool {
        self.done("knows_state", &[op.0.into(), vcpu.into()])
            .is_ok()
    }
    fn may_initialise(&self, vcpu: u32) -> Result<(), Errno> {
        self.done("may_initialise", &[vcpu.into()])
    }
    fn initialise(&mut self, vcpu: u32, context: &VcpuHvmContext) -> Result<(), Errno> {
        let bytes = context.as_bytes();
        let longs = (0..16).map(|index| field(bytes, index * 8, 8).expect("128 bytes"));
        let args: Vec<u64> = [vcpu.into()].into_iter().chain(longs).collect();
        self.done("initialise", &args)
    }
    fn up(&mut self, vcpu: u32) -> Result<(), Errno> {
        self.done("up", &[vcpu.into()])
    }
    fn down(&mut self, vcpu: u32) -> Result<(), Errno> {
        self.done("down", &[vcpu.into()])
    }
    fn is_up(&self, vcpu: u32) -> bool {
        vcpu % 2 == 1
    }
    fn runstate(&self, vcpu: u32) -> Runstate {
        let since_ns = u64::from(vcpu) << 40;
        Runstate {
            state: vcpu,
            since_ns,
            time_ns: [1, 2, 3, since_ns],
        }
    }
    fn register_runstate_area(
        &mut self,
        vcpu: u32,
        linear: u64,
        width: Width,
    ) -> Result<(), Errno> {
        let is_native = width == Width::Native;
        self.done("runstate_area", &[vcpu.into(), linear, is_native.into()])
    }
    fn register_time_area(&mut self, vcpu: u32, linear: u64) -> Result<(), Errno> {
        self.done("time_area", &[vcpu.into(), linear])
    }
    fn set_periodic_timer(&mut self, vcpu: u32, period_ns: Option<u64>) {
        self.script
            .tell("periodic", &[vcpu.into(), period_ns.unwrap_or(0)]);
    }
    fn set_singleshot_timer(&mut self, at_ns: u64, fail_if_past: bool) -> Result<(), Errno> {
        self.done("singleshot", &[at_ns, fail_if_past.into()])
    }
    fn stop_singleshot_timer(&mut self) {
        self.script.tell("stop_singleshot", &[]);
    }
    fn register_vcpu_info(&mut self, vcpu: u32, gfn: u64, offset: u32) -> Result<(), Errno> {
        self.done("vcpu_info", &[vcpu.into(), gfn, offset.into()])
    }
    fn send_nmi(&mut self, vcpu: u32) {
        self.script.tell("nmi", &[vcpu.into()]);
    }
}
