//! The least that any VMM must do: `floor DEVICES MEMORY_MIB[xCPUS] IMAGE [INITRD]`, see
//! [`pvh_bench::floor`].
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a bench may stop")]

use std::{env, io::Write, path::Path, process};

use kvm_ioctls::VcpuExit;
use pvh_bench::floor::{Floor, Plan};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, devices, size, image, initrd @ ..] = &arguments[..] else {
        unreachable!("floor DEVICES MEMORY_MIB[xCPUS] IMAGE [INITRD]")
    };
    let (mib, cpus) = size.split_once('x').unwrap_or((size, "1"));
    let mib: usize = mib.parse().expect("a size in MiB");
    let plan = Plan {
        devices,
        len: mib.saturating_mul(1 << 20),
        cpus: cpus.parse().expect("a number of vCPUs"),
        image: Path::new(image),
        initrd: initrd.first().map(Path::new),
    };
    let mut floor = Floor::start(&plan);
    loop {
        match floor.run() {
            VcpuExit::IoOut(0x3F8, byte) => std::io::stdout().write_all(byte).expect("a reader"),
            VcpuExit::IoOut(0x605, _) => process::exit(0),
            _ => {}
        }
    }
}
