//! The ports of a domain in lines of text.

use core::fmt;

use super::{EventChannels, channel::State};

impl EventChannels {
    /// Writes the ABI in use, and a line for each port in use, at most 512.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let abi = match self.is_fifo() {
            true => "FIFO",
            false => "two-level",
        };
        writeln!(out, "event channels: {abi}")?;
        let mut lines = 0_u32;
        for port in 1..self.ports.count() {
            let Some(channel) = self.ports.get(port) else {
                break;
            };
            if channel.state == State::Free {
                continue;
            }
            if lines == LINES_MAX {
                return writeln!(out, "more ports are not shown");
            }
            lines = lines.saturating_add(1);
            write!(out, "port {port}: vCPU {}, ", channel.vcpu)?;
            match channel.state {
                State::Free | State::Reserved => writeln!(out, "reserved")?,
                State::Unbound(remote) => writeln!(out, "waits for domain {}", remote.0)?,
                State::Local(other) => writeln!(out, "joined to port {other}")?,
                State::Host(_) => writeln!(out, "joined to the host")?,
                State::Pirq(pirq) => writeln!(out, "pirq {pirq}")?,
                State::Virq(virq) => match virq.name() {
                    Some(name) => writeln!(out, "virq {name}")?,
                    None => writeln!(out, "virq {}", virq.0)?,
                },
                State::Ipi => writeln!(out, "IPI")?,
            }
        }
        Ok(())
    }
}

/// A guest can have 131072 ports.
const LINES_MAX: u32 = 512;
