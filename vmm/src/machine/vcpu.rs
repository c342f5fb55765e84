//! Runs a vCPU: enter the guest, answer the exit, enter again.

use std::ops::ControlFlow;

use pvh_devices::{Request, read_unclaimed};
use pvh_kvm::{
    CopyAhead, Failure, GuestDebug, Registers, SystemEventKind, Vcpu, VcpuError, VmEntry, VmExit,
};
use pvh_xen::{ExitHandler, VcpuEnd, XenVcpu};

use super::{Board, End};

/// Runs until the machine ends; returns why if this vCPU ends it.
pub(super) fn run(
    vcpu: &mut Vcpu,
    board: &Board,
    xen: Option<XenVcpu>,
    ahead: Option<&CopyAhead>,
) -> Option<End> {
    let mut devices = Devices {
        board,
        ahead,
        answer: Vec::new(),
        before: None,
    };
    if let Err(error) = devices.begin_steps(vcpu) {
        return Some(host_refuses(vcpu, error));
    }
    // A guest that reboots again and again would fill the queue: each machine waits for room first.
    board.output().wait_for_room();
    if let ControlFlow::Break(end) = pass_gate(vcpu, board) {
        return Some(end);
    }
    pvh_timeline::mark(pvh_timeline::Moment::Entry);
    match xen {
        None => run_plain(vcpu, &mut devices),
        Some(xen) => match xen.run_until_end(vcpu, &mut devices) {
            VcpuEnd::Over => None,
            VcpuEnd::Handler(end) => Some(end),
            VcpuEnd::Kvm(error) => Some(host_refuses(vcpu, error)),
        },
    }
}

/// The run loop of a vCPU without the Xen platform.
fn run_plain(vcpu: &mut Vcpu, devices: &mut Devices<'_>) -> Option<End> {
    let board = devices.board;
    let mut entry = VmEntry::Resume;
    while !board.is_stopping() {
        let exit = vcpu.run(entry);
        devices.left_guest(matches!(exit, Ok(VmExit::Interrupted)));
        entry = match exit {
            Err(error) => return Some(host_refuses(vcpu, error)),
            Ok(VmExit::Interrupted) => {
                answer_halts(vcpu, board);
                if let ControlFlow::Break(end) = pass_gate(vcpu, board) {
                    return Some(end);
                }
                VmEntry::Resume
            }
            Ok(exit) => match devices.answer(vcpu, exit) {
                ControlFlow::Continue(entry) => entry,
                ControlFlow::Break(end) => return Some(end),
            },
        };
    }
    None
}

/// Holds the vCPU while a debugger keeps the machine stopped.
fn pass_gate(vcpu: &mut Vcpu, board: &Board) -> ControlFlow<End> {
    let passed = board.gate().map(|gate| gate.pass(vcpu.index(), vcpu));
    match passed {
        Some(Err(error)) => ControlFlow::Break(host_refuses(vcpu, error)),
        _ => ControlFlow::Continue(()),
    }
}

fn host_refuses(vcpu: &Vcpu, error: VcpuError) -> End {
    End::Crash(Box::new(vcpu.crash(Failure::Host(error))))
}

/// Answers whether the vCPU has halted for good, if it is asked.
fn answer_halts(vcpu: &Vcpu, board: &Board) {
    let index = usize::try_from(vcpu.index()).unwrap_or(usize::MAX);
    if let Some(halts) = board.halts() {
        // A vCPU of which KVM cannot say it counts as running.
        halts.answer(index, || vcpu.is_halted_for_good().unwrap_or(false));
    }
}

/// The devices as a vCPU's thread reaches them.
#[derive(Debug)]
struct Devices<'a> {
    board: &'a Board,
    ahead: Option<&'a CopyAhead>,
    /// The data of the guest's last read.
    answer: Vec<u8>,
    /// The registers before the instruction that runs, with `--debug-faults`.
    before: Option<Registers>,
}

