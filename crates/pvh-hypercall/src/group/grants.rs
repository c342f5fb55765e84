//! `grant_table_op` (xen/include/public/grant_table.h).

use pvh_abi::{
    DomId, Errno,
    grant::{
        GetVersion, GrantCopy, GrantCopyCompat, GrantOp, GrantStatus, MapGrantRef, QuerySize,
        SetVersion, SetupTable, SetupTableCompat, UnmapGrantRef,
    },
};
use zerocopy::little_endian::{I16, U32, U64};

use super::{ELEMENTS_PER_CALL, low_32};
use crate::{Call, Guest, GuestArray, Outcome, Width, budget::GRANT, guest::Word};

/// `grant_table_op`, as far as HVM may call it. A status is written into its element, an error ends
/// the call.
#[expect(
    clippy::missing_errors_doc,
    reason = "grant_table.h says them; a status is not an error of the call"
)]
pub trait GrantTable {
    /// Grows the table to `count` frames and lists them.
    fn setup_table(
        &mut self,
        domain: DomId,
        count: u32,
        frames: &GuestArray<'_, Word>,
    ) -> GrantStatus;

    /// How large the table is.
    fn query_size(&mut self, domain: DomId) -> Result<GrantTableSize, GrantStatus>;

    /// Chooses the entry format, 1 or 2; returns the format in use.
    fn set_version(&mut self, version: u32) -> Result<u32, Errno>;

    /// The entry format in use.
    fn version(&mut self, domain: DomId) -> Result<u32, Errno>;

    /// Maps a granted page at a guest-physical address.
    fn map(&mut self, mapping: &GrantMapping) -> Result<MappedGrant, GrantStatus> {
        let _ = mapping;
        Err(GrantStatus::GENERAL_ERROR)
    }

    /// Ends a mapping.
    fn unmap(&mut self, handle: u32, host_addr: u64, dev_bus_addr: u64) -> GrantStatus {
        let _ = (handle, host_addr, dev_bus_addr);
        GrantStatus::BAD_HANDLE
    }

    /// Copies bytes between two pages.
    fn copy(&mut self, source: &CopySide, dest: &CopySide, len_bytes: u16) -> GrantStatus {
        let _ = (source, dest, len_bytes);
        GrantStatus::GENERAL_ERROR
    }

    /// Exchanges two entries.
    fn swap(&mut self, first: u32, second: u32) -> GrantStatus {
        let _ = (first, second);
        GrantStatus::GENERAL_ERROR
    }
}

/// How large a grant table is, in frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantTableSize {
    /// What it has.
    pub frames: u32,
    /// What it may have.
    pub max_frames: u32,
}

/// A request to map a granted page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantMapping {
    /// Guest-physical address to map at.
    pub host_addr: u64,
    /// GNTMAP_* bits, unchecked.
    pub flags: u32,
    /// Which grant.
    pub reference: u32,
    /// Whose grant.
    pub domain: DomId,
}

/// The result of a mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MappedGrant {
    /// Names the mapping.
    pub handle: u32,
    /// The device address.
    pub dev_bus_addr: u64,
}

/// One side of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopySide {
    /// Whether `place` is a grant reference; else it is a frame.
    pub is_grant: bool,
    /// Which page.
    pub place: u64,
    /// Whose.
    pub domain: DomId,
    /// Where in the page, in bytes, unchecked.
    pub offset: u16,
}

/// Serves the sub-operations that Xen lets HVM call; all others are ENOSYS.
pub(crate) fn grant_table_op(
    grants: &mut dyn GrantTable,
    guest: Guest<'_>,
    call: Call,
) -> Result<Outcome, Errno> {
    let [op, arg, count, ..] = call.args;
    let op = GrantOp(low_32(op));
    let single: fn(&mut dyn GrantTable, Guest<'_>, u64) -> Result<(), Errno> = match op {
        GrantOp::MAP_GRANT_REF => map,
        GrantOp::UNMAP_GRANT_REF => unmap,
        GrantOp::COPY => copy,
        GrantOp::SWAP_GRANT_REF => swap,
        GrantOp::SETUP_TABLE => setup_table,
        GrantOp::QUERY_SIZE => query_size,
        GrantOp::SET_VERSION => set_version,
        GrantOp::GET_VERSION => get_version,
        _ => return Err(Errno::ENOSYS),
    };
    let count = low_32(count);
    if i32::try_from(count).is_err() {
        return Err(Errno::EINVAL);
    }
    match op {
        GrantOp::SETUP_TABLE | GrantOp::QUERY_SIZE if count != 1 => Err(Errno::EINVAL),
        GrantOp::SETUP_TABLE
        | GrantOp::QUERY_SIZE
        | GrantOp::SET_VERSION
        | GrantOp::GET_VERSION => {
            single(grants, guest, arg)?;
            Ok(Outcome::Return(0))
        }
        _ => elements(grants, guest, call, single),
    }
}

