//! The segment descriptors of a `vcpu_hvm_context`.

use pvh_abi::vcpu::VcpuHvmX86_32;
use pvh_entry::{EntryState, Segment, SegmentAttributes};

use crate::{ContextError, Register};

/// The segments of a 32-bit context, accessed and busy bits forced, rules 4 to 11 passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    pub(crate) cs: Segment,
    pub(crate) ds: Segment,
    pub(crate) ss: Segment,
    pub(crate) es: Segment,
    pub(crate) tr: Segment,
}

impl Segments {
    /// Rules 4 to 11, in the structure's order: the first refusal is returned.
    pub(crate) fn read(regs: &VcpuHvmX86_32) -> Result<Self, ContextError> {
        Ok(Self {
            cs: Given::new(Register::Cs, regs.cs_ar, regs.cs_base, regs.cs_limit).check()?,
            ds: Given::new(Register::Ds, regs.ds_ar, regs.ds_base, regs.ds_limit).check()?,
            ss: Given::new(Register::Ss, regs.ss_ar, regs.ss_base, regs.ss_limit).check()?,
            es: Given::new(Register::Es, regs.es_ar, regs.es_base, regs.es_limit).check()?,
            tr: Given::new(Register::Tr, regs.tr_ar, regs.tr_base, regs.tr_limit).check()?,
        })
    }

    /// Those of a state.
    pub(crate) const fn of(state: &EntryState) -> Self {
        Self {
            cs: state.cs,
            ds: state.ds,
            ss: state.ss,
            es: state.es,
            tr: state.tr,
        }
    }

    /// Rules 12 to 14.
    pub(crate) fn check_eip_and_privileges(&self, eip: u32) -> Result<(), ContextError> {
        let limit = effective_limit(self.cs);
        if eip > limit {
            return Err(ContextError::EipOutsideCs { eip, limit });
        }
        let cs = self.cs.attributes.dpl();
        let ss = self.ss.attributes.dpl();
        if ss != cs {
            return Err(ContextError::StackPrivilege { ss, cs });
        }
        for (register, segment) in [(Register::Ds, self.ds), (Register::Es, self.es)] {
            let dpl = segment.attributes.dpl();
            if segment.attributes.is_present() && dpl > cs {
                return Err(ContextError::DataPrivilege { register, dpl, cs });
            }
        }
        Ok(())
    }

    /// Refuses a limit that no value of the G bit can encode: VT-x does not enter it.
    pub(crate) fn check_limits(&self) -> Result<(), ContextError> {
        for (register, segment) in [
            (Register::Cs, self.cs),
            (Register::Ds, self.ds),
            (Register::Ss, self.ss),
            (Register::Es, self.es),
            (Register::Tr, self.tr),
        ] {
            let limit = segment.limit;
            let ends_a_page = limit & PAGE_MASK == PAGE_MASK;
            if segment.attributes.is_present() && limit > MAX_BYTE_LIMIT && !ends_a_page {
                return Err(ContextError::Limit { register, limit });
            }
        }
        Ok(())
    }
}

/// The last offset of cs as rule 12 reads it: with G, the limit is taken for a count of pages, in
/// 32 bits.
fn effective_limit(cs: Segment) -> u32 {
    if cs.attributes.is_granular() {
        return (cs.limit << PAGE_SHIFT) | PAGE_MASK;
    }
    cs.limit
}

/// One segment as the guest gave it.
struct Given {
    register: Register,
    /// With the accessed or busy bit forced for a present segment.
    attributes: u16,
    as_given: u16,
    base: u32,
    limit: u32,
}

impl Given {
    fn new(
        register: Register,
        ar: impl Into<u16>,
        base: impl Into<u32>,
        limit: impl Into<u32>,
    ) -> Self {
        let as_given = ar.into();
        let forced = match register {
            Register::Tr => BUSY,
            _ => ACCESSED,
        };
        let attributes = if as_given & PRESENT != 0 {
            as_given | forced
        } else {
            as_given
        };
        Self {
            register,
            attributes,
            as_given,
            base: base.into(),
            limit: limit.into(),
        }
    }

    fn check(self) -> Result<Segment, ContextError> {
        let register = self.register;
        let attributes =
            SegmentAttributes::new(self.attributes).ok_or(ContextError::AttributeBits {
                register,
                attributes: self.as_given,
            })?;
        let null = self.attributes == 0;
        if null && !matches!(register, Register::Ds | Register::Es) {
            return Err(ContextError::NullSegment { register });
        }
        if !null {
            self.check_kind(attributes)?;
        }
        Ok(Segment {
            selector: 0,
            base: u64::from(self.base),
            limit: self.limit,
            attributes,
        })
    }

    /// Rules 6 to 11 for a segment that is not null.
    fn check_kind(&self, attributes: SegmentAttributes) -> Result<(), ContextError> {
        let register = self.register;
        let is_tss = attributes.kind() == TSS_BUSY && !attributes.is_code_or_data();
        if register == Register::Tr && !is_tss {
            return Err(ContextError::NotTss {
                attributes: self.as_given,
            });
        }
        if register != Register::Tr && !attributes.is_code_or_data() {
            return Err(ContextError::SystemSegment { register });
        }
        if !attributes.is_present() {
            return Err(ContextError::NotPresent { register });
        }
        let code = attributes.kind() & CODE != 0;
        let readable_or_writable = attributes.kind() & READ_OR_WRITE != 0;
        match register {
            Register::Cs if !code => Err(ContextError::NotCode),
            Register::Ss if code || !readable_or_writable => Err(ContextError::StackNotWritable),
            Register::Ds | Register::Es if code && !readable_or_writable => {
                Err(ContextError::NotReadable { register })
            }
            _ => Ok(()),
        }
    }
}

const ACCESSED: u16 = 1;
const BUSY: u16 = 2;
const PRESENT: u16 = 1 << 7;
const TSS_BUSY: u8 = 0xb;
const CODE: u8 = 8;
const READ_OR_WRITE: u8 = 2;
const PAGE_SHIFT: u32 = 12;
const PAGE_MASK: u32 = 0xfff;
/// The largest limit whose G bit is clear.
const MAX_BYTE_LIMIT: u32 = 0xf_ffff;
