//! The threads of a machine: one for each vCPU but the first, one that keeps a platform's time, one that has pages copied
//! ahead of its guest; and what stops them all.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
};

use pvh_kvm::{CopyAhead, Kicker, Vcpu};
use pvh_xen::{XenPlatform, XenVcpu};

use super::{Board, End, vcpu};

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
            // A signal that the host refuses leaves the request to stop at the next exit.
            let _ = kicker.kick();
        }
    }
}

/// The first vCPU of a machine, which lives on the thread that has it.
#[derive(Debug)]
pub(crate) struct BootVcpu {
    vcpu: Vcpu,
    board: Arc<Board>,
    xen: Option<XenVcpu>,
    ahead: Option<Arc<CopyAhead>>,
}

impl BootVcpu {
    /// Makes it ready to live.
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

    /// Has it copy pages ahead of the guest when it is called out.
    pub(crate) fn copying(mut self, ahead: Option<&Arc<CopyAhead>>) -> Self {
        self.ahead = ahead.cloned();
        self
    }

    /// Runs it until the machine stops.
    pub(crate) fn live(self) {
        let Self {
            vcpu,
            board,
            xen,
            ahead,
        } = self;
        // A panic has been printed and has ended the machine; nothing of the vCPU is left then.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            live(vcpu, &board, xen, ahead.as_deref());
        }));
    }
}

/// The threads of the other vCPUs and those beside them; dropping it stops the machine and joins them.
#[derive(Debug)]
pub(crate) struct Threads {
    stopper: Stopper,
    /// Dropped, it ends the one that has pages copied.
    ahead: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts a thread for each of these vCPUs, and one that keeps the time of a platform.
    ///
    /// # Errors
    ///
    /// When the host gives no more threads; the machine is stopped then, as by dropping it.
    pub(crate) fn start(
        stopper: Stopper,
        vcpus: impl IntoIterator<Item = Vcpu>,
    ) -> io::Result<Self> {
        let mut threads = Self {
            stopper,
            ahead: None,
            threads: Vec::new(),
        };
        if let Some(platform) = threads.stopper.platform.clone() {
            let board = Arc::clone(&threads.stopper.board);
            threads.spawn("time".to_owned(), move || {
                let mut guard = EndOnPanic::new(&board);
                platform.keep_time();
                guard.armed = false;
            })?;
        }
        for vcpu in vcpus {
            let board = Arc::clone(&threads.stopper.board);
            let platform = threads.stopper.platform.clone();
            let xen = platform.map(|platform| XenVcpu::new(platform, vcpu.index()));
            let name = format!("vcpu{}", vcpu.index());
            threads.spawn(name, move || live(vcpu, &board, xen, None))?;
        }
        Ok(threads)
    }

    /// Starts a thread that has the first vCPU copy pages ahead of the guest.
    ///
    /// # Errors
    ///
    /// When the host gives no more threads; the guest's own writes copy then.
    pub(crate) fn copy_ahead(&mut self, ahead: Arc<CopyAhead>) -> io::Result<()> {
        let Some(vcpu) = self.stopper.kickers.first().cloned() else {
            return Ok(());
        };
        let (sender, ended) = mpsc::channel();
        self.spawn("ahead".to_owned(), move || {
            ahead.request_until(&vcpu, &ended)
        })?;
        self.ahead = Some(sender);
        Ok(())
    }

    fn spawn(&mut self, name: String, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name).spawn(life)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stopper.stop();
        self.ahead = None;
        for thread in self.threads.drain(..) {
            // A panic has been printed and has ended the machine.
            let _ = thread.join();
        }
    }
}

/// The life of a vCPU.
fn live(mut vcpu: Vcpu, board: &Board, xen: Option<XenVcpu>, ahead: Option<&CopyAhead>) {
    let mut guard = EndOnPanic::new(board);
    if let Some(end) = vcpu::run(&mut vcpu, board, xen, ahead) {
        board.end(end);
    }
    guard.armed = false;
}

/// Sees to it that a thread that panics ends the machine.
struct EndOnPanic<'a> {
    board: &'a Board,
    armed: bool,
}

impl<'a> EndOnPanic<'a> {
    const fn new(board: &'a Board) -> Self {
        Self { board, armed: true }
    }
}

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.board.end(End::Panic);
        }
    }
}