/// Serves some elements of a list, and leaves the rest to the next call.
fn elements(
    grants: &mut dyn GrantTable,
    guest: Guest<'_>,
    call: Call,
    single: fn(&mut dyn GrantTable, Guest<'_>, u64) -> Result<(), Errno>,
) -> Result<Outcome, Errno> {
    let [op, arg, count, d, e] = call.args;
    let size_bytes = element_bytes(GrantOp(low_32(op)), guest.width());
    let mut left = u64::from(low_32(count));
    let mut at = arg;
    for _ in 0..left.min(ELEMENTS_PER_CALL) {
        guest.budget().charge(GRANT);
        single(grants, guest, at)?;
        at = at.checked_add(size_bytes).ok_or(Errno::EFAULT)?;
        left = left.saturating_sub(1);
        if guest.budget().is_spent() {
            break;
        }
    }
    if left == 0 {
        return Ok(Outcome::Return(0));
    }
    Ok(Outcome::Again(call.with_args([op, at, left, d, e])))
}

const fn element_bytes(op: GrantOp, width: Width) -> u64 {
    match (op, width) {
        (GrantOp::MAP_GRANT_REF, _) => 32,
        (GrantOp::UNMAP_GRANT_REF, _) => 24,
        (GrantOp::COPY, Width::Native) => 40,
        (GrantOp::COPY, Width::Compat) => 24,
        _ => 12,
    }
}

fn map(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    let mut map: MapGrantRef = guest.read(at)?;
    let mapped = grants.map(&GrantMapping {
        host_addr: map.host_addr.get(),
        flags: map.flags.get(),
        reference: map.gref.get(),
        domain: DomId(map.dom.get()),
    });
    match mapped {
        Ok(mapped) => {
            map.status = I16::new(GrantStatus::OKAY.0);
            map.handle = U32::new(mapped.handle);
            map.dev_bus_addr = U64::new(mapped.dev_bus_addr);
        }
        Err(status) => map.status = I16::new(status.0),
    }
    guest.write(at, &map)
}

fn unmap(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    let mut unmap: UnmapGrantRef = guest.read(at)?;
    let (host, device) = (unmap.host_addr.get(), unmap.dev_bus_addr.get());
    let status = grants.unmap(unmap.handle.get(), host, device);
    unmap.status = I16::new(status.0);
    guest.write(at, &unmap)
}

fn copy(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    match guest.width() {
        Width::Native => {
            let mut copy: GrantCopy = guest.read(at)?;
            let flags = copy.flags.get();
            let side = |side: pvh_abi::grant::GrantCopySide, bit: u16| CopySide {
                is_grant: flags & bit != 0,
                place: side.place.get(),
                domain: DomId(side.domid.get()),
                offset: side.offset.get(),
            };
            let (source, dest) = (side(copy.source, SOURCE_GRANT), side(copy.dest, DEST_GRANT));
            let len_bytes = copy.len.get();
            guest.budget().charge_copy(len_bytes.into());
            copy.status = I16::new(grants.copy(&source, &dest, len_bytes).0);
            guest.write(at, &copy)
        }
        Width::Compat => {
            let mut copy: GrantCopyCompat = guest.read(at)?;
            let flags = copy.flags.get();
            let side = |side: pvh_abi::grant::GrantCopySideCompat, bit: u16| CopySide {
                is_grant: flags & bit != 0,
                place: u64::from(side.place.get()),
                domain: DomId(side.domid.get()),
                offset: side.offset.get(),
            };
            let (source, dest) = (side(copy.source, SOURCE_GRANT), side(copy.dest, DEST_GRANT));
            let len_bytes = copy.len.get();
            guest.budget().charge_copy(len_bytes.into());
            copy.status = I16::new(grants.copy(&source, &dest, len_bytes).0);
            guest.write(at, &copy)
        }
    }
}

fn swap(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    let mut words: [U32; 3] = guest.read(at)?;
    let [first, second, status] = &mut words;
    let [low, high] = grants.swap(first.get(), second.get()).0.to_le_bytes();
    let [_, _, pad_low, pad_high] = status.to_bytes();
    *status = U32::from_bytes([low, high, pad_low, pad_high]);
    guest.write(at, &words)
}

fn setup_table(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    match guest.width() {
        Width::Native => {
            let mut setup: SetupTable = guest.read(at)?;
            let frames = guest.words(setup.frame_list.get());
            let domain = DomId(setup.dom.get());
            let status = grants.setup_table(domain, setup.nr_frames.get(), &frames);
            setup.status = I16::new(status.0);
            guest.write(at, &setup)
        }
        Width::Compat => {
            let mut setup: SetupTableCompat = guest.read(at)?;
            let frames = guest.words(u64::from(setup.frame_list.get()));
            let domain = DomId(setup.dom.get());
            let status = grants.setup_table(domain, setup.nr_frames.get(), &frames);
            setup.status = I16::new(status.0);
            guest.write(at, &setup)
        }
    }
}

fn query_size(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    let mut query: QuerySize = guest.read(at)?;
    match grants.query_size(DomId(query.dom.get())) {
        Ok(size) => {
            query.nr_frames = U32::new(size.frames);
            query.max_nr_frames = U32::new(size.max_frames);
            query.status = I16::new(GrantStatus::OKAY.0);
        }
        Err(status) => query.status = I16::new(status.0),
    }
    guest.write(at, &query)
}

/// The version in use is written back whether or not it is the one asked for.
fn set_version(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    let asked: SetVersion = guest.read(at)?;
    if !matches!(asked.version.get(), 1 | 2) {
        return Err(Errno::EINVAL);
    }
    let answer = grants.set_version(asked.version.get());
    let in_use = match answer {
        Ok(version) => Ok(version),
        Err(_) => grants.version(DomId::SELF),
    };
    if let Ok(version) = in_use {
        let version = U32::new(version);
        guest.write(at, &SetVersion { version })?;
    }
    answer.map(|_| ())
}

fn get_version(grants: &mut dyn GrantTable, guest: Guest<'_>, at: u64) -> Result<(), Errno> {
    let mut get: GetVersion = guest.read(at)?;
    get.version = U32::new(grants.version(DomId(get.dom.get()))?);
    guest.write(at, &get)
}

const SOURCE_GRANT: u16 = 1;
const DEST_GRANT: u16 = 2;
