//! The run loop of a vCPU's thread: enter the guest, answer the exit, enter again.

use std::{ops::ControlFlow, sync::Arc};

use pvh_kvm::{Vcpu, VcpuError, VmEntry, VmExit};

use crate::{
    requests::VcpuRequests,
    vcpu::{Handled, XenVcpu},
};

/// Answers the exits that are not the platform's: the devices of the embedder.
pub trait ExitHandler {
    /// Why a handler ends a vCPU.
    type End;

    /// Called after each run of the vCPU, on its thread, before the exit is answered.
    ///
    /// `is_interrupted`: another thread made the vCPU leave the guest.
    fn left_guest(&mut self, is_interrupted: bool) {
        let _ = is_interrupted;
    }

    /// Called on the vCPU's thread after another thread made the vCPU leave the guest and the
    /// platform has served its own requests, before the vCPU enters the guest again.
    ///
    /// It may wait, but not beyond the end of the machine: a debugger stops the vCPU here. `Break`
    /// ends the loop.
    fn interrupted(&mut self, vcpu: &mut Vcpu) -> ControlFlow<Self::End> {
        let _ = vcpu;
        ControlFlow::Continue(())
    }

    /// Answers an exit that is not the platform's: port and memory accesses, halts, KVM's errors.
    ///
    /// Called on the vCPU's thread, without a lock. It may wait, but not beyond the end of the
    /// machine ([`Host::is_stopping`](crate::Host::is_stopping)). `Break` ends the loop: the vCPU
    /// cannot go on, or the machine is over.
    fn answer(&mut self, vcpu: &mut Vcpu, exit: VmExit) -> ControlFlow<Self::End, VmEntry<'_>>;
}

/// An [`ExitHandler`] for a machine without devices: reads of ports and memory return all ones,
/// writes are dropped, as Xen does for a PVH domain. Any other exit ends the vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

impl ExitHandler for NoDevices {
    type End = VmExit;

    fn answer(&mut self, _: &mut Vcpu, exit: VmExit) -> ControlFlow<VmExit, VmEntry<'_>> {
        let ones = |len_bytes| VmEntry::Read(ALL_ONES.get(..len_bytes).unwrap_or(&ALL_ONES));
        ControlFlow::Continue(match exit {
            VmExit::PortIn {
                size_bytes, count, ..
            } => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                ones(usize::from(size_bytes).saturating_mul(count))
            }
            VmExit::MmioRead { len_bytes, .. } => ones(len_bytes.into()),
            VmExit::PortOut { .. } | VmExit::MmioWrite { .. } => VmEntry::Resume,
            other => return ControlFlow::Break(other),
        })
    }
}

/// Why the run loop of a vCPU ended.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an embedder answers each way to end"
)]
pub enum VcpuEnd<E> {
    /// The domain is over ([`Host::end`](crate::Host::end) has the reason), or the machine is
    /// stopping.
    Over,
    /// The embedder's [`ExitHandler`] ended it.
    Handler(E),
    /// KVM refused to run the vCPU, or to report or set its state.
    Kvm(VcpuError),
}

impl XenVcpu {
    /// Runs the vCPU on this thread until the domain is over, the machine is stopping, or `handler`
    /// ends it.
    ///
    /// The body of the vCPU's thread. [`XenPlatform::stop`](crate::XenPlatform::stop) makes it
    /// return.
    pub fn run_until_end<H: ExitHandler>(
        mut self,
        vcpu: &mut Vcpu,
        handler: &mut H,
    ) -> VcpuEnd<H::End> {
        let platform = Arc::clone(&self.platform);
        let _gone = platform.requests_of(self.index).map(ThreadEnd);
        let mut entry = VmEntry::Resume;
        while !self.platform.host.is_stopping() {
            let exit = self.run(vcpu, entry);
            handler.left_guest(matches!(exit, Ok(VmExit::Interrupted)));
            let exit = match exit {
                Ok(exit) => exit,
                Err(error) => return VcpuEnd::Kvm(error),
            };
            entry = match self.handle(vcpu, exit) {
                Handled::Entry(entry) => entry,
                Handled::Over => return VcpuEnd::Over,
                Handled::Not(VmExit::Interrupted) => match handler.interrupted(vcpu) {
                    ControlFlow::Continue(()) => VmEntry::Resume,
                    ControlFlow::Break(end) => return VcpuEnd::Handler(end),
                },
                Handled::Not(exit) => match handler.answer(vcpu, exit) {
                    ControlFlow::Continue(entry) => entry,
                    ControlFlow::Break(end) => return VcpuEnd::Handler(end),
                },
            };
        }
        VcpuEnd::Over
    }
}

/// Says, when a vCPU's thread ends or panics, that it replies to no state query any more.
struct ThreadEnd<'a>(&'a VcpuRequests);

impl Drop for ThreadEnd<'_> {
    fn drop(&mut self) {
        self.0.leave_guest();
    }
}

/// The longest read: KVM moves at most a page of string data per exit.
static ALL_ONES: [u8; 4096] = [0xFF; 4096];
