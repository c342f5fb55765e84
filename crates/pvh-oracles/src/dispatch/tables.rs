//! Sub-operations that take one structure and answer into it: where their fields are.

use pvh_hypercall::Width;

/// A field: its offset and its size, in bytes.
pub(super) type Field = (u64, usize);

/// What is asked, the structure's size, the fields in the order of the question, and where answers
/// go.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) size: usize,
    pub(super) fields: &'static [Field],
    /// Where the answer goes, and those behind it that are one more each.
    pub(super) answers: &'static [Field],
}

const fn row(
    name: &'static str,
    size: usize,
    fields: &'static [Field],
    answers: &'static [Field],
) -> Row {
    Row {
        name,
        size,
        fields,
        answers,
    }
}

/// event_channel.h.
pub(super) fn event(op: u64) -> Option<Row> {
    Some(match op {
        0 => row("bind_interdomain", 12, &[(0, 2), (4, 4)], &[(8, 4)]),
        1 => row("bind_virq", 12, &[(0, 4), (4, 4)], &[(8, 4)]),
        2 => row("bind_pirq", 12, &[(0, 4), (4, 4)], &[(8, 4)]),
        3 => row("close", 4, &[(0, 4)], &[]),
        4 => row("send", 4, &[(0, 4)], &[]),
        5 => {
            let answers = &[(8, 4), (12, 4), (16, 4), (20, 4)];
            row("status", 24, &[(0, 2), (4, 4)], answers)
        }
        6 => row("alloc_unbound", 8, &[(0, 2), (2, 2)], &[(4, 4)]),
        7 => row("bind_ipi", 8, &[(0, 4)], &[(4, 4)]),
        8 => row("bind_vcpu", 8, &[(0, 4), (4, 4)], &[]),
        9 => row("unmask", 4, &[(0, 4)], &[]),
        10 => row("reset", 2, &[(0, 2)], &[]),
        11 => row("init_control", 24, &[(12, 4), (0, 8), (8, 4)], &[(16, 1)]),
        12 => row("expand_array", 8, &[(0, 8)], &[]),
        13 => row("set_priority", 8, &[(0, 4), (4, 4)], &[]),
        _ => return None,
    })
}

/// hvm_op.h, params.h.
pub(super) fn hvm(op: u64) -> Option<Row> {
    Some(match op {
        0 => row("set_param", 16, &[(0, 2), (4, 4), (8, 8)], &[]),
        1 => row("param", 16, &[(0, 2), (4, 4)], &[(8, 8)]),
        9 => row("pagetable_dying", 16, &[(0, 2), (8, 8)], &[]),
        15 => row("mem_type", 16, &[(0, 2), (8, 8)], &[(2, 2)]),
        23 => row("set_upcall_vector", 8, &[(0, 4), (4, 1)], &[]),
        _ => return None,
    })
}

/// sched.h, but poll.
pub(super) fn sched(op: u64) -> Option<Row> {
    Some(match op {
        2 => row("shutdown", 4, &[(0, 1)], &[]),
        4 => row("remote_shutdown", 8, &[(0, 2), (4, 4)], &[]),
        5 => row("shutdown_code", 4, &[(0, 1)], &[]),
        6 => row("watchdog", 8, &[(0, 4), (4, 4)], &[]),
        _ => return None,
    })
}

/// memory.h: the structure is a domain's id, the answer the result.
pub(super) fn memory(op: u64) -> Option<Row> {
    Some(match op {
        3 => row("current_reservation", 2, &[(0, 2)], &[]),
        4 => row("maximum_reservation", 2, &[(0, 2)], &[]),
        14 => row("maximum_gpfn", 2, &[(0, 2)], &[]),
        _ => return None,
    })
}

/// grant_table.h: an element, whose answers come behind a status of two bytes, which is 0 then.
pub(super) struct Element {
    pub(super) row: Row,
    pub(super) status: u64,
}

pub(super) fn grant(op: u64, width: Width) -> Option<Element> {
    let is_native = width == Width::Native;
    let (row, status) = match op {
        0 => {
            let fields = &[(0, 8), (8, 4), (12, 4), (16, 2)];
            (row("map", 32, fields, &[]), 18)
        }
        1 => (row("unmap", 24, &[(16, 4), (0, 8), (8, 8)], &[]), 20),
        2 if is_native => (row("setup_table", 24, &[(0, 2), (4, 4), (16, 8)], &[]), 8),
        2 => (row("setup_table", 16, &[(0, 2), (4, 4), (12, 4)], &[]), 8),
        // bits 0 and 1 of the flags, which come first, are for grants on either side
        5 if is_native => {
            const SIDES: &[Field] = &[
                (34, 2),
                (0, 8),
                (8, 2),
                (10, 2),
                (16, 8),
                (24, 2),
                (26, 2),
                (32, 2),
            ];
            (row("copy", 40, SIDES, &[]), 36)
        }
        5 => {
            const SIDES: &[Field] = &[
                (18, 2),
                (0, 4),
                (4, 2),
                (6, 2),
                (8, 4),
                (12, 2),
                (14, 2),
                (16, 2),
            ];
            (row("copy", 24, SIDES, &[]), 20)
        }
        6 => (row("query_size", 16, &[(0, 2)], &[(4, 4), (8, 4)]), 12),
        11 => (row("swap", 12, &[(0, 4), (4, 4)], &[]), 8),
        _ => return None,
    };
    Some(Element { row, status })
}
