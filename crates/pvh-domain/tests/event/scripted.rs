//! Memory in which something happens just before each atomic access: the guest, on another CPU.

use core::cell::{Cell, RefCell};

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

type Hook = Box<dyn FnMut(&VecMemory, Gpa, WordOp<u32>)>;

pub(crate) struct Scripted {
    pub(crate) ram: VecMemory,
    hook: RefCell<Option<Hook>>,
    accesses: Cell<u64>,
    /// The memory is gone: every access to a word fails.
    pub(crate) is_gone: Cell<bool>,
}

impl Scripted {
    pub(crate) fn new(ram: VecMemory) -> Self {
        Self {
            ram,
            hook: RefCell::new(None),
            accesses: Cell::new(0),
            is_gone: Cell::new(false),
        }
    }

    /// Lets `hook` run before each access from now on.
    pub(crate) fn on_access(&self, hook: impl FnMut(&VecMemory, Gpa, WordOp<u32>) + 'static) {
        *self.hook.borrow_mut() = Some(Box::new(hook));
    }

    pub(crate) fn quiet(&self) {
        *self.hook.borrow_mut() = None;
    }

    /// How many accesses there were since it was last asked.
    pub(crate) fn accesses(&self) -> u64 {
        self.accesses.take()
    }
}

impl GuestMemory for Scripted {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.ram.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.ram.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.ram.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.accesses.set(self.accesses.get() + 1);
        if self.is_gone.get() {
            return Err(MemoryError::Backend { at });
        }
        if let Some(hook) = self.hook.borrow_mut().as_mut() {
            hook(&self.ram, at, op);
        }
        self.ram.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, _: WordOp<u64>) -> Result<u64, MemoryError> {
        panic!("events have no 64-bit words: {at}");
    }
}
