//! Holds the layouts against Xen's own blkif.h (Debian's libxen-dev), compiled for both machines.
#![expect(clippy::arithmetic_side_effects, reason = "a test may stop")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use pvh_blkif::{Operation, Protocol};

/// What the header is to say, as C: sizes and offsets of one layout.
fn assertions(protocol: Protocol) -> String {
    let base = match protocol {
        Protocol::X86_64 => 8,
        Protocol::X86_32 => 4,
    };
    let slot = protocol.slot_bytes();
    let field = |of: &str, field: &str, at: u32| {
        format!("_Static_assert(__builtin_offsetof(struct {of}, {field}) == {at}, \"{field}\");\n")
    };
    let mut text = format!(
        "_Static_assert(sizeof(((struct blkif_sring *)0)->ring[0]) == {slot}, \"slot\");\n\
         _Static_assert(__builtin_offsetof(struct blkif_sring, ring) == 64, \"ring\");\n\
         _Static_assert(sizeof(struct blkif_response) == {}, \"response\");\n\
         _Static_assert(sizeof(struct blkif_request_segment) == 8, \"segment\");\n",
        base + 8
    );
    let requests = [
        ("blkif_request", "nr_segments", 1),
        ("blkif_request", "id", base),
        ("blkif_request", "sector_number", base + 8),
        ("blkif_request", "seg", base + 16),
        ("blkif_request_discard", "flag", 1),
        ("blkif_request_discard", "id", base),
        ("blkif_request_discard", "sector_number", base + 8),
        ("blkif_request_discard", "nr_sectors", base + 16),
        ("blkif_request_indirect", "indirect_op", 1),
        ("blkif_request_indirect", "nr_segments", 2),
        ("blkif_request_indirect", "id", base),
        ("blkif_request_indirect", "sector_number", base + 8),
        ("blkif_request_indirect", "handle", base + 16),
        ("blkif_request_indirect", "indirect_grefs", base + 20),
        ("blkif_request_segment", "gref", 0),
        ("blkif_request_segment", "first_sect", 4),
        ("blkif_request_segment", "last_sect", 5),
        ("blkif_response", "operation", 8),
        ("blkif_response", "status", 10),
    ];
    text.extend(requests.map(|(of, name, at)| field(of, name, at)));
    let operations = [
        ("READ", Operation::READ),
        ("WRITE", Operation::WRITE),
        ("WRITE_BARRIER", Operation::WRITE_BARRIER),
        ("FLUSH_DISKCACHE", Operation::FLUSH_DISKCACHE),
        ("DISCARD", Operation::DISCARD),
        ("INDIRECT", Operation::INDIRECT),
    ];
    text.extend(operations.map(|(name, Operation(number))| {
        format!("_Static_assert(BLKIF_OP_{name} == {number}, \"{name}\");\n")
    }));
    text
}

#[test]
#[ignore = "needs libxen-dev"]
fn both_layouts_are_those_of_the_header() {
    for (protocol, machine) in [(Protocol::X86_64, "-m64"), (Protocol::X86_32, "-m32")] {
        let arguments = ["-ffreestanding", "-fsyntax-only", "-xc", "-"];
        let compiler = Command::new("cc")
            .arg(machine)
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn();
        let mut compiler = compiler.unwrap();
        let mut source = compiler.stdin.take().unwrap();
        let header = "#include <stdint.h>\n#include <stddef.h>\n#include <xen/xen.h>\n#include <xen/io/blkif.h>\n";
        source.write_all(header.as_bytes()).unwrap();
        source.write_all(assertions(protocol).as_bytes()).unwrap();
        drop(source);
        assert!(compiler.wait().unwrap().success(), "{protocol:?}");
    }
}
