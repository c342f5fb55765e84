//! A machine of a few instructions, with vCPUs on threads, behind a gate. It goes from 32-bit code
//! to 64-bit code as a kernel does: CR3, EFER, CR0, a far jump.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic and start threads"
)]

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pvh_abi::Gpa;
use pvh_entry::{EntryState, Segment};
use pvh_gdb::{Address, Commands, Cpu, Debuggee, Gate, Served, Server, Trap, TrapAccess, Traps};
use pvh_memory::{GuestMemory, LinearAddress, LinearMemory, PagingPolicy, PagingState, VecMemory};

pub(crate) const ENTRY: u64 = 0x10_0000;
pub(crate) const HIGH: u64 = 0xFFFF_FFFF_8000_0000;
/// Where the 64-bit code is, and its loop.
pub(crate) const LONG: u64 = ENTRY + 0x100;
pub(crate) const KERNEL: u64 = HIGH + ENTRY + 0x200;
/// The word that the 64-bit code counts in.
pub(crate) const COUNTER: u64 = HIGH + 0x3000;

pub(crate) struct ModelCpu {
    state: EntryState,
    memory: Arc<VecMemory>,
    traps: Traps,
    is_step: bool,
    kick: Arc<AtomicBool>,
}

pub(crate) enum Exit {
    Interrupted,
    Trap(Trap),
    Halted,
    Crash,
}

impl Cpu for ModelCpu {
    type Error = String;

    fn registers(&mut self) -> Result<EntryState, String> {
        Ok(self.state)
    }

    fn set_registers(&mut self, state: &EntryState) -> Result<(), String> {
        if state.efer & !0xD01 != 0 {
            return Err("EFER has reserved bits".to_owned());
        }
        self.state = *state;
        Ok(())
    }

    fn set_debug(&mut self, traps: &Traps, is_step: bool) -> Result<(), String> {
        self.traps = traps.clone();
        self.is_step = is_step;
        Ok(())
    }

    fn inject_breakpoint(&mut self, _: &Traps) -> Result<(), String> {
        self.state.rip += 1;
        Ok(())
    }

    fn activity(&mut self) -> &'static str {
        "running"
    }
}

