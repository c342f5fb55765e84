//! `memory_op` (xen/include/public/memory.h).

use pvh_abi::{
    DomId, Errno,
    memory::{
        AddToPhysmap, AddToPhysmapBatch, AddToPhysmapBatchCompat, AddToPhysmapCompat, E820Entry,
        ForeignMemoryMap, ForeignMemoryMapCompat, MEMORY_OP_BITS, MapSpace, MemoryDomain,
        MemoryMap, MemoryMapCompat, MemoryOp, MemoryReservation, MemoryReservationCompat,
        RemoveFromPhysmap, RemoveFromPhysmapCompat,
    },
};
use zerocopy::little_endian::{I32, U32};

use super::{ELEMENTS_PER_CALL, as_result, toolstack};
use crate::{Budget, Call, Guest, GuestArray, Outcome, guest::Word};

/// The most entries that `set_memory_map` may bring.
pub const MAX_MEMORY_MAP: u32 = 1024;

/// `memory_op`. The errors each method may answer are the ABI's.
#[expect(
    clippy::missing_errors_doc,
    reason = "memory.h and the table of the ABI say them"
)]
pub trait Memory {
    /// Adds pages without a frame, as PV guests do.
    fn increase_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        let _ = extents;
        ExtentsDone {
            count: 0,
            is_refused: true,
        }
    }

    /// Gives pages back.
    fn decrease_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone;

    /// Puts pages at frames.
    fn populate_physmap(&mut self, extents: &Extents<'_>) -> ExtentsDone;

    /// The host's highest page.
    fn maximum_ram_page(&mut self) -> u64;

    /// How many pages a domain has.
    fn current_reservation(&mut self, domain: DomId) -> Result<u64, Errno>;

    /// How many pages a domain may have.
    fn maximum_reservation(&mut self, domain: DomId) -> Result<u64, Errno>;

    /// A domain's highest frame.
    fn maximum_gpfn(&mut self, domain: DomId) -> Result<u64, Errno>;

    /// Tells whether pages of a space may be put into a domain's layout at all; asked before the
    /// first of them is, and before anything else is judged. By default each page is judged by
    /// itself.
    fn may_add_to_physmap(&self, domain: DomId, space: MapSpace) -> Result<(), Errno> {
        let _ = (domain, space);
        Ok(())
    }

    /// Puts one page at a frame, never frame number all ones. The space is never
    /// [`MapSpace::GMFN_RANGE`]: a range comes page by page.
    fn add_to_physmap(&mut self, domain: DomId, request: &MapRequest) -> Result<(), Errno>;

    /// Takes a page away from a frame.
    fn remove_from_physmap(&mut self, domain: DomId, gpfn: u64) -> Result<(), Errno>;

    /// How many entries the memory map has, at most 1024; 0 if there is none.
    fn memory_map_len(&self) -> u32;

    /// One entry of the memory map.
    fn memory_map_entry(&self, index: u32) -> E820Entry;

    /// Replaces the memory map, by at most 1024 entries. They are to be read whole before anything
    /// is replaced.
    fn set_memory_map(&mut self, domain: DomId, map: &MemoryMapEntries<'_>) -> Result<(), Errno>;
}

/// One page to be put at a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MapRequest {
    /// What kind of page.
    pub space: MapSpace,
    /// For a page of another domain: which.
    pub foreign: Option<DomId>,
    /// Which page of that space.
    pub idx: u64,
    /// The frame it is put at.
    pub gpfn: u64,
}

/// How far a call with extents came in one go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a count, and how it ended")]
pub struct ExtentsDone {
    /// How many extents are done, from the first one on.
    pub count: u64,
    /// The next extent was refused: the call ends there. Otherwise, if not all are done, the budget
    /// is spent, and the rest follows in the next go. A handler that does a part of an extent
    /// remembers where it stopped.
    pub is_refused: bool,
}

/// Some extents of a reservation call: at most 256 in one call of `dispatch`.
#[derive(Clone, Copy, Debug)]
pub struct Extents<'io> {
    /// Whose memory.
    pub domain: DomId,
    /// Each extent is 2^order pages, unchecked.
    pub order: u32,
    /// XENMEMF_* bits, unchecked.
    pub flags: u32,
    frames: GuestArray<'io, Word>,
    first: u64,
    count: u64,
}