impl ExitHandler for Devices<'_> {
    type End = End;

    fn left_guest(&mut self, is_interrupted: bool) {
        // A vCPU that pvh-vmm has kicked has not left the guest by itself.
        if !is_interrupted {
            pvh_timeline::mark(pvh_timeline::Moment::Exit);
        }
        // Another exit may be the guest's last, for which nothing has to be copied.
        if let Some(ahead) = self.ahead.filter(|_| is_interrupted) {
            ahead.copy_if_requested();
        }
    }

    fn interrupted(&mut self, vcpu: &mut Vcpu) -> ControlFlow<End> {
        pass_gate(vcpu, self.board)
    }

    fn answer(&mut self, vcpu: &mut Vcpu, exit: VmExit) -> ControlFlow<End, VmEntry<'_>> {
        if self.note_step(vcpu, &exit) {
            return ControlFlow::Continue(VmEntry::Resume);
        }
        if let Some(handled) = self.board.gate().and_then(|gate| gate.handle(vcpu, &exit)) {
            return match handled {
                Ok(()) => ControlFlow::Continue(VmEntry::Resume),
                Err(error) => ControlFlow::Break(host_refuses(vcpu, error)),
            };
        }
        ControlFlow::Continue(match exit {
            VmExit::PortOut {
                port,
                size_bytes,
                data,
            } => {
                if let Some(request) = port_out(self.board, port, size_bytes, &data) {
                    return ControlFlow::Break(End::Request(request));
                }
                VmEntry::Resume
            }
            VmExit::PortIn {
                port,
                size_bytes,
                count,
            } => {
                port_in(self.board, port, size_bytes, count, &mut self.answer);
                VmEntry::Read(&self.answer)
            }
            VmExit::MmioRead { len_bytes, .. } => {
                self.answer.resize(usize::from(len_bytes), 0);
                read_unclaimed(&mut self.answer);
                VmEntry::Read(&self.answer)
            }
            VmExit::MmioWrite { .. } => VmEntry::Resume,
            other => return ControlFlow::Break(self.ending(vcpu, other)),
        })
    }
}

impl Devices<'_> {
    /// What an exit means that ends the machine.
    fn ending(&self, vcpu: &mut Vcpu, exit: VmExit) -> End {
        let failure = match exit {
            VmExit::SystemEvent {
                kind: SystemEventKind::SHUTDOWN,
                ..
            } => {
                return End::Request(Request::PowerOff);
            }
            VmExit::SystemEvent {
                kind: SystemEventKind::RESET,
                ..
            } => {
                return End::Request(Request::Reboot);
            }
            VmExit::Shutdown => {
                self.show_crash(vcpu);
                let mut crash = vcpu.crash(Failure::TripleFault);
                crash.registers = self.before.or(crash.registers);
                return End::TripleFault(Box::new(crash));
            }
            other => Failure::from(other),
        };
        self.show_crash(vcpu);
        End::Crash(Box::new(vcpu.crash(failure)))
    }

    /// Makes the vCPU execute one instruction at a time, if that is wanted. Interrupts are not held
    /// back: the guest has to go on.
    fn begin_steps(&mut self, vcpu: &mut Vcpu) -> Result<(), VcpuError> {
        if !self.board.is_stepping() {
            return Ok(());
        }
        self.before = vcpu.registers().ok();
        vcpu.set_debug(&GuestDebug {
            is_step: true,
            ..GuestDebug::default()
        })
    }

    /// Keeps the registers after a step; returns whether the exit was one.
    fn note_step(&mut self, vcpu: &Vcpu, exit: &VmExit) -> bool {
        let is_step = self.board.is_stepping() && matches!(exit, VmExit::Debug { .. });
        if is_step {
            self.before = vcpu.registers().ok();
        }
        is_step
    }

    /// Lets a debugger look at a vCPU that cannot go on.
    fn show_crash(&self, vcpu: &mut Vcpu) {
        if let Some(gate) = self.board.gate() {
            gate.crashed(vcpu.index(), vcpu);
        }
    }
}

/// Performs the port writes of one exit; a string instruction has several.
fn port_out(board: &Board, port: u16, size_bytes: u8, data: &[u8]) -> Option<Request> {
    let mut ports = board.ports();
    let accesses = data.chunks(usize::from(size_bytes).max(1));
    let requests = accesses.filter_map(|access| ports.write(port, access));
    let request = requests.last();
    drop(ports);
    // Not under the lock, which the event loop needs to deliver input while the console is blocked.
    board.output().wait_for_room();
    request
}

/// Performs the port reads of one exit into `answer`, at most one page.
fn port_in(board: &Board, port: u16, size_bytes: u8, count: u32, answer: &mut Vec<u8>) {
    let size = usize::from(size_bytes).max(1);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    answer.clear();
    answer.resize(size.saturating_mul(count).min(STRING_LIMIT_BYTES), 0);
    let mut ports = board.ports();
    for access in answer.chunks_mut(size) {
        ports.read(port, access);
    }
}