impl ModelCpu {
    fn linear(&self) -> LinearMemory<'_, VecMemory> {
        let s = &self.state;
        let paging = PagingState {
            cr0: s.cr0,
            cr3: s.cr3,
            cr4: s.cr4,
            efer: s.efer,
            rflags: s.rflags,
            pkru: 0,
        };
        let policy = PagingPolicy {
            address_bits: 40,
            is_amd: false,
            has_gib_pages: true,
            has_pse36: true,
        };
        LinearMemory::new(&*self.memory, &paging, &policy)
    }

    /// Runs until something stops it.
    pub(crate) fn run(&mut self) -> Exit {
        let mut is_first = true;
        loop {
            if self.kick.swap(false, Ordering::SeqCst) {
                return Exit::Interrupted;
            }
            let hit = self.hit(self.state.rip, TrapAccess::Execute);
            if let Some(number) = hit.filter(|_| !is_first || !self.is_step) {
                return Exit::Trap(Trap::Debug(1 << number));
            }
            is_first = false;
            if let Some(exit) = self.step() {
                return exit;
            }
            if self.is_step {
                return Exit::Trap(Trap::Debug(1 << 14));
            }
            if self.state.cs == Segment::FLAT_CODE_64 {
                thread::sleep(Duration::from_micros(50));
            }
        }
    }

    fn hit(&self, at: u64, access: TrapAccess) -> Option<usize> {
        self.traps.hardware.iter().position(|trap| {
            trap.is_some_and(|trap| {
                let is_kind =
                    (trap.access == TrapAccess::Execute) == (access == TrapAccess::Execute);
                is_kind && (trap.at..trap.at + u64::from(trap.len_bytes)).contains(&at)
            })
        })
    }

    fn step(&mut self) -> Option<Exit> {
        let rip = self.state.rip;
        let mut code = [0; 10];
        let have = (1..=10).rev().find(|&len| {
            self.linear()
                .read(LinearAddress(rip), &mut code[..len])
                .is_ok()
        });
        if have.is_none() {
            return Some(Exit::Crash);
        }
        let word = |at: usize| u32::from_le_bytes(code[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(code[at..at + 8].try_into().unwrap());
        let is_64 = self.state.cs == Segment::FLAT_CODE_64;
        let len = match code {
            [0x90, ..] => 1,
            [0xCC, ..] => return Some(Exit::Trap(Trap::Breakpoint(rip))),
            [0xF4, ..] => return Some(Exit::Halted),
            [0xEB, by, ..] => {
                self.state.rip = rip.wrapping_add_signed(2 + i64::from(by.cast_signed()));
                return None;
            }
            [0xB8, ..] => {
                self.state.rax = word(1).into();
                5
            }
            [0xB9, ..] => {
                self.state.rcx = word(1).into();
                5
            }
            [0xFF, 0xC0, ..] => {
                self.state.rax = u64::from((self.state.rax as u32).wrapping_add(1));
                2
            }
            [0x0F, 0x30, ..] => {
                self.state.efer = self.state.rax;
                2
            }
            [0x0F, 0x22, 0xD8, ..] => {
                self.state.cr3 = self.state.rax;
                3
            }
            [0x0F, 0x22, 0xE0, ..] => {
                self.state.cr4 = self.state.rax;
                3
            }
            [0x0F, 0x22, 0xC0, ..] => {
                self.state.cr0 = self.state.rax;
                if self.state.cr0 >> 31 & 1 != 0 && self.state.efer & 0x100 != 0 {
                    self.state.efer |= 0x400;
                }
                3
            }
            [0xEA, ..] if !is_64 => {
                self.state.cs = Segment::FLAT_CODE_64;
                self.state.rip = word(1).into();
                return None;
            }
            [0x48, 0xB8, ..] if is_64 => {
                self.state.rax = long(2);
                10
            }
            [0xFF, 0xE0, ..] if is_64 => {
                self.state.rip = self.state.rax;
                return None;
            }
            [0x48, 0xA3, ..] if is_64 => {
                let value = self.state.rax.to_le_bytes();
                let at = long(2);
                if self.linear().write(LinearAddress(at), &value).is_err() {
                    return Some(Exit::Crash);
                }
                self.state.rip = rip + 10;
                let hit = self.hit(at, TrapAccess::Write);
                return hit.map(|number| Exit::Trap(Trap::Debug(1 << number)));
            }
            _ => return Some(Exit::Crash),
        };
        self.state.rip = rip + len;
        None
    }
}

/// Memory with the program, its page tables and a start-of-day structure.
pub(crate) fn memory() -> VecMemory {
    let memory = VecMemory::zeroed(&[(Gpa(0), 0x20_0000)]).unwrap();
    let word = |at: u64, value: u64| memory.write(Gpa(at), &value.to_le_bytes()).unwrap();
    // Level 4 at 0x10000: the first 512 GiB, and the last; level 3; level 2 maps 2 MiB.
    word(0x10000, 0x11003);
    word(0x10FF8, 0x12003);
    word(0x11000, 0x13003);
    word(0x12000 + 510 * 8, 0x13003);
    word(0x13000, 0x83);
    let mut code = Vec::new();
    code.extend([0x90, 0x90]);
    code.extend([0xB8, 0, 0, 1, 0, 0x0F, 0x22, 0xD8]); // mov eax, 0x10000; mov cr3, eax
    code.extend([0xB8, 0x20, 0, 0, 0, 0x0F, 0x22, 0xE0]); // PAE
    code.extend([0xB8, 0, 1, 0, 0, 0x0F, 0x30]); // EFER.LME
    code.extend([0xB8, 0x11, 0, 0, 0x80, 0x0F, 0x22, 0xC0]); // PG
    code.extend([0xEA, 0, 1, 0x10, 0, 0x18, 0]); // jmp 0x18:LONG
    memory.write(Gpa(ENTRY), &code).unwrap();
    let mut code = vec![0x48, 0xB8];
    code.extend(KERNEL.to_le_bytes());
    code.extend([0xFF, 0xE0]);
    memory.write(Gpa(LONG), &code).unwrap();
    // inc eax; mov [COUNTER], rax; jmp back
    let mut code = vec![0xFF, 0xC0, 0x48, 0xA3];
    code.extend(COUNTER.to_le_bytes());
    code.extend([0xEB, 0xF2]);
    memory.write(Gpa(KERNEL - HIGH), &code).unwrap();
    let ram = pvh_start_info::MemmapRange {
        start: Gpa(0),
        len_bytes: 0x20_0000,
        kind: pvh_abi::start_info::MemmapKind::RAM,
    };
    let builder = pvh_start_info::Builder::new(pvh_start_info::Generation::V1)
        .cmdline(b"console=hvc0")
        .memmap(core::slice::from_ref(&ram));
    let mut block = [0; 256];
    let len = builder.write(Gpa(0x9000), &mut block).unwrap();
    memory.write(Gpa(0x9000), &block[..len]).unwrap();
    memory
}

pub(crate) struct Extra(mpsc::Sender<()>);

impl Commands for Extra {
    fn command(&mut self, words: &[&str], out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        match words {
            ["domain"] => writeln!(out, "a model has no domain").map(|()| true),
            _ => Ok(false),
        }
    }

    fn help(&self) -> &'static str {
        "domain        the state of the domain\n"
    }

    fn kill(&mut self) {
        self.0.send(()).unwrap();
    }
}

