//! The FIFO ABI: an event word for each port in pages of the guest, and for each vCPU a control
//! block with the heads of its 16 queues. A queue is a list that is linked through the words; only
//! its tail is known here.

mod word;

use core::ops::Range;

use pvh_abi::{Errno, Gpa, address::PAGE_SIZE};
use pvh_hypercall::group::ControlBlock;
use pvh_memory::{GuestMemory, WordOp};

use super::{
    Delivery,
    channel::{Channel, LAST_PRIORITY, Queue},
};
use crate::parts::spot::usable_frame;
use word::EventWord;

/// The hypervisor's half of the FIFO ABI. Nothing that the guest writes is used as a port or an
/// address: links are written, never followed.
#[derive(Debug)]
pub(super) struct Fifo {
    /// Pages of event words, in the order of ports.
    array: Vec<Gpa>,
    vcpus: Vec<Queues>,
}

/// The queues of one vCPU.
#[derive(Clone, Copy, Debug)]
struct Queues {
    control: Option<Gpa>,
    /// By priority: the port that was linked last, 0 for none.
    tails: [u32; QUEUES],
}

impl Fifo {
    /// No page of words, no control block.
    pub(super) fn new(vcpus: usize) -> Self {
        let queues = Queues {
            control: None,
            tails: [0; QUEUES],
        };
        Self {
            array: Vec::new(),
            vcpus: vec![queues; vcpus],
        }
    }

    /// Gives a vCPU its control block; what is in it stays as it is.
    pub(super) fn init_control(
        &mut self,
        memory: &dyn GuestMemory,
        block: &ControlBlock,
    ) -> Result<(), Errno> {
        let offset = u64::from(block.offset);
        if offset > LAST_CONTROL_OFFSET || !offset.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let queues = self.vcpus.get_mut(block.vcpu as usize);
        let queues = queues.ok_or(Errno::ENOENT)?;
        if queues.control.is_some() {
            return Err(Errno::EINVAL);
        }
        let frame = usable_frame(memory, block.gfn).ok_or(Errno::EINVAL)?;
        queues.control = Some(frame.checked_add(offset).ok_or(Errno::EINVAL)?);
        Ok(())
    }

    /// Adds a page of event words; answers the ports they are for.
    pub(super) fn expand(
        &mut self,
        memory: &dyn GuestMemory,
        frame: u64,
    ) -> Result<Range<u32>, Errno> {
        if self.array.len() >= MAX_PAGES {
            return Err(Errno::ENOSPC);
        }
        let page = usable_frame(memory, frame).ok_or(Errno::EINVAL)?;
        let first = self.words();
        self.array.push(page);
        Ok(first..self.words())
    }

    /// Raises the event of a port for a vCPU; tells whether it was not pending before.
    ///
    /// Without its word the event is kept for later. It is dropped, and not even pending, if the
    /// vCPU has no control block.
    #[inline(never)]
    pub(super) fn raise(
        &mut self,
        delivery: &mut Delivery<'_>,
        (port, channel): (u32, &mut Channel),
        vcpu: u32,
    ) -> bool {
        let Some(word) = self.word(port) else {
            channel.is_saved = true;
            return false;
        };
        let queues = self.vcpus.get(vcpu as usize);
        let Some(control) = queues.and_then(|queues| queues.control) else {
            return false;
        };
        let queue = Queue {
            vcpu,
            priority: channel.priority,
        };
        let memory = delivery.memory;
        let is_new = word.set(memory, EventWord::PENDING);
        if !word.has(memory, EventWord::MASKED) && word.set(memory, EventWord::LINKED) {
            let old = core::mem::replace(&mut channel.last_queue, queue);
            let is_new_head = self.append(memory, port, (old, queue), control);
            if is_new_head && set_ready(memory, control, queue.priority) {
                delivery.upcall(vcpu);
            }
        }
        is_new
    }

    /// Clears the mask of a port; tells whether its event has to be raised now.
    pub(super) fn unmask(&self, memory: &dyn GuestMemory, port: u32) -> bool {
        self.word(port).is_some_and(|word| {
            word.clear(memory, EventWord::MASKED);
            word.has(memory, EventWord::PENDING)
        })
    }

    pub(super) fn clear_pending(&self, memory: &dyn GuestMemory, port: u32) {
        if let Some(word) = self.word(port) {
            word.clear(memory, EventWord::PENDING);
        }
    }

    pub(super) fn is_pending(&self, memory: &dyn GuestMemory, port: u32) -> bool {
        let word = self.word(port);
        word.is_some_and(|word| word.has(memory, EventWord::PENDING))
    }

    /// Tells whether a port is still on a queue, so that it may not be given out.
    pub(super) fn is_linked(&self, memory: &dyn GuestMemory, port: u32) -> bool {
        let word = self.word(port);
        word.is_some_and(|word| word.has(memory, EventWord::LINKED))
    }

    /// Puts a port whose word has just become linked behind the tail of its queue; tells whether it
    /// is the queue's new head.
    ///
    /// A port that is the tail of the queue it was on last was popped there, and that queue is
    /// empty: its tail is forgotten first, for a later event there would be written into a word of
    /// another queue.
    fn append(
        &mut self,
        memory: &dyn GuestMemory,
        port: u32,
        (old, queue): (Queue, Queue),
        control: Gpa,
    ) -> bool {
        if let Some(tail) = self.tail(old)
            && *tail == port
        {
            *tail = 0;
        }
        let before = self
            .tail(queue)
            .map_or(0, |tail| core::mem::replace(tail, port));
        let tail = self.word(before).filter(|_| before != 0);
        if tail.is_some_and(|tail| tail.set_link(memory, port)) {
            return false;
        }
        if let Some(head) = control.checked_add(head_offset(queue.priority)) {
            // A guest that took its control block's frame away is not notified.
            let _ = memory.atomic_u32(head, WordOp::Swap(port));
        }
        true
    }

    fn tail(&mut self, queue: Queue) -> Option<&mut u32> {
        let queues = self.vcpus.get_mut(queue.vcpu as usize)?;
        queues.tails.get_mut(usize::from(queue.priority))
    }

    /// The word of a port, if its page is there.
    fn word(&self, port: u32) -> Option<EventWord> {
        let page = *self.array.get((port / WORDS_PER_PAGE) as usize)?;
        let offset = u64::from(port % WORDS_PER_PAGE).saturating_mul(4);
        page.checked_add(offset).map(EventWord)
    }

    /// How many words there are.
    fn words(&self) -> u32 {
        let pages = u32::try_from(self.array.len()).unwrap_or(0);
        pages.saturating_mul(WORDS_PER_PAGE)
    }
}

/// Marks a queue as one with a new head; tells whether it was not marked.
fn set_ready(memory: &dyn GuestMemory, control: Gpa, priority: u8) -> bool {
    let bit = 1_u32.wrapping_shl(u32::from(priority));
    let before = memory.atomic_u32(control, WordOp::Or(bit));
    before.is_ok_and(|before| before & bit == 0)
}

/// The place of a queue's head in a control block: `ready`, a reserved word, then 16 heads.
fn head_offset(priority: u8) -> u64 {
    u64::from(priority).saturating_mul(4).saturating_add(8)
}

const QUEUES: usize = LAST_PRIORITY as usize + 1;
const WORDS_PER_PAGE: u32 = 1024;
const MAX_PAGES: usize = 128;
const CONTROL_BLOCK_BYTES: u64 = 72;
const LAST_CONTROL_OFFSET: u64 = PAGE_SIZE - CONTROL_BLOCK_BYTES;
