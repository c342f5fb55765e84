//! Which calls of `vcpu_op` a hypercall is about to make, by itself or as a list.

use pvh_abi::{
    event_channel::EventChannelOp,
    hypercall::HypercallNumber,
    multicall::{MulticallEntry, MulticallEntryCompat},
    vcpu::VcpuOp,
};
use pvh_hypercall::{Call, Guest, GuestIo, Width};

/// A call of `vcpu_op`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct VcpuCall {
    pub(crate) op: VcpuOp,
    /// The vCPU that it is about.
    pub(crate) target: u32,
}

/// Lists those that the next go of `call` makes. Of a list that the guest changes meanwhile, it is what stood there now.
pub(crate) fn vcpu_calls(call: &Call, io: &dyn GuestIo) -> Vec<VcpuCall> {
    let [list, count, ..] = call.args;
    match call.number {
        HypercallNumber::VCPU_OP => vcpu_call(call.args).into_iter().collect(),
        HypercallNumber::MULTICALL => {
            let guest = Guest::new(io, call.width);
            let entries = (0..(count & 0xFFFF_FFFF).min(ENTRIES_AT_ONCE)).map_while(|index| {
                // An entry that cannot be read ends the list.
                entry(guest, list, index)
            });
            entries
                .filter_map(|args| args.and_then(vcpu_call))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a guest may make this call as a part of starting a vCPU. What guests do all the time is no such call.
pub(crate) fn may_precede_start(call: &Call) -> bool {
    let [op, ..] = call.args;
    match call.number {
        HypercallNumber::VCPU_OP => u32::try_from(op).map(VcpuOp) == Ok(VcpuOp::REGISTER_VCPU_INFO),
        HypercallNumber::EVENT_CHANNEL_OP => {
            let op = u32::try_from(op).map(EventChannelOp);
            op.is_ok_and(|op| BINDS.contains(&op))
        }
        _ => false,
    }
}

/// The arguments of an entry, if it is one of `vcpu_op`; nothing at all if it cannot be read.
fn entry(guest: Guest<'_>, list: u64, index: u64) -> Option<Option<[u64; 5]>> {
    let at = |len_bytes: u64| list.checked_add(index.checked_mul(len_bytes)?);
    let (op, [a, b, c, d, e, _]) = match guest.width() {
        Width::Native => {
            let entry: MulticallEntry = guest.read(at(64)?).ok()?;
            (entry.op.get(), entry.args.map(|arg| arg.get()))
        }
        Width::Compat => {
            let entry: MulticallEntryCompat = guest.read(at(32)?).ok()?;
            let args = entry.args.map(|arg| u64::from(arg.get()));
            (u64::from(entry.op.get()), args)
        }
    };
    let is_meant = HypercallNumber(op) == HypercallNumber::VCPU_OP;
    Some(is_meant.then_some([a, b, c, d, e]))
}

fn vcpu_call([op, target, ..]: [u64; 5]) -> Option<VcpuCall> {
    Some(VcpuCall {
        op: VcpuOp(u32::try_from(op).ok()?),
        target: u32::try_from(target).ok()?,
    })
}

/// What gives a vCPU its first events.
const BINDS: [EventChannelOp; 3] = [
    EventChannelOp::BIND_VIRQ,
    EventChannelOp::BIND_IPI,
    EventChannelOp::BIND_VCPU,
];
/// So many entries of a list are made in one go.
const ENTRIES_AT_ONCE: u64 = 32;

#[cfg(test)]
mod tests {
    use pvh_abi::Gpa;
    use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState, VecMemory};

    use super::*;

    const LIST: u64 = 0x100;

    /// What `call` is about to do, with `words` in memory at [`LIST`], unpaged.
    fn calls_of(words: &[u32], width: Width, number: u64, args: [u64; 5]) -> Vec<(u32, u32)> {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x2000)]).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.write(Gpa(LIST), &bytes).unwrap();
        let state = PagingState {
            cr0: 0x11,
            cr3: 0,
            cr4: 0,
            efer: 0,
            rflags: 2,
            pkru: 0,
        };
        let policy = PagingPolicy {
            address_bits: 36,
            is_amd: false,
            has_gib_pages: false,
            has_pse36: false,
        };
        let io = LinearMemory::new(&memory, &state, &policy);
        let calls = vcpu_calls(&Call::new(width, number, args), &io);
        calls.iter().map(|call| (call.op.0, call.target)).collect()
    }

    /// Hypercall numbers: 24 is vcpu_op, 13 multicall, 29 sched_op.
    #[test]
    fn a_call_of_vcpu_op_is_one_and_any_other_is_none() {
        let is_up = [3, 2, 0, 0, 0];
        assert_eq!(calls_of(&[], Width::Native, 24, is_up), [(3, 2)]);
        assert_eq!(calls_of(&[], Width::Native, 29, is_up), []);
        let no_vcpu = [3, 1 << 32, 0, 0, 0];
        assert_eq!(calls_of(&[], Width::Native, 24, no_vcpu), []);
    }

    #[test]
    fn of_a_list_those_are_told_that_are_vcpu_op_s() {
        let compat: &[u32] = &[
            24, 0, 0, 1, 0x500, 0, 0, 0, // initialise of 1
            29, 0, 0, 0, 0, 0, 0, 0, // yield
            24, 0, 1, 1, 0, 0, 0, 0, // up of 1
        ];
        let told = calls_of(compat, Width::Compat, 13, [LIST, 3, 0, 0, 0]);
        assert_eq!(told, [(0, 1), (1, 1)]);
        let native: &[u32] = &[24, 0, 0, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let told = calls_of(native, Width::Native, 13, [LIST, 1, 0, 0, 0]);
        assert_eq!(told, [(2, 3)]);
    }

    /// Hypercall numbers: 24 is vcpu_op, 32 event_channel_op.
    #[test]
    fn what_linux_does_for_a_processor_to_come_goes_before_its_start() {
        let goes = |number, op| {
            let call = Call::new(Width::Native, number, [op, 1, 0, 0, 0]);
            may_precede_start(&call)
        };
        assert!(goes(24, 10), "register_vcpu_info");
        for (op, name) in [(1, "bind_virq"), (7, "bind_ipi"), (8, "bind_vcpu")] {
            assert!(goes(32, op), "{name}");
        }
        assert!(!goes(32, 4), "send");
        assert!(!goes(24, 7), "set_singleshot_timer");
        assert!(!goes(29, 1), "block");
    }

    #[test]
    fn a_list_that_leads_out_of_memory_ends_there() {
        let told = calls_of(&[], Width::Compat, 13, [0x1FF0, 0xFFFF_FFFF, 0, 0, 0]);
        assert_eq!(told, []);
        let told = calls_of(&[], Width::Native, 13, [u64::MAX - 8, 4, 0, 0, 0]);
        assert_eq!(told, []);
    }
}
