//! The machine as the host of a Xen platform and its back ends: console, log, threads and end.

use std::{io, sync::Arc, thread::JoinHandle};

use pvh_backends::DeviceKind;
use pvh_devices::Request;
use pvh_terminal::{GuestLog, Printable};
use pvh_xen::{EndReason, Host, Notice};

use super::{Board, End};
use crate::threads::{self, OnPanic, Role};

/// Receives the Xen platform's console output, log and end; starts the threads of its devices.
#[derive(Debug)]
pub(crate) struct MachineHost {
    board: Arc<Board>,
    log: GuestLog,
}

impl MachineHost {
    /// Console output and the end go to `board`, lines for the user to `log`.
    pub(crate) const fn new(board: Arc<Board>, log: GuestLog) -> Self {
        Self { board, log }
    }
}

impl Host for MachineHost {
    fn console_output(&self, bytes: &[u8]) -> bool {
        self.board.output().accept(bytes)
    }

    fn console_has_room(&self) -> bool {
        self.board.output().has_room()
    }

    fn wait_for_console_room(&self) {
        self.board.output().wait_for_room();
    }

    fn console_input_wanted(&self) {
        self.board.want_input();
    }

    fn guest_log(&self, line: &[u8]) {
        self.log.line(line);
    }

    fn notice(&self, notice: Notice) {
        self.log.say(&notice.to_string());
    }

    fn end(&self, reason: EndReason) {
        self.board.end(match reason {
            EndReason::PowerOff => End::Request(Request::PowerOff),
            EndReason::Reboot => End::Request(Request::Reboot),
            other => End::Shutdown(other.shutdown_reason()),
        });
    }

    fn is_stopping(&self) -> bool {
        self.board.is_stopping()
    }
}

impl pvh_backends::Host for MachineHost {
    fn start_thread(
        &self,
        kind: DeviceKind,
        number: u8,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let role = match kind {
            DeviceKind::Disk => Role::Disk(number),
            DeviceKind::Network => Role::Network(number),
        };
        threads::start(role, OnPanic::End(Arc::clone(&self.board)), life)
    }

    fn report(&self, line: &str) {
        self.log.say(&Printable(line).to_string());
    }
}
