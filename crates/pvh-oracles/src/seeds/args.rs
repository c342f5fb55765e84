//! Seeds of the target about the command line of `pvh-vmm`.

use super::{Seed, named};

/// Parts that each end with a NUL: what it is, and its value.
pub(super) fn command_lines() -> Vec<Seed> {
    let seed = |name: &str, parts: &[&str]| {
        let text = parts.iter().map(|part| format!("{part}\0"));
        named(name, text.collect::<String>())
    };
    vec![
        seed("sizes", &["m1G", "c4"]),
        seed("bytes", &["m1048576", "c+1"]),
        seed("huge", &["m16777215T", "c255"]),
        seed(
            "disks",
            &["da,,b.img,ro,dev=xvdb", "dc,cache=none,format=raw", "dd"],
        ),
        seed(
            "networks",
            &[
                "npasst",
                "npasst=-t 8080:80,,443,mac=02:1a:0B:00:00:01",
                "ntap=tap0",
                "nsocket=/run/a=b",
            ],
        ),
        seed("modules", &["oa=b=c", "od", "oe="]),
        seed("words", &["x--quiet", "x--platform=xen", "xkernel"]),
    ]
}
