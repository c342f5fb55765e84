//! The vCPUs of a domain.

use pvh_abi::vcpu::VcpuHvmContext;
use pvh_entry::EntryState;

use crate::{CpuPolicy, Event, State, VcpuError, decode_context, sipi_state};

/// How many vCPUs Xen gives an HVM domain at most.
#[doc(alias = "HVM_MAX_VCPUS")]
pub const MAX_VCPUS: usize = 128;

/// One vCPU of a [`VcpuSet`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Vcpu {
    state: State,
    /// Registers that its thread has not loaded yet.
    start: Option<EntryState>,
}

impl Vcpu {
    /// A vCPU that was never initialised: what the storage of a [`VcpuSet`] is filled with.
    pub const RESET: Self = Self {
        state: State::Reset,
        start: None,
    };
}

/// What the embedder has to do after a call, at once or soon; [`VcpuSet::orders`] tells the state
/// at that time.
///
/// An effect is a notice and carries no registers: two of them may reach a vCPU's thread in the
/// other order than they were made, so that a start which came with its registers could be
/// overtaken by a stop, and the registers lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// The vCPU is up with registers of its own to load first: wake its thread.
    Start(u32),
    /// The vCPU is up again with the registers it had: wake its thread.
    Resume(u32),
    /// The vCPU is down: make it leave the guest.
    Stop(u32),
    /// The last vCPU that was up went down: end the domain with the reason "power off". Given once.
    PowerOff,
}

/// What a vCPU's thread has to do now.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "nothing else can be asked of it")]
#[expect(
    clippy::large_enum_variant,
    reason = "a crate without allocation has nowhere else to put the registers"
)]
pub enum Orders {
    /// Run the guest, with these registers if there are some, else with those it has.
    Run(Option<EntryState>),
    /// Stay out of the guest.
    Park,
    /// End the thread: the domain is off.
    End,
}

/// The vCPUs of one domain: `vcpu_op`'s initialise, up, down and is_up, and INIT and SIPI beside
/// them.
///
/// `S` is the storage, one [`Vcpu`] for each: an array, a slice or a `Vec`. vCPU 0 is up from the
/// start. Every call decides for all vCPUs at once, so it needs the set exclusively: where several
/// threads call, keep it behind a lock, or use `SharedVcpuSet` (feature `std`).
#[derive(Debug)]
pub struct VcpuSet<S> {
    vcpus: S,
    is_off: bool,
}

impl<S: AsRef<[Vcpu]> + AsMut<[Vcpu]>> VcpuSet<S> {
    /// Takes the storage; whatever it holds, vCPU 0 is up with registers that its thread has
    /// already, and the others were never initialised.
    #[must_use]
    pub fn new(mut storage: S) -> Self {
        let vcpus = storage.as_mut();
        vcpus.fill(Vcpu::RESET);
        if let Some(boot) = vcpus.first_mut() {
            boot.state = State::Up;
        }
        Self {
            vcpus: storage,
            is_off: false,
        }
    }

    /// `VCPUOP_initialise`: gives a vCPU its registers; it stays down.
    ///
    /// Xen up to 4.18 answers -EINVAL for an id of 32 or more whose `vcpu_info` was never
    /// registered; the caller, who knows about that registration, has to check it first.
    ///
    /// # Errors
    ///
    /// In this order: [`VcpuError::NoSuchVcpu`], [`VcpuError::AlreadyInitialised`],
    /// [`VcpuError::Context`].
    pub fn initialise(
        &mut self,
        vcpu: u32,
        context: &VcpuHvmContext,
        policy: &CpuPolicy,
    ) -> Result<(), VcpuError> {
        let slot = self.slot(vcpu)?;
        let next = slot.state.on(Event::Initialise)?;
        let start = decode_context(context, policy).map_err(VcpuError::Context)?;
        *slot = Vcpu {
            state: next,
            start: Some(start),
        };
        Ok(())
    }

