//! A domain's memory with the parts that `memory_op` changes.

use pvh_abi::{DomId, Gpa, memory::E820Entry};
use pvh_domain::{
    MemoryConfig,
    parts::{
        grant::GrantTable,
        memory::{BegunExtent, Go, MemoryCalls, MemoryOps},
        shared_info::SharedInfo,
    },
};
use pvh_hypercall::{
    Budget, Call, Fault, GuestIo, Handler, Outcome, Width, dispatch_within, group::Memory,
};
use pvh_memory::{GuestMemory, VecMemory};

/// Domain 5 with 8 MiB of RAM, of which nothing is mapped, 8 pages outside RAM, and room for 16
/// more pages.
pub(crate) struct Machine {
    pub(crate) memory: VecMemory,
    pub(crate) ops: MemoryOps,
    pub(crate) shared_info: SharedInfo,
    pub(crate) grants: GrantTable,
    pub(crate) begun: Option<BegunExtent>,
    /// How many goes the last call took.
    pub(crate) goes: u32,
}

pub(crate) const RAM_FRAMES: u64 = 0x800;
pub(crate) const PAGES: u64 = 0x808;
pub(crate) const MAX_PAGES: u64 = 0x818;
/// A frame in a hole.
pub(crate) const HOLE: u64 = 0xF_0000;
pub(crate) const SELF: u16 = 0x7FF0;

/// `memory_op` commands.
pub(crate) const INCREASE: u64 = 0;
pub(crate) const DECREASE: u64 = 1;
pub(crate) const MAXIMUM_RAM_PAGE: u64 = 2;
pub(crate) const CURRENT: u64 = 3;
pub(crate) const MAXIMUM: u64 = 4;
pub(crate) const POPULATE: u64 = 6;
pub(crate) const ADD: u64 = 7;
pub(crate) const MEMORY_MAP: u64 = 9;
pub(crate) const SET_MEMORY_MAP: u64 = 13;
pub(crate) const MAXIMUM_GPFN: u64 = 14;
pub(crate) const REMOVE: u64 = 15;
pub(crate) const ADD_BATCH: u64 = 23;

/// `add_to_physmap` spaces.
pub(crate) const SHARED_INFO: u32 = 0;
pub(crate) const GRANT_TABLE: u32 = 1;
pub(crate) const GMFN: u32 = 2;

