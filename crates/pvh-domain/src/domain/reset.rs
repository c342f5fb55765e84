//! Soft reset: one kernel hands the domain over to another, without a reboot.

use pvh_abi::{DomId, address::PAGE_SIZE, event_channel::Port};
use pvh_memory::Frames;

use super::{Domain, DomainError, build::refused};
use crate::parts::event::{Delivery, HostPort};

impl Domain {
    /// `SCHEDOP_shutdown` with the reason "soft reset", as Xen 4.17 and its toolstack do it: every
    /// port is closed, and the two services have new ones; `vcpu_info`s and areas are taken back;
    /// shared info leaves a page of zeros where it was mapped; the store forgets watches,
    /// transactions and what was in its ring. Memory, vCPUs, vectors, timers and the grant table
    /// stay, in which the rings are granted anew.
    pub(super) fn soft_reset(&mut self, memory: &dyn Frames) -> Result<(), DomainError> {
        let delivery = Delivery::new(memory, &self.shared_info, &self.vcpu_infos);
        let closed = self.events.reset(&delivery, DomId::SELF);
        closed.map_err(|errno| refused("closing the ports", errno))?;
        for vcpu in 0..self.config.vcpus {
            self.stop_sleep(vcpu);
        }
        self.vcpu_infos.unregister_all();
        for data in &mut self.vcpus {
            data.runstate_area = None;
            data.time_area = None;
            data.physical_runstate = None;
            data.physical_time = None;
        }
        self.leave_shared_info(memory)?;
        self.store.reset(self.config.domid);
        self.store_ring.connect(memory).map_err(DomainError::Ring)?;
        let (store, store_end) = self.open_again(memory, self.store_end)?;
        let (console, console_end) = self.open_again(memory, self.console_end)?;
        (self.store_end, self.console_end) = (store_end, console_end);
        self.preset_params(store, console)?;
        self.grant_rings(memory)?;
        self.fill_store(store, console)?;
        for vcpu in 0..self.config.vcpus {
            self.write_time(memory, vcpu);
        }
        Ok(())
    }

    /// Takes shared info back; the guest's frame gets a page of RAM, filled with zeros.
    fn leave_shared_info(&mut self, memory: &dyn Frames) -> Result<(), DomainError> {
        let Some(at) = self.shared_info.place() else {
            return Ok(());
        };
        self.shared_info.unmap(memory);
        self.memory_ops.add_page();
        memory.zero(at, PAGE_SIZE).map_err(DomainError::Memory)
    }

    /// Gives a service another port.
    fn open_again(
        &mut self,
        memory: &dyn Frames,
        end: HostPort,
    ) -> Result<(Port, HostPort), DomainError> {
        self.events.close_host(end);
        let delivery = Delivery::new(memory, &self.shared_info, &self.vcpu_infos);
        let opened = self.events.open_service(&delivery);
        opened.map_err(|errno| refused("a service's port", errno))
    }
}