    /// `VCPUOP_up`; does nothing for a vCPU that is up.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`], [`VcpuError::NotInitialised`].
    pub fn up(&mut self, vcpu: u32) -> Result<Option<Effect>, VcpuError> {
        let slot = self.slot(vcpu)?;
        let next = slot.state.on(Event::Up)?;
        let was_up = slot.state.is_up();
        slot.state = next;
        let effect = if slot.start.is_some() {
            Effect::Start(vcpu)
        } else {
            Effect::Resume(vcpu)
        };
        Ok((!was_up).then_some(effect))
    }

    /// `VCPUOP_down`, and a HLT with interrupts off; does nothing for a vCPU that is down while
    /// another is up.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`].
    pub fn down(&mut self, vcpu: u32) -> Result<Option<Effect>, VcpuError> {
        self.leave(vcpu, Event::Down)
    }

    /// `VCPUOP_is_up`; false for a vCPU that was never initialised.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`].
    pub fn is_up(&self, vcpu: u32) -> Result<bool, VcpuError> {
        Ok(self.state(vcpu)?.is_up())
    }

    /// The lifecycle state of a vCPU.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`].
    pub fn state(&self, vcpu: u32) -> Result<State, VcpuError> {
        let slot = usize::try_from(vcpu).ok();
        let slot = slot.and_then(|index| self.vcpus.as_ref().get(index));
        Ok(slot.ok_or(VcpuError::NoSuchVcpu { vcpu })?.state)
    }

    /// INIT: the vCPU goes down and forgets its registers, so that it can be given new ones.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`].
    pub fn init(&mut self, vcpu: u32) -> Result<Option<Effect>, VcpuError> {
        let effect = self.leave(vcpu, Event::Init)?;
        self.slot(vcpu)?.start = None;
        Ok(effect)
    }

    /// The start-up interrupt: starts a vCPU that was never initialised, or was reset by INIT, in
    /// real mode; ignored otherwise.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`].
    pub fn sipi(&mut self, vcpu: u32, vector: u8) -> Result<Option<Effect>, VcpuError> {
        let slot = self.slot(vcpu)?;
        if slot.state != State::Reset {
            return Ok(None);
        }
        *slot = Vcpu {
            state: slot.state.on(Event::Sipi)?,
            start: Some(sipi_state(vector)),
        };
        Ok(Some(Effect::Start(vcpu)))
    }

    /// What the thread of a vCPU has to do now; registers are handed out once.
    ///
    /// The thread asks at its start, and whenever an effect has woken or stopped it. Orders are
    /// what holds now, so it does not matter how many effects it missed, or in which order they
    /// came.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`].
    pub fn orders(&mut self, vcpu: u32) -> Result<Orders, VcpuError> {
        let is_off = self.is_off;
        let slot = self.slot(vcpu)?;
        Ok(match slot.state {
            _ if is_off => Orders::End,
            State::Up => Orders::Run(slot.start.take()),
            State::Reset | State::Down => Orders::Park,
        })
    }

    /// Ends the domain for another reason than the last vCPU going down; the embedder has to wake
    /// the threads.
    pub fn end(&mut self) {
        self.is_off = true;
    }

    /// How many vCPUs there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.vcpus.as_ref().len()
    }

    /// Takes a vCPU out of `Up`; ends the domain if no other is up.
    fn leave(&mut self, vcpu: u32, event: Event) -> Result<Option<Effect>, VcpuError> {
        let slot = self.slot(vcpu)?;
        let was_up = slot.state.is_up();
        slot.state = slot.state.on(event)?;
        if !was_up || self.is_off {
            return Ok(None);
        }
        if self.vcpus.as_ref().iter().any(|vcpu| vcpu.state.is_up()) {
            return Ok(Some(Effect::Stop(vcpu)));
        }
        self.is_off = true;
        Ok(Some(Effect::PowerOff))
    }

    fn slot(&mut self, vcpu: u32) -> Result<&mut Vcpu, VcpuError> {
        let slot = usize::try_from(vcpu).ok();
        let slot = slot.and_then(|index| self.vcpus.as_mut().get_mut(index));
        slot.ok_or(VcpuError::NoSuchVcpu { vcpu })
    }
}

#[cfg(test)]
mod tests;
