//! The state of a domain in lines of text, for people who debug a guest.

use core::fmt;

use pvh_vcpu::State;

use super::Domain;

impl Domain {
    /// Writes the state of the vCPUs, the upcalls and the event channels, a line each. It is no
    /// stable format. At most 1100 lines.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let domid = self.config.domid.0;
        writeln!(out, "domain {domid}, {} vCPUs", self.config.vcpus)?;
        if let Some(reason) = self.reason {
            writeln!(out, "shut down, reason {}", reason.0)?;
        }
        for vcpu in 0..self.config.vcpus {
            let state = match self.lifecycle(vcpu) {
                Some(State::Up) => "up",
                Some(State::Down) => "initialised, down",
                Some(State::Reset) => "not initialised",
                None => "unknown",
            };
            write!(out, "vCPU {vcpu}: {state}")?;
            match self.vcpu_vector(vcpu) {
                Some(vector) => writeln!(out, ", upcall vector {vector:#x}")?,
                None => writeln!(out)?,
            }
        }
        match self.global_vector() {
            Some(vector) => writeln!(out, "upcall vector of all vCPUs {vector:#x}")?,
            None => writeln!(out, "no upcall vector of all vCPUs")?,
        }
        self.events.describe(out)
    }
}
