//! Gives the library its guest images.
//!
//! In the repository they are built from `guest/` by the C compiler that `CC` names, or `cc`. A
//! package from a registry holds the images built (`prebuilt/`) beside their sources, so that who
//! installs it needs no C compiler; `PVH_GUESTS_FROM_SOURCE` builds them there too.
//!
//! The output depends only on the sources and the compiler: it has no paths, no dates and no build
//! id.

#[path = "build/elf64.rs"]
mod elf64;

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
};

/// The images: file name, sources, and extra flags.
const IMAGES: [(&str, &[&str], &[&str]); 9] = [
    ("demo.elf", &DEMO, &[]),
    ("demo-draft.elf", &DEMO, &["-DSTART_INFO_DRAFT"]),
    ("soak.elf", &SOAK, &[]),
    ("devices.elf", &DEVICES, &[]),
    ("attack.elf", &ATTACK, &[]),
    ("conformance.elf", &CONFORMANCE, &[]),
    ("fuzz.elf", &FUZZ, &[]),
    ("plain.elf", &PLAIN, &[]),
    (PLAIN64, &PLAIN, &["-DELF64"]),
];

/// The image that is written as ELF64 after the linker, which writes 32-bit code as ELF32.
const PLAIN64: &str = "plain64.elf";

const DEMO: [&str; 7] = [
    "entry.S",
    "string.S",
    "console.c",
    "check.c",
    "acpi.c",
    "xen.c",
    "demo.c",
];

const SOAK: [&str; 6] = [
    "entry.S",
    "string.S",
    "console.c",
    "check.c",
    "xen.c",
    "soak.c",
];

const DEVICES: [&str; 7] = [
    "entry.S",
    "interrupts.S",
    "string.S",
    "console.c",
    "check.c",
    "acpi.c",
    "devices.c",
];

const ATTACK: [&str; 6] = [
    "entry.S",
    "string.S",
    "console.c",
    "check.c",
    "xen.c",
    "attack.c",
];

const CONFORMANCE: [&str; 31] = [
    "string.S",
    "console.c",
    "joined.c",
    "conformance/entry.S",
    "conformance/main.c",
    "conformance/call.c",
    "conformance/tap.c",
    "conformance/options.c",
    "conformance/paging.c",
    "conformance/ring.c",
    "conformance/shared.c",
    "conformance/platform.c",
    "conformance/version.c",
    "conformance/memory.c",
    "conformance/physmap.c",
    "conformance/hvm.c",
    "conformance/clock.c",
    "conformance/events.c",
    "conformance/event_errors.c",
    "conformance/fifo.c",
    "conformance/upcall.c",
    "conformance/sched.c",
    "conformance/timers.c",
    "conformance/vcpu.c",
    "conformance/grants.c",
    "conformance/misc.c",
    "conformance/multicall.c",
    "conformance/contexts.c",
    "conformance/secondaries.c",
    "conformance/secondary.S",
    "conformance/gaps.c",
];

const FUZZ: [&str; 12] = [
    "entry.S",
    "string.S",
    "console.c",
    "acpi.c",
    "xen.c",
    "fuzz/main.c",
    "fuzz/program.c",
    "fuzz/random.c",
    "fuzz/calls.c",
    "fuzz/machine.c",
    "fuzz/rings.c",
    "fuzz/vcpus.c",
];

const PLAIN: [&str; 26] = [
    "string.S",
    "console.c",
    "joined.c",
    "acpi.c",
    "xen.c",
    "plain/entry.S",
    "plain/capture.c",
    "plain/main.c",
    "plain/report.c",
    "plain/output.c",
    "plain/machine.c",
    "plain/image.c",
    "plain/entry_state.c",
    "plain/segments.c",
    "plain/msrs.c",
    "plain/lapic.c",
    "plain/cpuid.c",
    "plain/start_info.c",
    "plain/memory.c",
    "plain/modules.c",
    "plain/sha256.c",
    "plain/tables.c",
    "plain/madt.c",
    "plain/processors.c",
    "plain/devices.c",
    "plain/end.c",
];

/// The files that the sources include.
const HEADERS: [&str; 10] = [
    "save_registers.inc",
    "fill_idt.inc",
    "fault_stubs.inc",
    "guest.h",
    "start_info.h",
    "xen.h",
    "conformance/conformance.h",
    "conformance/secondary.h",
    "plain/plain.h",
    "fuzz/fuzz.h",
];

