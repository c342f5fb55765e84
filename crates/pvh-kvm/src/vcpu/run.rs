//! Runs guest code until an exit, and reads the exit from the run page.

use std::{io, thread, time::Duration};

use pvh_hypercall::Caller;
use pvh_memory::GuestMemory;

use super::{
    cpu::Vcpu,
    decode::{
        Decoded, EXIT_REASON_AT, PORT_DATA_MAX, PortAccess, RECORD_AT, RECORD_LEN, Record, decode,
    },
    error::VcpuError,
    events::Activity,
    exit::{ExitData, VmEntry, VmExit},
    kick,
    pending::{Answer, Pending},
    sync_registers::{SYNC_AT, SYNC_LEN, SyncArea},
};
use crate::HypercallTransport;

impl Vcpu {
    /// Runs guest code on this thread until an exit that the VMM has to handle.
    ///
    /// After [`VmExit::PortIn`] and [`VmExit::MmioRead`] the next entry brings the bytes. The exits
    /// for MSR accesses and hypercalls name the entries that answer them. After any other exit, the
    /// next entry is [`VmEntry::Resume`].
    ///
    /// # Errors
    ///
    /// [`VcpuError::Answer`] or [`VcpuError::AnswerKind`] if `entry` does not fit the last exit;
    /// the guest has not run then, and the right entry can still be given. [`VcpuError::Host`] if
    /// KVM_RUN fails, [`VcpuError::RunPage`] if KVM names bytes outside its page,
    /// [`VcpuError::LostRam`] if it cannot access RAM.
    pub fn run(&mut self, entry: VmEntry<'_>) -> Result<VmExit, VcpuError> {
        self.answer(entry)?;
        self.prepare()?;
        self.unblock_kicks()?;
        self.is_settled = false;
        loop {
            let running = self.kick.enter();
            let ran = self.fd.run().map(|_| ());
            drop(running);
            return match ran.map_err(|error| error.errno()) {
                Ok(()) => self.exit(),
                Err(libc::EINTR) => {
                    self.kick.acknowledge();
                    self.is_settled = true;
                    Ok(VmExit::Interrupted)
                }
                // KVM returns this for a vCPU that waited for INIT or SIPI, mostly after it got
                // one.
                Err(libc::EAGAIN) => {
                    self.pause_if_waiting_for_sipi();
                    continue;
                }
                Err(errno) => Err(self.host("KVM_RUN")(io::Error::from_raw_os_error(errno))),
            };
        }
    }

    /// Pauses if the vCPU has not been started yet.
    ///
    /// With an NMI pending, which such a vCPU cannot take before its start-up interrupt, KVM_RUN
    /// returns at once instead of waiting. Without a pause, a guest could keep this loop spinning.
    fn pause_if_waiting_for_sipi(&self) {
        // If KVM does not report the activity, the next KVM_RUN returns the error.
        if matches!(self.activity(), Ok(Activity::WaitingForSipi)) {
            thread::sleep(SIPI_WAIT_PAUSE);
        }
    }

    /// Copies the answer in `entry` to where KVM expects it after the last exit.
    fn answer(&mut self, entry: VmEntry<'_>) -> Result<(), VcpuError> {
        let answer = self.pending.answer(self.index, entry)?;
        self.pending = Pending::Nothing;
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Bytes(offset, bytes) => self.copy_in(offset, bytes),
            Answer::Word(offset, word) => self.copy_in(offset, &word.to_le_bytes()),
            Answer::TwoWords(words) => words
                .into_iter()
                .try_for_each(|(offset, word)| self.copy_in(offset, &word.to_le_bytes())),
        }
    }

    /// Reads from the run page why KVM_RUN returned, and what answer KVM expects.
    fn exit(&mut self) -> Result<VmExit, VcpuError> {
        let mut reason = [0; 4];
        let mut record: Record = [0; RECORD_LEN];
        self.copy_out(EXIT_REASON_AT, &mut reason)?;
        self.copy_out(RECORD_AT, &mut record)?;
        match decode(u32::from_le_bytes(reason), &record) {
            Decoded::Port(access) => self.port(access),
            Decoded::Hypercall => self.hypercall(Pending::Result),
            Decoded::Exit(exit) => {
                self.check_ram(&exit)?;
                self.pending = Pending::after(&exit);
                Ok(exit)
            }
        }
    }

    /// Refuses an access to RAM that KVM reports as an access to a device, because it cannot access
    /// the page.
    fn check_ram(&self, exit: &VmExit) -> Result<(), VcpuError> {
        let (at, len_bytes) = match exit {
            VmExit::MmioRead { at, len_bytes } => (*at, u64::from(*len_bytes)),
            VmExit::MmioWrite { at, data } => (*at, data.len() as u64),
            _ => return Ok(()),
        };
        if self.vm.vm.ram().is_ram(at, len_bytes) {
            let index = self.index;
            return Err(VcpuError::LostRam { index, at });
        }
        Ok(())
    }

    fn port(&mut self, access: PortAccess) -> Result<VmExit, VcpuError> {
        let (offset, len) = (access.data_offset, access.data_len);
        if !access.is_out {
            self.pending = Pending::Bytes { offset, len };
            return Ok(VmExit::PortIn {
                port: access.port,
                size_bytes: access.size_bytes,
                count: access.count,
            });
        }
        let hypercalls = HypercallTransport::Port { port: access.port };
        if self.vm.hypercalls == hypercalls {
            return self.hypercall(Pending::Rax);
        }
        let mut data = [0; PORT_DATA_MAX];
        let data = data.get_mut(..len).unwrap_or_default();
        self.copy_out(offset, data)?;
        Ok(VmExit::PortOut {
            port: access.port,
            size_bytes: access.size_bytes,
            data: ExitData::from(&*data),
        })
    }

    /// Reads a hypercall. `result` is where its result will go.
    fn hypercall(&mut self, result: Pending) -> Result<VmExit, VcpuError> {
        let state = self.sync_area()?.hypercall();
        self.pending = result;
        Ok(VmExit::Hypercall(state))
    }

    fn sync_area(&mut self) -> Result<SyncArea, VcpuError> {
        let mut area = [0; SYNC_LEN];
        self.copy_out(SYNC_AT, &mut area)?;
        Ok(SyncArea(area))
    }

    /// Unblocks the kick signal, once for each thread that runs the vCPU.
    fn unblock_kicks(&mut self) -> Result<(), VcpuError> {
        let thread = thread::current().id();
        if self.thread != Some(thread) {
            kick::unblock().map_err(self.host("unblocking the kick signal"))?;
            self.thread = Some(thread);
        }
        Ok(())
    }

    /// Returns mode and privilege level of the guest's code at the last exit, without a call to the
    /// host.
    ///
    /// `None` with [`HypercallTransport::None`]. [`VmExit::Hypercall`] has the same value.
    pub fn caller(&mut self) -> Option<Caller> {
        if self.vm.hypercalls == HypercallTransport::None {
            return None;
        }
        self.sync_area().ok().map(|area| area.caller())
    }
}

/// Short compared to the start of a processor; long enough that a waiting vCPU uses little CPU
/// time.
const SIPI_WAIT_PAUSE: Duration = Duration::from_millis(1);