/// Where a test puts its arguments: in the first page of RAM.
pub(crate) const ARGUMENT: u64 = 0x100;
/// Where it puts the frames of its extents.
const LIST: u64 = 0x1000;

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with_ram(RAM_FRAMES)
    }

    /// The same with RAM of another size.
    pub(crate) fn with_ram(frames: u64) -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), frames * 0x1000)]).unwrap();
        Self::with_memory(memory.with_spare_frames(8))
    }

    pub(crate) fn with_memory(memory: VecMemory) -> Self {
        let config = MemoryConfig {
            pages: PAGES,
            max_pages: MAX_PAGES,
            max_gfn: RAM_FRAMES - 1,
            host_pages: 0x123_4567,
            memory_map: vec![e820(0, 0x80_0000, 1), e820(0xFEFF_8000, 0x8000, 2)],
        };
        Self {
            memory,
            ops: MemoryOps::new(DomId(5), config),
            shared_info: SharedInfo::new(),
            grants: GrantTable::new(DomId(5), 4),
            begun: None,
            goes: 0,
        }
    }

    /// Makes a call to its end.
    pub(crate) fn memory_op(&mut self, width: Width, command: u64, arg: u64) -> i64 {
        let mut call = Call::new(width, 12, [command, arg, 0, 0, 0]);
        self.goes = 0;
        loop {
            match self.go(call, Budget::GO) {
                Outcome::Return(result) => return result,
                Outcome::Again(rest) => call = rest,
            }
            assert!(self.goes < 1000, "a call has to end");
        }
    }

    /// Makes one go of a call, of this cost.
    pub(crate) fn go(&mut self, call: Call, cost: u32) -> Outcome {
        self.goes += 1;
        let budget = Budget::new(cost);
        let go = Go {
            budget: &budget,
            begun: &mut self.begun,
        };
        let calls = MemoryCalls::new(
            &mut self.ops,
            &self.memory,
            &mut self.shared_info,
            &mut self.grants,
            go,
        );
        dispatch_within(&mut Only(calls), &Flat(&self.memory), call, &budget)
    }

    /// Makes a call of a 64-bit guest with a structure.
    pub(crate) fn call(&mut self, command: u64, argument: &[u8]) -> i64 {
        self.memory.write(Gpa(ARGUMENT), argument).unwrap();
        self.memory_op(Width::Native, command, ARGUMENT)
    }

    /// `add_to_physmap` of one page.
    pub(crate) fn add(&mut self, space: u32, idx: u64, gpfn: u64) -> i64 {
        self.add_for(SELF, space, idx, gpfn)
    }

    pub(crate) fn add_for(&mut self, domain: u16, space: u32, idx: u64, gpfn: u64) -> i64 {
        let head = [domain.to_le_bytes(), [0; 2]].concat();
        let rest = [idx.to_le_bytes(), gpfn.to_le_bytes()].concat();
        self.call(ADD, &[head, space.to_le_bytes().to_vec(), rest].concat())
    }

    pub(crate) fn remove(&mut self, gpfn: u64) -> i64 {
        let domain = u64::from(SELF);
        self.call(REMOVE, &[domain.to_le_bytes(), gpfn.to_le_bytes()].concat())
    }

    /// One of the three calls with extents: `command` for extents of 2^`order` pages at `gfns`.
    pub(crate) fn extents(&mut self, command: u64, order: u32, gfns: &[u64]) -> i64 {
        self.extents_for(SELF, command, order, 0, gfns)
    }

    pub(crate) fn extents_for(
        &mut self,
        domain: u16,
        command: u64,
        order: u32,
        flags: u32,
        gfns: &[u64],
    ) -> i64 {
        let argument = self.reservation(domain, order, flags, gfns);
        self.call(command, &argument)
    }

    /// Writes a list of frames; returns the structure that names it.
    pub(crate) fn reservation(&self, domain: u16, order: u32, flags: u32, gfns: &[u64]) -> Vec<u8> {
        for (at, gfn) in (LIST..).step_by(8).zip(gfns) {
            self.memory.write(Gpa(at), &gfn.to_le_bytes()).unwrap();
        }
        let count = u64::try_from(gfns.len()).unwrap();
        let words = [
            LIST,
            count,
            u64::from(flags) << 32 | u64::from(order),
            domain.into(),
        ];
        words.map(u64::to_le_bytes).concat()
    }

    /// What the calls that take a domain answer: current, maximum reservation, highest frame.
    pub(crate) fn ask(&mut self, command: u64, domain: u16) -> i64 {
        self.call(command, &domain.to_le_bytes())
    }

    pub(crate) fn has_page(&self, gfn: u64) -> bool {
        self.memory.is_ram(Gpa(gfn * 0x1000), 0x1000)
    }

    pub(crate) fn byte(&self, gfn: u64) -> u8 {
        let mut byte = [0xEE];
        self.memory.read(Gpa(gfn * 0x1000), &mut byte).unwrap();
        byte[0]
    }

    pub(crate) fn put_byte(&self, gfn: u64, byte: u8) {
        self.memory.write(Gpa(gfn * 0x1000), &[byte]).unwrap();
    }

    pub(crate) fn shared_info_gfn(&self) -> Option<u64> {
        self.shared_info.place().map(|at| at.0 / 0x1000)
    }

    /// The frames the grant table is at, all ones for one that is mapped nowhere.
    pub(crate) fn grant_gfns(&mut self) -> Vec<u64> {
        let frames = self.grants.query_size(DomId(5)).unwrap().frames;
        let gfns = self.grants.setup_table(DomId(5), frames).unwrap();
        gfns.collect()
    }
}

pub(crate) fn e820(addr: u64, size: u64, kind: u32) -> E820Entry {
    E820Entry {
        addr: addr.into(),
        size: size.into(),
        kind: kind.into(),
    }
}

/// `memory_op`, and no other group.
struct Only<'a>(MemoryCalls<'a>);

impl Handler for Only<'_> {
    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.0)
    }
}

/// A guest without paging.
struct Flat<'a>(&'a VecMemory);

impl GuestIo for Flat<'_> {
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.0.read(Gpa(linear), buf).map_err(|_| Fault)
    }

    fn copy_to_guest(&self, linear: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.0.write(Gpa(linear), bytes).map_err(|_| Fault)
    }
}