const LINKER_SCRIPT: &str = "image.ld";

/// Flags for 32-bit code that needs no library, and no register that a bare machine or an emulator
/// may lack.
const FLAGS: [&str; 22] = [
    "-m32",
    "-march=i686",
    "-mgeneral-regs-only",
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-common",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-g0",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,-z,norelro",
    "-Wl,-s",
];

const HOW_TO_INSTALL: &str = "it needs gcc or clang for x86, with the assembler and linker: on Debian \
    `apt install gcc`, or name one in CC";

/// The images that a package holds.
const PREBUILT: &str = "prebuilt";

/// The file in [`PREBUILT`] that says which compiler built them.
const COMPILER: &str = "compiler.txt";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-env-changed=CC");
    println!("cargo::rerun-if-env-changed=PVH_GUESTS_FROM_SOURCE");
    let Some(out) = env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set");
        return ExitCode::FAILURE;
    };
    // Cargo puts this file into a package, and nothing else has it.
    let is_package = Path::new("Cargo.toml.orig").is_file();
    let provided = if is_package && env::var_os("PVH_GUESTS_FROM_SOURCE").is_none() {
        take_prebuilt(Path::new(PREBUILT), Path::new(&out))
    } else {
        build_all(Path::new("guest"), Path::new(&out)).and_then(|()| compiler())
    };
    match provided {
        Ok(compiler) => {
            println!("cargo::rustc-env=PVH_GUEST_COMPILER={compiler}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

/// Copies the images of a package, and tells which compiler built them.
fn take_prebuilt(from: &Path, out: &Path) -> Result<String, String> {
    for (image, ..) in IMAGES {
        fs::copy(from.join(image), out.join(image)).map_err(|error| {
            format!("{PREBUILT}/{image}: {error}; PVH_GUESTS_FROM_SOURCE=1 builds it")
        })?;
    }
    let compiler = fs::read_to_string(from.join(COMPILER));
    let compiler = compiler.map_err(|error| format!("{PREBUILT}/{COMPILER}: {error}"))?;
    Ok(compiler.trim().to_owned())
}

/// Splits `CC` into the compiler and the arguments that it always gets.
fn program() -> (String, Vec<String>) {
    let text = env::var("CC").unwrap_or_default();
    let mut words = text.split_whitespace().map(str::to_owned);
    let program = words.next().unwrap_or_else(|| "cc".to_owned());
    (program, words.collect())
}

/// The compiler's name and version: the first line of its `--version`.
pub(crate) fn compiler() -> Result<String, String> {
    let (program, _) = program();
    let output = Command::new(&program).arg("--version").output();
    let output = output.map_err(|error| cannot_run(&program, &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn cannot_run(program: &str, error: &std::io::Error) -> String {
    format!("`{program}` cannot be run ({error}); {HOW_TO_INSTALL}")
}

/// Builds every image from the sources in `guest` into `out`.
pub(crate) fn build_all(guest: &Path, out: &Path) -> Result<(), String> {
    for (image, sources, flags) in IMAGES {
        let built = build((guest, sources), &out.join(image), flags);
        built.map_err(|why| format!("the guest image {image} was not built: {why}"))?;
    }
    Ok(())
}

/// Compiles and links one image. The error is printed for the user of Cargo.
fn build((guest, sources): (&Path, &[&str]), image: &Path, flags: &[&str]) -> Result<(), String> {
    for file in sources.iter().chain(&HEADERS).chain([&LINKER_SCRIPT]) {
        if !guest.join(file).is_file() {
            return Err(format!("guest/{file} is missing"));
        }
    }
    let (program, arguments) = program();
    let mut command = Command::new(&program);
    command.args(arguments).args(FLAGS).args(flags);
    command.arg("-Wl,-T").arg(guest.join(LINKER_SCRIPT));
    command.arg("-o").arg(image);
    command.args(sources.iter().map(|source| guest.join(source)));
    let output = command.output();
    let output = output.map_err(|error| cannot_run(&program, &error))?;
    if output.status.success() {
        return match image.ends_with(PLAIN64) {
            true => elf64::rewrite(image),
            false => Ok(()),
        };
    }
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Err(format!(
        "`{program}` failed, see its messages below; {HOW_TO_INSTALL}"
    ))
}