/// KVM transfers at most one page of string data per exit.
const STRING_LIMIT_BYTES: usize = 4096;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use std::{
        sync::Arc,
        thread::{self, sleep},
        time::Duration,
    };

    use pvh_abi::Gpa;
    use pvh_entry::EntryState;
    use pvh_kvm::{GuestRam, Kvm, Vm, VmConfig};
    use pvh_memory::GuestMemory;
    use pvh_terminal::ConsoleQueue;
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;
    use crate::machine::{BootVcpu, Stopper, Threads};

    /// A machine with `code` as its kernel, running.
    fn start(code: &[u8], cpus: u32) -> (Arc<Board>, Threads) {
        let ram = Arc::new(GuestRam::new(2 << 20).unwrap());
        ram.write(Gpa(0x10_0000), code).unwrap();
        let vm = Vm::new(&Kvm::open().unwrap(), &VmConfig::new(cpus), ram).unwrap();
        let com1 = EventFd::new(EFD_NONBLOCK).unwrap();
        vm.register_irqfd(&com1, 4).unwrap();
        let board = Arc::new(Board::new(ConsoleQueue::default(), Some(com1)).unwrap());
        let vcpus = (0..cpus).map(|index| vm.create_vcpu(index).unwrap());
        let mut vcpus: Vec<_> = vcpus.collect();
        let entry = EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap();
        vcpus[0].set_entry(&entry).unwrap();
        let stopper = Stopper::new(&board, &vcpus, None);
        let mut vcpus = vcpus.into_iter();
        let boot = BootVcpu::new(vcpus.next().unwrap(), &board, None);
        let threads = Threads::start(stopper, vcpus, None, &std::sync::mpsc::channel().0).unwrap();
        thread::spawn(|| boot.run());
        (board, threads)
    }

    /// Runs `code` until it ends the machine.
    fn run_to_end(code: &[u8]) -> (End, Vec<u8>) {
        let (board, threads) = start(code, 1);
        for _ in 0..1000 {
            if let Some(end) = board.take_end() {
                drop(threads);
                return (end, board.output().take(usize::MAX));
            }
            sleep(Duration::from_millis(5));
        }
        panic!("the guest does not end");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_prints_and_powers_off() {
        // mov dx, 0x3F8; mov al, '!'; out dx, al; mov dx, 0x605; mov al, 0x34; out dx, al
        let code = b"\x66\xBA\xF8\x03\xB0!\xEE\x66\xBA\x05\x06\xB0\x34\xEE";
        let (end, output) = run_to_end(code);
        assert!(matches!(end, End::Request(Request::PowerOff)), "{end:?}");
        assert_eq!(output, b"!");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_string_of_port_writes_arrives_in_order() {
        // mov esi, text; mov ecx, 5; mov dx, 0x3F8; rep outsb; mov al, 0xFE; out 0x64, al; text
        let mut code = b"\xBE\x14\x00\x10\x00\xB9\x05\x00\x00\x00\x66\xBA\xF8\x03\xF3\x6E".to_vec();
        code.extend(b"\xB0\xFE\xE6\x64hello");
        let (end, output) = run_to_end(&code);
        assert!(matches!(end, End::Request(Request::Reboot)), "{end:?}");
        assert_eq!(output, b"hello");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn unclaimed_ports_and_memory_read_all_ones() {
        // mov dx, 0x510; in eax, dx; mov dx, 0x3F8; out dx, al; mov eax, [0xFD000000]; out dx, al;
        // mov [0xFD000000], eax; mov dx, 0x605; mov al, 0x20; out dx, al
        let mut code = b"\x66\xBA\x10\x05\xED\x66\xBA\xF8\x03\xEE".to_vec();
        code.extend(b"\xA1\x00\x00\x00\xFD\xEE\xA3\x00\x00\x00\xFD");
        code.extend(b"\x66\xBA\x05\x06\xB0\x20\xEE");
        let (end, output) = run_to_end(&code);
        assert!(matches!(end, End::Request(Request::PowerOff)), "{end:?}");
        assert_eq!(output, [0xFF, 0xFF]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_exception_without_an_interrupt_table_is_a_named_crash() {
        // ud2
        let (end, _) = run_to_end(b"\x0F\x0B");
        let End::TripleFault(crash) = end else {
            panic!("{end:?}")
        };
        let report = crash.to_string();
        assert!(report.starts_with("vCPU 0: triple fault"), "{report}");
        // An AMD host has no registers to tell from.
        let is_explained = report.contains("at rip 0x100000") && report.contains("IDTR limit 0");
        assert!(
            is_explained || report.contains("registers are lost"),
            "{report}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn vcpus_that_never_leave_by_themselves_are_stopped() {
        // cli; hlt; and jmp to itself
        for code in [&b"\xFA\xF4"[..], b"\xEB\xFE"] {
            let (board, threads) = start(code, 3);
            sleep(Duration::from_millis(20));
            assert!(board.take_end().is_none());
            drop(threads);
            assert!(board.take_end().is_none());
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_floods_the_console_waits_and_can_be_stopped() {
        // mov dx, 0x3F8; mov ecx, -1; mov esi, 0x100000; rep outsb
        let code = b"\x66\xBA\xF8\x03\x83\xC9\xFF\xBE\x00\x00\x10\x00\xF3\x6E\xEB\xF2";
        let (board, threads) = start(code, 1);
        sleep(Duration::from_millis(300));
        drop(threads);
        let queued = board.output().take(usize::MAX).len();
        assert!((1..=128 * 1024).contains(&queued), "{queued}");
    }
}
