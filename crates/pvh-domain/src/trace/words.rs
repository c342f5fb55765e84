//! The names of hypercalls and of their sub-operations, and the words that select lines.

use pvh_abi::{
    event_channel::EventChannelOp, grant::GrantOp, hvm::HvmOp, hypercall::HypercallNumber,
    memory::MemoryOp, sched::SchedOp, vcpu::VcpuOp, version::VersionOp,
};

/// The sub-operation of a call.
pub(super) struct SubOperation {
    /// Its name, if the ABI has one.
    pub(super) name: Option<&'static str>,
    /// Its number.
    pub(super) operation: u32,
}

/// The sub-operation that `operation`, the first argument, means; `None` if the call has none.
pub(super) fn sub_operation(number: HypercallNumber, operation: u32) -> Option<SubOperation> {
    // In a memory_op, the bits above hold how much of a list is done.
    let operation = match number {
        HypercallNumber::MEMORY_OP => operation & MEMORY_OP_MASK,
        _ => operation,
    };
    let name = match number {
        HypercallNumber::SCHED_OP => SchedOp(operation).name(),
        HypercallNumber::EVENT_CHANNEL_OP => EventChannelOp(operation).name(),
        HypercallNumber::VCPU_OP => VcpuOp(operation).name(),
        HypercallNumber::HVM_OP => HvmOp(operation.into()).name(),
        HypercallNumber::GRANT_TABLE_OP => GrantOp(operation).name(),
        HypercallNumber::XEN_VERSION => VersionOp(operation).name(),
        HypercallNumber::MEMORY_OP => MemoryOp(operation).name(),
        _ => return None,
    };
    Some(SubOperation { name, operation })
}

/// Tells whether a word is a kind of lines.
pub(super) fn is_kind(word: &str) -> bool {
    KINDS.iter().any(|kind| kind.eq_ignore_ascii_case(word))
}

/// Tells whether a word names a hypercall or a sub-operation.
pub(super) fn is_name(word: &str) -> bool {
    (0..NUMBERS).map(HypercallNumber).any(|number| {
        let is = |name: Option<&str>| name.is_some_and(|name| name.eq_ignore_ascii_case(word));
        let mut operations = (0..=MEMORY_OP_MASK).map(|operation| sub_operation(number, operation));
        is(number.name()) || operations.any(|found| is(found.and_then(|found| found.name)))
    })
}

const KINDS: [&str; 7] = [
    "hypercall",
    "store",
    "console",
    "event",
    "vcpu",
    "time",
    "domain",
];
/// Xen's table of hypercalls has 64 entries.
const NUMBERS: u64 = 64;
/// The part of a `memory_op` that names the operation; other sub-operations have lower numbers.
const MEMORY_OP_MASK: u32 = 0x3F;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kinds_calls_and_sub_operations() {
        for word in ["hypercall", "STORE"] {
            assert!(is_kind(word), "{word}");
        }
        for word in ["sched_op", "poll", "set_param", "MEMORY_OP"] {
            assert!(is_name(word), "{word}");
        }
        for word in ["", "sched", "hypercalls"] {
            assert!(!is_kind(word) && !is_name(word), "{word}");
        }
    }
}
