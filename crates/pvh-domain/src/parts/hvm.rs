//! `hvm_op` (xen/include/public/hvm/hvm_op.h): the HVM parameters, the upcall vectors, and the
//! small sub-operations.

mod callback;
mod rules;

use pvh_abi::{DomId, Errno, Gpa, address::PAGE_SIZE, hvm::HvmParam};
use pvh_hypercall::XenVersion;
use pvh_memory::GuestMemory;

use crate::parts::target::Target;
pub use callback::Callback;
use rules::Access;

/// What the domain has to do after a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Every vCPU has this vector for its upcall from now on, unless it has one of its own as well:
    /// then it gets both. Each vCPU that is up and whose upcall flag is set is told again.
    GlobalVector(u8),
    /// A vCPU has this vector for its upcall, through its local APIC. It gets it once now, events
    /// or not, as in Xen 4.17.
    VcpuVector {
        /// Which vCPU.
        vcpu: u32,
        /// Its vector, 0x10 or above.
        vector: u8,
    },
    /// Latch the width of shared info by the mode that the calling vCPU is in; the wallclock is
    /// written again.
    LatchWidth,
    /// Flush the TLBs of all vCPUs.
    FlushTlbs,
    /// End the domain: it has crashed.
    Crash,
}

/// What a domain keeps for `hvm_op`: the parameters, and the upcall vectors.
///
/// Domain 0 exists and is not an HVM domain. A PVH domain has a local APIC for each vCPU and no
/// other device of Xen's: no PIC, no I/O APIC, no ACPI timer.
#[derive(Clone, Debug)]
pub struct HvmState {
    domain: DomId,
    params: [u64; HvmParam::COUNT as usize],
    global_vector: Option<u8>,
    vcpu_vectors: Vec<Option<u8>>,
    xen: XenVersion,
}

/// The guest's own calls.
impl HvmState {
    /// Makes the state of a new domain: every parameter is 0 but `TRIPLE_FAULT_REASON`, which is 1,
    /// reboot; no vector is chosen.
    #[must_use]
    pub fn new(domain: DomId, vcpus: u32) -> Self {
        let mut state = Self {
            domain,
            params: [0; HvmParam::COUNT as usize],
            global_vector: None,
            vcpu_vectors: vec![None; vcpus as usize],
            xen: XenVersion::V4_17,
        };
        state.put(HvmParam::TRIPLE_FAULT_REASON, SHUTDOWN_REBOOT);
        state
    }

    /// Chooses the Xen whose answers the guest gets; 4.17 if not called.
    #[must_use]
    pub fn of_version(self, xen: XenVersion) -> Self {
        Self { xen, ..self }
    }

    /// `set_param`. `CALLBACK_IRQ` latches the width of shared info whatever the value.
    ///
    /// # Errors
    ///
    /// In this order: `EINVAL` for an index of 39 or more; `ESRCH` for a domain that does not
    /// exist; `EINVAL` for domain 0 and for a deprecated parameter; `EPERM` for one that the guest
    /// must not set, from Xen 4.20 `EEXIST` for `ALTP2M`; `EINVAL` for a wrong value; `ENODEV` for `ACPI_IOPORTS_LOCATION`. A wrong task
    /// state segment crashes the domain too.
    pub fn set_param(
        &mut self,
        domain: DomId,
        param: HvmParam,
        value: u64,
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        self.check_target(domain, param)?;
        match rules::access(param) {
            Access::GuestSets => {}
            Access::Deprecated => return Err(Errno::EINVAL),
            Access::GuestReads if param == HvmParam::ALTP2M => {
                return Err(self.xen.answers().set_altp2m);
            }
            Access::GuestReads | Access::Toolstack => return Err(Errno::EPERM),
        }
        let stored = self.store(param, value, changes);
        if stored.is_err() && rules::crashes(param) {
            changes.push(Change::Crash);
        }
        if param == HvmParam::CALLBACK_IRQ {
            changes.push(Change::LatchWidth);
        }
        stored
    }

    /// `get_param`: 0 for what was never set.
    ///
    /// # Errors
    ///
    /// In this order: `EINVAL` for an index of 39 or more; `ESRCH` for a domain that does not
    /// exist; `EINVAL` for domain 0 and for a deprecated parameter; `EPERM` for one that the guest
    /// must not read.
    pub fn param(&self, domain: DomId, param: HvmParam) -> Result<u64, Errno> {
        self.check_target(domain, param)?;
        match rules::access(param) {
            Access::GuestSets | Access::GuestReads => Ok(self.value(param)),
            Access::Deprecated => Err(Errno::EINVAL),
            Access::Toolstack => Err(Errno::EPERM),
        }
    }

