//! A machine under gdb: its gate, its `monitor` commands, and the thread that serves gdb.

use std::{fmt, io, sync::Arc};

use pvh_gdb::{Commands, Debuggee, Gate, Served, Server};
use pvh_kvm::{GuestRam, Vcpu};
use pvh_terminal::GuestLog;
use pvh_xen::XenPlatform;

use super::{Board, End};

/// A machine that a debugger can be given.
pub(crate) type GuestUnderGdb = Debuggee<GuestRam, GdbCommands>;

/// Makes the vCPUs of a machine stop at a gate, before their first instruction.
///
/// # Errors
///
/// The host has no more descriptors.
pub(crate) fn close_gate(board: &Board, vcpus: &[Vcpu]) -> io::Result<Arc<Gate>> {
    let kickers: Vec<_> = vcpus.iter().map(Vcpu::kicker).collect();
    let count = u32::try_from(kickers.len()).unwrap_or(u32::MAX);
    let gate = Gate::new(count, move |vcpu| {
        let kicker = usize::try_from(vcpu)
            .ok()
            .and_then(|index| kickers.get(index));
        if let Some(kicker) = kicker {
            // If the host refuses the signal, the vCPU stops at its next exit.
            let _ = kicker.kick();
        }
    })?;
    board.debug(Arc::clone(&gate));
    Ok(gate)
}

/// Serves gdb until the machine ends. If the host cannot, the machine runs without it.
pub(crate) fn serve(server: &Server, guest: &mut GuestUnderGdb, log: &GuestLog) {
    let gate = Arc::clone(&guest.gate);
    let mut tell = |served| log.say(&line(&served));
    if let Err(error) = server.serve(guest, gate.ended_fd(), &mut tell) {
        log.say(&format!("gdb cannot be served any more: {error}"));
        gate.end(0);
    }
}

/// What the user is told.
fn line(served: &Served) -> String {
    match served {
        Served::Connected => "gdb has connected".to_owned(),
        Served::Detached => "gdb has detached; the guest runs".to_owned(),
        Served::Lost { why, is_stopped } => {
            let guest = match is_stopped {
                true => "is stopped and waits for the next gdb",
                false => "runs on",
            };
            format!("gdb is gone: {why}; the guest {guest}")
        }
        Served::Killed => "gdb ends the guest".to_owned(),
        other => format!("gdb: {other:?}"),
    }
}

/// The `monitor` commands of pvh-vmm.
#[derive(Debug)]
pub(crate) struct GdbCommands {
    pub(crate) board: Arc<Board>,
    pub(crate) platform: Option<Arc<XenPlatform>>,
}

impl Commands for GdbCommands {
    fn command(&mut self, words: &[&str], out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        if words != ["domain"] {
            return Ok(false);
        }
        match &self.platform {
            Some(platform) => out.write_str(&platform.describe())?,
            None => writeln!(out, "this machine is a plain PC, without a domain")?,
        }
        Ok(true)
    }

    fn help(&self) -> &'static str {
        "domain        the domain's vCPUs, upcall vectors and event channels\n"
    }

    fn kill(&mut self) {
        self.board.end(End::Quit);
    }
}