/// A model machine under a server.
pub(crate) struct Model {
    pub(crate) address: Address,
    pub(crate) memory: Arc<VecMemory>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) killed: mpsc::Receiver<()>,
    pub(crate) told: mpsc::Receiver<Served>,
    kicks: Vec<Arc<AtomicBool>>,
    threads: Vec<JoinHandle<()>>,
}

impl Model {
    /// Starts it at a port that is free.
    pub(crate) fn start(vcpus: u32) -> Self {
        Self::start_at(vcpus, &Address::Loopback(0))
    }

    pub(crate) fn start_at(vcpus: u32, address: &Address) -> Self {
        let memory = Arc::new(memory());
        let kicks: Vec<_> = (0..vcpus)
            .map(|_| Arc::new(AtomicBool::new(false)))
            .collect();
        let flags = kicks.clone();
        let gate = Gate::new(vcpus, move |vcpu| {
            flags[vcpu as usize].store(true, Ordering::SeqCst)
        });
        let gate = gate.unwrap();
        let mut threads = Vec::new();
        for (index, kick) in (0..).zip(&kicks) {
            let cpu = ModelCpu {
                state: EntryState::pvh(ENTRY as u32, Gpa(0x9000)).unwrap(),
                memory: Arc::clone(&memory),
                traps: Traps::default(),
                is_step: false,
                kick: Arc::clone(kick),
            };
            let gate = Arc::clone(&gate);
            threads.push(thread::spawn(move || run(index, cpu, &gate)));
        }
        let server = Server::bind(address).unwrap();
        let address = server.address();
        let (sender, killed) = mpsc::channel();
        let (teller, told) = mpsc::channel();
        let mut machine = Debuggee {
            gate: Arc::clone(&gate),
            memory: Arc::clone(&memory),
            address_bits: 40,
            start_info: Some(Gpa(0x9000)),
            commands: Extra(sender),
        };
        let stop = Arc::clone(&gate);
        threads.push(thread::spawn(move || {
            let mut tell = |line| drop(teller.send(line));
            server
                .serve(&mut machine, stop.ended_fd(), &mut tell)
                .unwrap();
        }));
        Self {
            address,
            memory,
            gate,
            killed,
            told,
            kicks,
            threads,
        }
    }

    /// Ends it; every thread must return.
    pub(crate) fn end(mut self) {
        self.gate.end(0);
        self.kicks
            .iter()
            .for_each(|kick| kick.store(true, Ordering::SeqCst));
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    pub(crate) fn counter(&self) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read(Gpa(COUNTER - HIGH), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// The thread of a vCPU, as a VMM has it.
fn run(index: u32, mut cpu: ModelCpu, gate: &Gate) {
    gate.pass(index, &mut cpu).unwrap();
    while !is_over(gate) {
        match cpu.run() {
            Exit::Interrupted => gate.pass(index, &mut cpu).unwrap(),
            Exit::Trap(trap) => gate.trapped(index, &mut cpu, trap).unwrap(),
            Exit::Halted => return gate.end(0),
            Exit::Crash => {
                gate.crashed(index, &mut cpu);
                return gate.end(5);
            }
        }
    }
}

fn is_over(gate: &Gate) -> bool {
    let mut fds = [nix::poll::PollFd::new(
        gate.ended_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap() > 0
}
