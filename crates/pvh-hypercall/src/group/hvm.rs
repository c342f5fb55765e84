//! `hvm_op` (xen/include/public/hvm/hvm_op.h).

use pvh_abi::{
    DomId, Errno,
    hvm::{GetMemType, GetTime, HvmOp, HvmParam, HvmParamArg, PagetableDying, UpcallVector},
};
use zerocopy::little_endian::{U16, U64};

use crate::{Budget, Guest};

/// `hvm_op`. The errors each method may answer are the ABI's.
#[expect(
    clippy::missing_errors_doc,
    reason = "the tables of hvm_op.h and params.h say them"
)]
pub trait Hvm {
    /// Sets a parameter; the index is below 39.
    fn set_param(&mut self, domain: DomId, param: HvmParam, value: u64) -> Result<(), Errno>;

    /// Reads a parameter; the index is below 39.
    fn param(&mut self, domain: DomId, param: HvmParam) -> Result<u64, Errno>;

    /// Flushes the TLBs of all vCPUs.
    fn flush_tlbs(&mut self) {}

    /// Announces that a page table is about to be freed; EINVAL unless page tables are shadowed.
    fn pagetable_dying(&mut self, domain: DomId, gpa: u64) -> Result<(), Errno> {
        let _ = (domain, gpa);
        Err(Errno::EINVAL)
    }

    /// The system time in ns.
    fn time_ns(&self) -> u64;

    /// Returns the type of a frame: 0 RAM, 1 read-only RAM, 2 MMIO.
    fn mem_type(&mut self, domain: DomId, gfn: u64) -> Result<u16, Errno>;

    /// Chooses a vCPU's upcall vector, 0x10 or above.
    fn set_upcall_vector(&mut self, vcpu: u32, vector: u8) -> Result<(), Errno>;
}

pub(crate) fn hvm_op(
    hvm: &mut dyn Hvm,
    guest: Guest<'_>,
    [op, arg, ..]: [u64; 5],
) -> Result<i64, Errno> {
    match HvmOp(op) {
        HvmOp::SET_PARAM => {
            let (set, param) = param(guest, arg)?;
            hvm.set_param(DomId(set.domid.get()), param, set.value.get())?;
        }
        HvmOp::GET_PARAM => {
            let (mut get, param) = param(guest, arg)?;
            get.value = U64::new(hvm.param(DomId(get.domid.get()), param)?);
            guest.write(arg, &get)?;
        }
        HvmOp::FLUSH_TLBS if arg == 0 => {
            // Every vCPU has to leave the guest for it.
            guest.budget().charge(Budget::GO);
            hvm.flush_tlbs();
        }
        // There is no monitor, so the request to notify one is done at once.
        HvmOp::GUEST_REQUEST_VM_EVENT if arg == 0 => {}
        HvmOp::FLUSH_TLBS | HvmOp::GUEST_REQUEST_VM_EVENT => return Err(Errno::EINVAL),
        HvmOp::PAGETABLE_DYING => {
            let dying: PagetableDying = guest.read(arg)?;
            hvm.pagetable_dying(DomId(dying.domid.get()), dying.gpa.get())?;
        }
        HvmOp::GET_TIME => {
            let now = U64::new(hvm.time_ns());
            guest.write(arg, &GetTime { now })?;
        }
        HvmOp::XENTRACE => check_trace(guest, arg)?,
        HvmOp::GET_MEM_TYPE => {
            let mut get: GetMemType = guest.read(arg)?;
            let mem_type = hvm.mem_type(DomId(get.domid.get()), get.pfn.get())?;
            get.mem_type = U16::new(mem_type);
            guest.write(arg, &get)?;
        }
        HvmOp::SET_EVTCHN_UPCALL_VECTOR => {
            let set: UpcallVector = guest.read(arg)?;
            if set.vector < 0x10 {
                return Err(Errno::EINVAL);
            }
            hvm.set_upcall_vector(set.vcpu.get(), set.vector)?;
        }
        HvmOp::ALTP2M => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

fn param(guest: Guest<'_>, arg: u64) -> Result<(HvmParamArg, HvmParam), Errno> {
    let argument: HvmParamArg = guest.read(arg)?;
    let index = argument.index.get();
    if index >= HvmParam::COUNT {
        return Err(Errno::EINVAL);
    }
    Ok((argument, HvmParam(index)))
}

/// A trace record is checked and dropped: there is no trace buffer.
fn check_trace(guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    let record: [u8; 32] = guest.read(arg)?;
    let [event_low, event_high, extra_low, extra_high, ..] = record;
    let event = u16::from_le_bytes([event_low, event_high]);
    let extra_bytes = u16::from_le_bytes([extra_low, extra_high]);
    let is_whole = extra_bytes.is_multiple_of(guest.answers().trace_unit_bytes);
    if !is_whole || extra_bytes > 28 || event & 0xf000 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