impl Extents<'_> {
    /// How many extents there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What is left of the cost of this go.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        self.frames.budget()
    }

    /// Reads the first frame of one of them; an index past the end is EINVAL.
    ///
    /// # Errors
    ///
    /// EFAULT, EINVAL.
    pub fn frame(&self, index: u64) -> Result<u64, Errno> {
        self.frames.word(self.place(index)?)
    }

    /// Writes the frame of one of them, for the calls that choose one.
    ///
    /// # Errors
    ///
    /// EFAULT, EINVAL.
    pub fn set_frame(&self, index: u64, gfn: u64) -> Result<(), Errno> {
        self.frames.set_word(self.place(index)?, gfn)
    }

    fn place(&self, index: u64) -> Result<u64, Errno> {
        if index >= self.count {
            return Err(Errno::EINVAL);
        }
        Ok(self.first.saturating_add(index))
    }
}

/// The entries of a new memory map, still in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryMapEntries<'io> {
    entries: GuestArray<'io, E820Entry>,
    count: u32,
}

impl MemoryMapEntries<'_> {
    /// How many there are, at most 1024.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Reads one; an index past the end is EINVAL.
    ///
    /// # Errors
    ///
    /// EFAULT, EINVAL.
    pub fn get(&self, index: u32) -> Result<E820Entry, Errno> {
        if index >= self.count {
            return Err(Errno::EINVAL);
        }
        self.entries.get(u64::from(index))
    }
}

/// Serves `memory_op`, or a bounded part of it.
///
/// # Errors
///
/// Those of the ABI, which the guest reads.
pub fn memory_op(memory: &mut dyn Memory, guest: Guest<'_>, call: Call) -> Result<Outcome, Errno> {
    let [command, arg, ..] = call.args;
    let (op, start) = split(command);
    let result = match op {
        MemoryOp::INCREASE_RESERVATION
        | MemoryOp::DECREASE_RESERVATION
        | MemoryOp::POPULATE_PHYSMAP => return Ok(reservation(memory, guest, call)),
        MemoryOp::ADD_TO_PHYSMAP => return add_to_physmap(memory, guest, call),
        MemoryOp::ADD_TO_PHYSMAP_BATCH => return add_batch(memory, guest, call),
        MemoryOp::MEMORY_MAP if start == 0 => memory_map(memory, guest, arg)?,
        MemoryOp::SET_MEMORY_MAP if start == 0 => set_memory_map(memory, guest, arg)?,
        MemoryOp::MAXIMUM_RAM_PAGE
        | MemoryOp::CURRENT_RESERVATION
        | MemoryOp::MAXIMUM_RESERVATION
        | MemoryOp::MAXIMUM_GPFN
        | MemoryOp::REMOVE_FROM_PHYSMAP
            if start != 0 =>
        {
            return Err(Errno::EINVAL);
        }
        MemoryOp::MAXIMUM_RAM_PAGE => as_result(memory.maximum_ram_page()),
        MemoryOp::CURRENT_RESERVATION => {
            as_result(memory.current_reservation(domain(guest, arg)?)?)
        }
        MemoryOp::MAXIMUM_RESERVATION => {
            as_result(memory.maximum_reservation(domain(guest, arg)?)?)
        }
        MemoryOp::MAXIMUM_GPFN => as_result(memory.maximum_gpfn(domain(guest, arg)?)?),
        MemoryOp::REMOVE_FROM_PHYSMAP => {
            let remove: Remove =
                guest.read_either::<RemoveFromPhysmap, RemoveFromPhysmapCompat, _>(arg)?;
            memory.remove_from_physmap(remove.domain, remove.gpfn)?;
            0
        }
        _ => toolstack::answer(op, start, guest, arg)?,
    };
    Ok(Outcome::Return(result))
}

/// The sub-operation is in the low 6 bits; those above count what is done of the call.
fn split(command: u64) -> (MemoryOp, u64) {
    let start = command >> MEMORY_OP_BITS;
    let [low, ..] = command.to_le_bytes();
    (MemoryOp(u32::from(low & 0x3f)), start)
}

/// The same call, with `done` elements done.
fn resumed(call: Call, done: u64) -> Outcome {
    let [command, arg, c, d, e] = call.args;
    let command = (command & 0x3f) | done << MEMORY_OP_BITS;
    Outcome::Again(call.with_args([command, arg, c, d, e]))
}

