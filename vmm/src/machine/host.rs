//! The machine as the host of a Xen platform: console, log and end.

use std::sync::Arc;

use pvh_devices::Request;
use pvh_xen::{EndReason, Host, Notice};

use super::{Board, End};
use crate::platform::GuestLog;

/// Receives the Xen platform's console output, log and end.
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
