//! `GNTTABOP_copy`.

use pvh_abi::{DomId, Gpa, grant::GrantStatus};
use pvh_hypercall::group::CopySide;
use pvh_memory::{GuestMemory, WordOp};

use super::{
    FRAME_OFFSET, GrantTable,
    shared::{Grantee, Shared, Use, mark, unmark},
};
use crate::parts::{
    spot::{Spot, usable_frame},
    target::Target,
};

impl GrantTable {
    /// `copy`: copies bytes between two pages. A granted page is marked as read, or read and
    /// written, meanwhile.
    ///
    /// Each side is looked at in turn, the source first: `PERMISSION_DENIED` for a frame of another
    /// domain than `SELF`, `BAD_DOMAIN`. Then again in turn: `BAD_GNTREF` for a reference that is
    /// in no frame of the table; `GENERAL_ERROR` for an entry that does not let the caller in, is
    /// read only and to be written, or changed under five attempts to mark it; `BAD_PAGE` for a
    /// frame that is not RAM. Last `BAD_COPY_ARG` for bytes past the page's end.
    pub fn copy(
        &self,
        memory: &dyn GuestMemory,
        source: &CopySide,
        dest: &CopySide,
        len_bytes: u16,
    ) -> GrantStatus {
        let done = self.try_copy(memory, source, dest, len_bytes);
        done.err().unwrap_or(GrantStatus::OKAY)
    }

    fn try_copy(
        &self,
        memory: &dyn GuestMemory,
        source: &CopySide,
        dest: &CopySide,
        len_bytes: u16,
    ) -> Result<(), GrantStatus> {
        let source_owner = self.owner(source)?;
        let dest_owner = self.owner(dest)?;
        let shared = self.shared.lock();
        let from = self.claim((memory, &shared), source_owner, source, Use::Read)?;
        let to = self.claim((memory, &shared), dest_owner, dest, Use::Write);
        let done = to.and_then(|to| {
            let from_at = start(from.at, source.offset, len_bytes)?;
            let to_at = start(to.at, dest.offset, len_bytes)?;
            copy_bytes(memory, from_at, to_at, len_bytes)
        });
        if let Ok(to) = to {
            to.release(memory);
        }
        from.release(memory);
        done
    }

    fn owner(&self, side: &CopySide) -> Result<Target, GrantStatus> {
        if !side.is_grant && side.domain != DomId::SELF {
            return Err(GrantStatus::PERMISSION_DENIED);
        }
        self.target(side.domain).ok_or(GrantStatus::BAD_DOMAIN)
    }

    fn claim<'table>(
        &self,
        (memory, shared): (&dyn GuestMemory, &'table Shared),
        owner: Target,
        side: &CopySide,
        used: Use,
    ) -> Result<Claim<'table>, GrantStatus> {
        if !side.is_grant {
            let at = usable_frame(memory, side.place).ok_or(GrantStatus::BAD_PAGE)?;
            return Ok(Claim { at, marked: None });
        }
        match (reference(side), owner) {
            (reference, Target::Own) => {
                let entry = shared.entry(reference).ok_or(GrantStatus::BAD_GNTREF)?;
                self.claim_entry(memory, entry, used)
            }
            // Domain 0 has a table of one frame, and grants nothing.
            (0..512, Target::Host) => Err(GrantStatus::GENERAL_ERROR),
            (_, Target::Host) => Err(GrantStatus::BAD_GNTREF),
        }
    }

    fn claim_entry<'table>(
        &self,
        memory: &dyn GuestMemory,
        entry: Spot<'table>,
        used: Use,
    ) -> Result<Claim<'table>, GrantStatus> {
        let grantee = Grantee::Own(self.domain);
        mark(memory, entry, grantee, used).ok_or(GrantStatus::GENERAL_ERROR)?;
        let frame = entry.offset(FRAME_OFFSET).word(memory, WordOp::Load);
        let at = frame.and_then(|frame| usable_frame(memory, frame.into()));
        let Some(at) = at else {
            unmark(memory, entry, used);
            return Err(GrantStatus::BAD_PAGE);
        };
        let marked = Some((entry, used));
        Ok(Claim { at, marked })
    }
}

/// A grant reference: the low 32 bits of the field that it shares with a frame number.
const fn reference(side: &CopySide) -> u32 {
    let [b0, b1, b2, b3, ..] = side.place.to_le_bytes();
    u32::from_le_bytes([b0, b1, b2, b3])
}

/// A page that a copy may use, and the entry that is marked for that use.
#[derive(Clone, Copy, Debug)]
struct Claim<'table> {
    at: Gpa,
    marked: Option<(Spot<'table>, Use)>,
}

impl Claim<'_> {
    fn release(self, memory: &dyn GuestMemory) {
        if let Some((entry, used)) = self.marked {
            unmark(memory, entry, used);
        }
    }
}

fn start(page: Gpa, offset: u16, len_bytes: u16) -> Result<Gpa, GrantStatus> {
    let end = u32::from(offset).saturating_add(len_bytes.into());
    let at = page.checked_add(offset.into());
    at.filter(|_| end <= PAGE_END)
        .ok_or(GrantStatus::BAD_COPY_ARG)
}

fn copy_bytes(
    memory: &dyn GuestMemory,
    from: Gpa,
    to: Gpa,
    len_bytes: u16,
) -> Result<(), GrantStatus> {
    let mut page = [0; 4096];
    let bytes = page.get_mut(..usize::from(len_bytes));
    let bytes = bytes.ok_or(GrantStatus::BAD_COPY_ARG)?;
    let copied = memory.read(from, bytes);
    let copied = copied.and_then(|()| memory.write(to, bytes));
    copied.map_err(|_| GrantStatus::GENERAL_ERROR)
}

const PAGE_END: u32 = 4096;