/// The three calls that answer how many extents are done, never an error.
fn reservation(memory: &mut dyn Memory, guest: Guest<'_>, call: Call) -> Outcome {
    let [command, arg, ..] = call.args;
    let (op, start) = split(command);
    let so_far = Outcome::Return(as_result(start));
    let Ok(asked) =
        guest.read_either::<MemoryReservation, MemoryReservationCompat, Reservation>(arg)
    else {
        return so_far;
    };
    if asked.count > MAX_EXTENTS || start >= asked.count {
        return so_far;
    }
    let count = asked.count.saturating_sub(start).min(ELEMENTS_PER_CALL);
    let extents = Extents {
        domain: asked.domain,
        order: asked.order,
        flags: asked.flags,
        frames: guest.words(asked.frames),
        first: start,
        count,
    };
    let done = match op {
        MemoryOp::INCREASE_RESERVATION => memory.increase_reservation(&extents),
        MemoryOp::DECREASE_RESERVATION => memory.decrease_reservation(&extents),
        _ => memory.populate_physmap(&extents),
    };
    let total = start.saturating_add(done.count.min(count));
    if done.is_refused || total == asked.count {
        return Outcome::Return(as_result(total));
    }
    resumed(call, total)
}

fn add_to_physmap(memory: &mut dyn Memory, guest: Guest<'_>, call: Call) -> Result<Outcome, Errno> {
    let [command, arg, ..] = call.args;
    let (_, start) = split(command);
    u16::try_from(start).map_err(|_| Errno::EDOM)?;
    let add: Add = guest.read_either::<AddToPhysmap, AddToPhysmapCompat, _>(arg)?;
    if add.request.space == MapSpace::GMFN_FOREIGN {
        return Err(Errno::ENOSYS);
    }
    memory.may_add_to_physmap(add.domain, add.request.space)?;
    if add.request.gpfn == INVALID_GFN {
        return Err(Errno::EINVAL);
    }
    match add.request.space {
        MapSpace::GMFN_RANGE => add_range(memory, guest, call, &add),
        _ => {
            memory.add_to_physmap(add.domain, &add.request)?;
            Ok(Outcome::Return(0))
        }
    }
}

fn add_range(
    memory: &mut dyn Memory,
    guest: Guest<'_>,
    call: Call,
    add: &Add,
) -> Result<Outcome, Errno> {
    let [command, ..] = call.args;
    let size = u64::from(add.size);
    let (_, mut done) = split(command);
    if size < done {
        return Err(Errno::EILSEQ);
    }
    let MapRequest { idx, gpfn, .. } = add.request;
    if idx.checked_add(size).is_none() || gpfn.checked_add(size).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    let end = size.min(done.saturating_add(ELEMENTS_PER_CALL));
    while done < end {
        let request = MapRequest {
            space: MapSpace::GMFN,
            idx: idx.saturating_add(done),
            gpfn: gpfn.saturating_add(done),
            ..add.request
        };
        memory.add_to_physmap(add.domain, &request)?;
        done = done.saturating_add(1);
        if guest.budget().is_spent() {
            break;
        }
    }
    if done == size {
        return Ok(Outcome::Return(0));
    }
    Ok(resumed(call, done))
}

/// The results of the entries go to their own list; only a fault and a frame that cannot be end the
/// call.
fn add_batch(memory: &mut dyn Memory, guest: Guest<'_>, call: Call) -> Result<Outcome, Errno> {
    let [command, arg, ..] = call.args;
    let (_, start) = split(command);
    let start = u16::try_from(start).map_err(|_| Errno::EDOM)?;
    let batch: Batch = guest.read_either::<AddToPhysmapBatch, AddToPhysmapBatchCompat, _>(arg)?;
    if batch.space == MapSpace::GMFN_RANGE {
        return Err(Errno::EOPNOTSUPP);
    }
    memory.may_add_to_physmap(batch.domain, batch.space)?;
    let size = u64::from(batch.size);
    let mut done = u64::from(start);
    if size < done || (size == done && done > 0) {
        return Err(Errno::EILSEQ);
    }
    let (idxs, gpfns) = (guest.words(batch.idxs), guest.words(batch.gpfns));
    let errs: GuestArray<'_, I32> = guest.array(batch.errs);
    let end = size.min(done.saturating_add(ELEMENTS_PER_CALL));
    while done < end {
        let request = MapRequest {
            space: batch.space,
            foreign: (batch.space == MapSpace::GMFN_FOREIGN).then_some(DomId(batch.extra)),
            idx: idxs.word(done)?,
            gpfn: gpfns.word(done)?,
        };
        if request.gpfn == INVALID_GFN {
            return Err(Errno::EINVAL);
        }
        let result = match memory.add_to_physmap(batch.domain, &request) {
            Ok(()) => 0,
            Err(errno) => i32::from(errno.0).saturating_neg(),
        };
        errs.set(done, &I32::new(result))?;
        done = done.saturating_add(1);
        if guest.budget().is_spent() {
            break;
        }
    }
    if done == size {
        return Ok(Outcome::Return(0));
    }
    Ok(resumed(call, done))
}