    /// `set_evtchn_upcall_vector`: chooses a vCPU's own vector. It cannot be taken back.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a vector below 0x10, then `ENOENT` for the vCPU.
    pub fn set_upcall_vector(
        &mut self,
        vcpu: u32,
        vector: u8,
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        if vector < LOWEST_VECTOR {
            return Err(Errno::EINVAL);
        }
        let slot = self.vcpu_vectors.get_mut(vcpu as usize);
        *slot.ok_or(Errno::ENOENT)? = Some(vector);
        changes.push(Change::VcpuVector { vcpu, vector });
        Ok(())
    }

    /// `flush_tlbs`, whose pointer was null.
    pub fn flush_tlbs(&self, changes: &mut Vec<Change>) {
        changes.push(Change::FlushTlbs);
    }

    /// `pagetable_dying`: page tables are not shadowed, so it always fails.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist, `EOPNOTSUPP` for domain 0, else `EINVAL`.
    pub fn pagetable_dying(&self, domain: DomId) -> Result<(), Errno> {
        match self.target(domain)? {
            Target::Own => Err(Errno::EINVAL),
            Target::Host => Err(Errno::EOPNOTSUPP),
        }
    }

    /// `get_mem_type`: 0 for RAM, 2 for everything else.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist, `EPERM` for domain 0.
    pub fn mem_type(
        &self,
        memory: &dyn GuestMemory,
        domain: DomId,
        gfn: u64,
    ) -> Result<u16, Errno> {
        if self.target(domain)? == Target::Host {
            return Err(Errno::EPERM);
        }
        let at = gfn.checked_mul(PAGE_SIZE).map(Gpa);
        let is_ram = at.is_some_and(|at| memory.is_ram(at, PAGE_SIZE));
        Ok(if is_ram { RAM } else { MMIO })
    }
}

/// The embedder's side.
impl HvmState {
    /// Sets a parameter as the toolstack does: for all but the deprecated ones.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an index of 39 or more and for a deprecated parameter; `EEXIST` for another
    /// value of one that is set once; `EINVAL` for a wrong value; `ENODEV` for
    /// `ACPI_IOPORTS_LOCATION`.
    pub fn preset(
        &mut self,
        param: HvmParam,
        value: u64,
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        if param.0 >= HvmParam::COUNT || rules::access(param) == Access::Deprecated {
            return Err(Errno::EINVAL);
        }
        let old = self.value(param);
        if rules::is_set_once(param) && old != 0 && old != value {
            return Err(Errno::EEXIST);
        }
        self.store(param, value, changes)
    }

    /// Returns a parameter, whoever may read it; 0 for what was never set or does not exist.
    #[must_use]
    pub fn value(&self, param: HvmParam) -> u64 {
        match param {
            HvmParam::VM86_TSS => self.stored(HvmParam::VM86_TSS_SIZED) & u64::from(u32::MAX),
            _ => self.stored(param),
        }
    }

    /// Returns the vector that every vCPU has.
    #[must_use]
    pub const fn global_vector(&self) -> Option<u8> {
        self.global_vector
    }

    /// Returns the vector that a vCPU has for itself.
    #[must_use]
    pub fn vcpu_vector(&self, vcpu: u32) -> Option<u8> {
        *self.vcpu_vectors.get(vcpu as usize)?
    }

    fn store(
        &mut self,
        param: HvmParam,
        value: u64,
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        rules::check(param, value)?;
        let (place, kept) = rules::kept(param, value);
        self.put(place, kept);
        if param == HvmParam::CALLBACK_IRQ
            && let Callback::Vector(vector) = Callback::decode(value)
        {
            self.global_vector = Some(vector);
            changes.push(Change::GlobalVector(vector));
        }
        Ok(())
    }

    fn stored(&self, param: HvmParam) -> u64 {
        self.params.get(param.0 as usize).copied().unwrap_or(0)
    }

    fn put(&mut self, param: HvmParam, value: u64) {
        if let Some(slot) = self.params.get_mut(param.0 as usize) {
            *slot = value;
        }
    }

    fn check_target(&self, domain: DomId, param: HvmParam) -> Result<(), Errno> {
        if param.0 >= HvmParam::COUNT {
            return Err(Errno::EINVAL);
        }
        match self.target(domain)? {
            Target::Own => Ok(()),
            Target::Host => Err(Errno::EINVAL),
        }
    }

    fn target(&self, domain: DomId) -> Result<Target, Errno> {
        Target::of(self.domain, domain).ok_or(Errno::ESRCH)
    }
}

const SHUTDOWN_REBOOT: u64 = 1;
const LOWEST_VECTOR: u8 = 0x10;
const RAM: u16 = 0;
const MMIO: u16 = 2;
