//! The set behind a lock. The loom test includes this file as well, with loom's primitives.

use std::{sync::PoisonError, vec::Vec};

use pvh_abi::vcpu::VcpuHvmContext;

use crate::{
    CpuPolicy, Effect, Orders, Vcpu, VcpuError, VcpuSet,
    sync::{Condvar, Mutex, MutexGuard},
};

/// A [`VcpuSet`] that several threads call, each vCPU's own among them.
///
/// Every call is decided under one lock, so that all see the same order of them. A thread whose
/// vCPU is down waits in [`wait`](Self::wait). The thread that gets [`Effect::Stop`] makes the vCPU
/// leave the guest, and the vCPU's thread asks again. Calls are as rare as CPU hotplug, so the lock
/// costs nothing.
#[derive(Debug)]
pub struct SharedVcpuSet {
    set: Mutex<VcpuSet<Vec<Vcpu>>>,
    changed: Condvar,
}

impl SharedVcpuSet {
    /// Makes a set of `count` vCPUs, the first of them up.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let storage = std::iter::repeat_n(Vcpu::RESET, count).collect();
        Self {
            set: Mutex::new(VcpuSet::new(storage)),
            changed: Condvar::new(),
        }
    }

    /// See [`VcpuSet::initialise`].
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::initialise`].
    pub fn initialise(
        &self,
        vcpu: u32,
        context: &VcpuHvmContext,
        policy: &CpuPolicy,
    ) -> Result<(), VcpuError> {
        self.lock().initialise(vcpu, context, policy)
    }

    /// See [`VcpuSet::up`]; a waiting thread is woken.
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::up`].
    pub fn up(&self, vcpu: u32) -> Result<Option<Effect>, VcpuError> {
        self.tell(self.lock().up(vcpu))
    }

    /// See [`VcpuSet::down`]; at the end of the domain, all waiting threads are woken.
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::down`].
    pub fn down(&self, vcpu: u32) -> Result<Option<Effect>, VcpuError> {
        self.tell(self.lock().down(vcpu))
    }

    /// See [`VcpuSet::is_up`].
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::is_up`].
    pub fn is_up(&self, vcpu: u32) -> Result<bool, VcpuError> {
        self.lock().is_up(vcpu)
    }

    /// See [`VcpuSet::init`].
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::init`].
    pub fn init(&self, vcpu: u32) -> Result<Option<Effect>, VcpuError> {
        self.tell(self.lock().init(vcpu))
    }

    /// See [`VcpuSet::sipi`]; a waiting thread is woken.
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::sipi`].
    pub fn sipi(&self, vcpu: u32, vector: u8) -> Result<Option<Effect>, VcpuError> {
        self.tell(self.lock().sipi(vcpu, vector))
    }

    /// See [`VcpuSet::orders`]; does not wait.
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::orders`].
    pub fn orders(&self, vcpu: u32) -> Result<Orders, VcpuError> {
        self.lock().orders(vcpu)
    }

    /// Waits until the vCPU has to run or to end; never answers [`Orders::Park`].
    ///
    /// # Errors
    ///
    /// Those of [`VcpuSet::orders`].
    pub fn wait(&self, vcpu: u32) -> Result<Orders, VcpuError> {
        let mut set = self.lock();
        loop {
            let orders = set.orders(vcpu)?;
            if orders != Orders::Park {
                return Ok(orders);
            }
            set = self
                .changed
                .wait(set)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// See [`VcpuSet::end`]; all waiting threads are woken.
    pub fn end(&self) {
        self.lock().end();
        self.changed.notify_all();
    }

    /// Wakes the waiting threads if a call changed something.
    fn tell(&self, answer: Result<Option<Effect>, VcpuError>) -> Result<Option<Effect>, VcpuError> {
        if let Ok(Some(_)) = answer {
            self.changed.notify_all();
        }
        answer
    }

    /// The set; every call leaves it consistent, so a thread that panicked elsewhere does no harm.
    fn lock(&self) -> MutexGuard<'_, VcpuSet<Vec<Vcpu>>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
