//! The threads of a machine: one per vCPU except the first, one for the platform's timers, one that
//! requests copying ahead; and what stops them.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
};

use pvh_gdb::Server;
use pvh_kvm::{Activity, CopyAhead, Kicker, Vcpu};
use pvh_terminal::GuestLog;
use pvh_xen::{XenPlatform, XenVcpu};

use super::{Board, End, GuestUnderGdb, gdb, vcpu};
use crate::{
    sandbox,
    threads::{self, OnPanic, Role},
};

/// Stops all vCPUs of a machine and its platform, from any thread.
#[derive(Debug)]
pub(crate) struct Stopper {
    board: Arc<Board>,
    platform: Option<Arc<XenPlatform>>,
    kickers: Vec<Kicker>,
}

impl Stopper {
    /// Stops these vCPUs.
    pub(crate) fn new(
        board: &Arc<Board>,
        vcpus: &[Vcpu],
        platform: Option<&Arc<XenPlatform>>,
    ) -> Self {
        let kickers = vcpus.iter().map(Vcpu::kicker);
        Self {
            board: Arc::clone(board),
            platform: platform.cloned(),
            kickers: kickers.collect(),
        }
    }

    fn stop(&self) {
        self.board.stop();
        if let Some(platform) = &self.platform {
            return platform.stop();
        }
        for kicker in &self.kickers {
            // If the host refuses the signal, the vCPU stops at its next exit.
            let _ = kicker.kick();
        }
    }
}

/// The first vCPU of a machine, which runs on the calling thread.
#[derive(Debug)]
pub(crate) struct BootVcpu {
    vcpu: Vcpu,
    board: Arc<Board>,
    xen: Option<XenVcpu>,
    ahead: Option<Arc<CopyAhead>>,
}

impl BootVcpu {
    /// Prepares it to run.
    pub(crate) fn new(vcpu: Vcpu, board: &Arc<Board>, platform: Option<&Arc<XenPlatform>>) -> Self {
        let xen = platform.map(|platform| XenVcpu::new(Arc::clone(platform), vcpu.index()));
        let board = Arc::clone(board);
        Self {
            vcpu,
            board,
            xen,
            ahead: None,
        }
    }

    /// Makes it copy pages ahead of the guest when it is kicked.
    pub(crate) fn copying(mut self, ahead: Option<&Arc<CopyAhead>>) -> Self {
        self.ahead = ahead.cloned();
        self
    }

    /// Runs it until the machine stops, once every thread is in the sandbox.
    pub(crate) fn run(self) {
        if !sandbox::wait_for_entries() {
            return self.board.end(End::Sandbox);
        }
        let Self {
            vcpu,
            board,
            xen,
            ahead,
        } = self;
        let on_panic = OnPanic::End(Arc::clone(&board));
        // The panic's message was printed and the panic has ended the machine.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            threads::guarded(&on_panic, || run_vcpu(vcpu, &board, xen, ahead.as_deref()));
        }));
    }
}

/// The other threads of a machine; dropping this stops the machine and joins them.
#[derive(Debug)]
pub(crate) struct Threads {
    stopper: Stopper,
    /// Dropping it ends the thread that requests copying.
    ahead: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts a thread for each of these vCPUs, and one for the platform's timers. The vCPUs do not
    /// run before `ahead` has copied the files. Each drops its `running` when it has stopped.
    ///
    /// # Errors
    ///
    /// The host refuses a thread; the machine is stopped then.
    pub(crate) fn start(
        stopper: Stopper,
        vcpus: impl IntoIterator<Item = Vcpu>,
        ahead: Option<&Arc<CopyAhead>>,
        running: &Sender<()>,
    ) -> io::Result<Self> {
        let mut threads = Self {
            stopper,
            ahead: None,
            threads: Vec::new(),
        };
        if let Some(platform) = threads.stopper.platform.clone() {
            threads.spawn(Role::Time, move || platform.keep_time())?;
        }
        for vcpu in vcpus {
            let board = Arc::clone(&threads.stopper.board);
            let platform = threads.stopper.platform.clone();
            let xen = platform.map(|platform| XenVcpu::new(platform, vcpu.index()));
            let role = Role::Vcpu(vcpu.index());
            let (ahead, running) = (ahead.cloned(), running.clone());
            threads.spawn(role, move || {
                let _running = running;
                if let Some(ahead) = ahead {
                    ahead.wait_for_files(|| has_started(&vcpu));
                }
                run_vcpu(vcpu, &board, xen, None);
            })?;
        }
        Ok(threads)
    }

    /// Stops the machine. Its threads end soon after, unless the host's kernel holds one up.
    pub(crate) fn stop(&self) {
        self.stopper.stop();
    }

    /// Starts a thread that requests the first vCPU to copy pages ahead of the guest.
    ///
    /// # Errors
    ///
    /// The host refuses a thread; the guest's own page faults copy then.
    pub(crate) fn copy_ahead(&mut self, ahead: Arc<CopyAhead>) -> io::Result<()> {
        let Some(vcpu) = self.stopper.kickers.first().cloned() else {
            return Ok(());
        };
        let (sender, ended) = mpsc::channel();
        self.spawn(Role::Ahead, move || ahead.request_until(&vcpu, &ended))?;
        self.ahead = Some(sender);
        Ok(())
    }

    /// Starts the thread that serves gdb.
    ///
    /// # Errors
    ///
    /// The host refuses a thread.
    pub(crate) fn serve_gdb(
        &mut self,
        server: Arc<Server>,
        mut guest: GuestUnderGdb,
        log: GuestLog,
    ) -> io::Result<()> {
        self.spawn(Role::Gdb, move || gdb::serve(&server, &mut guest, &log))
    }

    /// Starts a thread whose panic ends the machine.
    fn spawn(&mut self, role: Role, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let on_panic = OnPanic::End(Arc::clone(&self.stopper.board));
        self.threads.push(threads::start(role, on_panic, life)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stopper.stop();
        self.ahead = None;
        for thread in self.threads.drain(..) {
            // A panic's message was printed, and the panic has ended the machine.
            let _ = thread.join();
        }
    }
}

/// Tells whether the guest has started a vCPU that has not run yet.
fn has_started(vcpu: &Vcpu) -> bool {
    // A vCPU of which KVM cannot say it counts as started.
    !matches!(vcpu.activity(), Ok(Activity::WaitingForSipi))
}

/// The thread of a vCPU.
fn run_vcpu(mut vcpu: Vcpu, board: &Board, xen: Option<XenVcpu>, ahead: Option<&CopyAhead>) {
    if let Some(end) = vcpu::run(&mut vcpu, board, xen, ahead) {
        board.end(end);
    }
    if board.keeps_registers()
        && let Ok(registers) = vcpu.registers()
    {
        board.keep_registers(vcpu.index(), registers.state);
    }
}