/// Writes as many entries as fit, and their number.
fn memory_map(memory: &dyn Memory, guest: Guest<'_>, arg: u64) -> Result<i64, Errno> {
    let room: Map = guest.read_either::<MemoryMap, MemoryMapCompat, _>(arg)?;
    let available = memory.memory_map_len().min(MAX_MEMORY_MAP);
    if available == 0 {
        return Err(Errno::ENOSYS);
    }
    let count = room.count.min(available);
    let entries: GuestArray<'_, E820Entry> = guest.array(room.buffer);
    for index in 0..count {
        entries.set(u64::from(index), &memory.memory_map_entry(index))?;
    }
    // The other fields are as they were read: only the count, at offset 0 of both layouts, is new.
    guest.write(arg, &U32::new(count))?;
    Ok(0)
}

fn set_memory_map(memory: &mut dyn Memory, guest: Guest<'_>, arg: u64) -> Result<i64, Errno> {
    let new: ForeignMap = guest.read_either::<ForeignMemoryMap, ForeignMemoryMapCompat, _>(arg)?;
    if new.map.count > MAX_MEMORY_MAP {
        return Err(Errno::EINVAL);
    }
    let entries = MemoryMapEntries {
        entries: guest.array(new.map.buffer),
        count: new.map.count,
    };
    memory.set_memory_map(new.domain, &entries)?;
    Ok(0)
}

fn domain(guest: Guest<'_>, arg: u64) -> Result<DomId, Errno> {
    let argument: MemoryDomain = guest.read(arg)?;
    Ok(DomId(argument.domid.get()))
}

/// The frame number Xen uses for "none".
const INVALID_GFN: u64 = u64::MAX;

/// The largest extent count that a continuation can encode.
const MAX_EXTENTS: u64 = 0x3ff_ffff;

/// The arguments, from either layout.
struct Reservation {
    frames: u64,
    count: u64,
    order: u32,
    flags: u32,
    domain: DomId,
}

struct Add {
    domain: DomId,
    size: u16,
    request: MapRequest,
}

struct Batch {
    domain: DomId,
    space: MapSpace,
    size: u16,
    extra: u16,
    idxs: u64,
    gpfns: u64,
    errs: u64,
}

struct Remove {
    domain: DomId,
    gpfn: u64,
}

struct Map {
    count: u32,
    buffer: u64,
}

struct ForeignMap {
    domain: DomId,
    map: Map,
}

/// Converts both layouts to the same arguments.
macro_rules! from_both {
    ($native:ty, $compat:ty => $to:ty, |$from:ident| $value:expr) => {
        impl From<$native> for $to {
            fn from($from: $native) -> Self {
                $value
            }
        }

        impl From<$compat> for $to {
            fn from($from: $compat) -> Self {
                $value
            }
        }
    };
}

from_both!(MemoryReservation, MemoryReservationCompat => Reservation, |from| Self {
    frames: from.extent_start.into(),
    count: from.nr_extents.into(),
    order: from.extent_order.get(),
    flags: from.mem_flags.get(),
    domain: DomId(from.domid.get()),
});

from_both!(AddToPhysmap, AddToPhysmapCompat => Add, |from| Self {
    domain: DomId(from.domid.get()),
    size: from.size.get(),
    request: MapRequest {
        space: MapSpace(from.space.get()),
        foreign: None,
        idx: from.idx.into(),
        gpfn: from.gpfn.into(),
    },
});

from_both!(AddToPhysmapBatch, AddToPhysmapBatchCompat => Batch, |from| Self {
    domain: DomId(from.domid.get()),
    space: MapSpace(from.space.get().into()),
    size: from.size.get(),
    extra: from.extra.get(),
    idxs: from.idxs.into(),
    gpfns: from.gpfns.into(),
    errs: from.errs.into(),
});

from_both!(RemoveFromPhysmap, RemoveFromPhysmapCompat => Remove, |from| Self {
    domain: DomId(from.domid.get()),
    gpfn: from.gpfn.into(),
});

from_both!(MemoryMap, MemoryMapCompat => Map, |from| Self {
    count: from.nr_entries.get(),
    buffer: from.buffer.into(),
});

from_both!(ForeignMemoryMap, ForeignMemoryMapCompat => ForeignMap, |from| Self {
    domain: DomId(from.domid.get()),
    map: from.map.into(),
});
