//! The VMMs that are compared, and the command that boots a guest in each.

use std::{
    env, fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Duration,
};

use crate::{
    guest::{HELLO, LARGE, STAY, TOUCH, write_noise_once, write_once},
    measure::{self, Sample},
    standing::Standing,
};

/// A guest.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Variant {
    /// Its name in tables.
    pub name: &'static str,
    /// The image.
    pub kernel: PathBuf,
    /// A module, if the guest has one.
    pub initrd: Option<PathBuf>,
}

/// Makes the guests in `dir`: tiny, with a large segment, with a large module, and one that touches
/// every page of a large segment.
///
/// # Errors
///
/// If the files cannot be written.
pub fn variants(dir: &Path) -> io::Result<Vec<Variant>> {
    fs::create_dir_all(dir)?;
    let (tiny, large) = (dir.join("tiny.elf"), dir.join("segment-40.elf"));
    let touch = dir.join("touch-40.elf");
    write_once(&tiny, HELLO, 0x1000)?;
    write_once(&large, HELLO, LARGE)?;
    write_once(&touch, TOUCH, LARGE)?;
    let initrd = dir.join("initrd-200");
    write_noise_once(&initrd, b"", INITRD_BYTES)?;
    let variant = |name, kernel: &PathBuf, initrd: Option<&PathBuf>| Variant {
        name,
        kernel: kernel.clone(),
        initrd: initrd.cloned(),
    };
    Ok(vec![
        variant("tiny", &tiny, None),
        variant("40 MiB segment", &large, None),
        variant("200 MiB initrd", &tiny, Some(&initrd)),
        variant("40 MiB touched", &touch, None),
    ])
}

/// Makes a guest in `dir` with a large segment that writes its byte and keeps running.
///
/// # Errors
///
/// If the file cannot be written.
pub fn staying(dir: &Path) -> io::Result<Variant> {
    fs::create_dir_all(dir)?;
    let kernel = dir.join(STAYING);
    write_once(&kernel, STAY, LARGE)?;
    Ok(Variant {
        name: "40 MiB that stays",
        kernel,
        initrd: None,
    })
}

/// The name of the file of that guest.
pub const STAYING: &str = "stay-40.elf";

/// A program that boots guests, and how.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: String,
    program: PathBuf,
    way: Way,
    options: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Ours,
    Floor,
    Qemu,
    CloudHypervisor,
    Firecracker,
    Alioth,
    Crosvm,
}

/// The programs that are built here.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "paths")]
pub struct Built {
    /// `pvh-vmm`.
    pub vmm: PathBuf,
    /// `floor`.
    pub floor: PathBuf,
}

/// Returns copies of the programs beside this one; `PVH_VMM` names another `pvh-vmm`.
///
/// # Errors
///
/// If one of them is missing, or cannot be copied.
pub fn built() -> io::Result<Built> {
    let beside = |name: &str| Ok::<_, io::Error>(env::current_exe()?.with_file_name(name));
    let vmm = match env::var_os("PVH_VMM") {
        Some(path) => path.into(),
        None => beside("pvh-vmm")?,
    };
    let floor = beside("floor")?;
    for program in [&vmm, &floor] {
        if !program.is_file() {
            let line = format!(
                "{} is missing: build it with `make bench-build`",
                program.display()
            );
            return Err(io::Error::other(line));
        }
    }
    Ok(Built {
        vmm: copied(&vmm, "pvh-vmm")?,
        floor: copied(&floor, "floor")?,
    })
}

/// Copies a program into the folder `copies` beside this one, and returns the copy.
///
/// A program that a linker wrote starts about 8 % slower than a copy of it, because the kernel
/// keeps the copy in larger pieces of the page cache. So all programs that are compared are copies.
fn copied(program: &Path, name: &str) -> io::Result<PathBuf> {
    let folder = env::current_exe()?.with_file_name("copies");
    fs::create_dir_all(&folder)?;
    let copy = folder.join(name);
    // A program that runs cannot be written to, but its name can be given to another file.
    let unfinished = folder.join(format!("{name}.{}", process::id()));
    fs::copy(program, &unfinished)?;
    fs::rename(&unfinished, &copy)?;
    Ok(copy)
}

/// Returns the same programs with shared libraries, if `make bench-build` has built them.
#[must_use]
pub fn built_shared() -> Option<Built> {
    let folder = env::current_exe().ok()?.with_file_name(SHARED);
    let [vmm, floor] = ["pvh-vmm", "floor"].map(|name| folder.join(name));
    Some(Built {
        vmm: copied(&vmm, "pvh-vmm-shared").ok()?,
        floor: copied(&floor, "floor-shared").ok()?,
    })
}

/// Finds all programs: ours and the floors, those of others on PATH. `PVH_BENCH_BEFORE` names an
/// earlier `pvh-vmm`, which takes its turn beside this one: the way to see what a change costs.
#[must_use]
pub fn peers() -> Vec<Peer> {
    let mut peers = Vec::new();
    if let Ok(built) = built() {
        let floors = [
            ("no devices", "none"),
            ("local APIC", "apic"),
            ("Xen", "xen"),
            ("PC", "pc"),
        ];
        let floor = |(name, devices)| Peer::floor(&format!("floor, {name}"), &built.floor, devices);
        peers.extend(floors.map(floor));
        peers.extend(OURS.map(|(name, options)| Peer::ours(name, &built.vmm, options)));
    }
    if let Some(before) = env::var_os("PVH_BENCH_BEFORE") {
        // A program that cannot be copied is named as it is: its rows then say that it does not run.
        let before = PathBuf::from(before);
        let before = copied(&before, "pvh-vmm-before").unwrap_or(before);
        let named = |(name, options)| Peer::ours(&format!("{name}, before"), &before, options);
        peers.extend(OURS.map(named));
    }
    if let Some(built) = built_shared() {
        let name = "pvh-vmm, shared libraries";
        peers.push(Peer::ours(name, &built.vmm, &["--platform", "none"]));
    }
    peers.extend(others());
    peers
}

/// Finds the VMMs of others on PATH.
#[must_use]
pub fn others() -> Vec<Peer> {
    let known = [
        ("alioth", "alioth", Way::Alioth),
        ("Cloud Hypervisor", "cloud-hypervisor", Way::CloudHypervisor),
        ("Firecracker", "firecracker", Way::Firecracker),
        ("crosvm", "crosvm", Way::Crosvm),
        ("QEMU microvm", "qemu-system-x86_64", Way::Qemu),
    ];
    let found = known.into_iter().filter_map(|(name, program, way)| {
        Some(Peer {
            name: name.to_owned(),
            program: on_path(program)?,
            way,
            options: Vec::new(),
        })
    });
    found.collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

impl Peer {
    /// Returns a `pvh-vmm` with some options.
    #[must_use]
    pub fn ours(name: &str, program: &Path, options: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            way: Way::Ours,
            options: options.iter().map(|&option| option.to_owned()).collect(),
        }
    }

    /// Returns a `floor` with some devices.
    #[must_use]
    pub fn floor(name: &str, program: &Path, devices: &str) -> Self {
        Self::floor_of(name, program, devices, "512")
    }

    /// The same, with a size of memory in MiB and, after an `x`, a number of vCPUs.
    #[must_use]
    pub fn floor_of(name: &str, program: &Path, devices: &str, size: &str) -> Self {
        Self {
            way: Way::Floor,
            ..Self::ours(name, program, &[devices, size])
        }
    }

    /// Boots `variant` once.
    ///
    /// # Errors
    ///
    /// As [`Peer::command`] and [`measure::run`].
    pub fn run(&self, variant: &Variant, dir: &Path) -> io::Result<Sample> {
        let mut command = self.command(variant, dir)?;
        let _terminal = self.input(&mut command)?;
        measure::run(&mut command)
    }

    /// The same, but kills the program after the guest's byte, for a program that does not end with
    /// its guest.
    ///
    /// # Errors
    ///
    /// As [`Peer::run`].
    pub fn run_to_byte(&self, variant: &Variant, dir: &Path) -> io::Result<Sample> {
        let mut command = self.command(variant, dir)?;
        let _terminal = self.input(&mut command)?;
        measure::run_within(&mut command, Duration::ZERO)
    }

    /// Boots `variant`, whose guest keeps running.
    ///
    /// # Errors
    ///
    /// As [`Peer::command`] and [`Standing::start`].
    pub fn stand(&self, variant: &Variant, dir: &Path) -> io::Result<Standing> {
        let mut command = self.command(variant, dir)?;
        let terminal = self.input(&mut command)?;
        Standing::start(&mut command, terminal)
    }

    /// Gives it an empty standard input, or a terminal if it needs one.
    fn input(&self, command: &mut Command) -> io::Result<Option<OwnedFd>> {
        if matches!(self.way, Way::Alioth) {
            return measure::with_terminal(command).map(Some);
        }
        command.stdin(Stdio::null());
        Ok(None)
    }

    /// Returns the command that boots `variant` with 512 MiB and one vCPU, unless the options say
    /// otherwise. A file that it needs is written to `dir`.
    ///
    /// # Errors
    ///
    /// If that file cannot be written.
    pub fn command(&self, variant: &Variant, dir: &Path) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        let Variant { kernel, initrd, .. } = variant;
        let mut with = |arguments: &[&str], kernel_option: &str, initrd_option: &str| {
            command.args(arguments).args(&self.options);
            if !kernel_option.is_empty() {
                command.arg(kernel_option);
            }
            command.arg(kernel);
            if let Some(initrd) = initrd {
                if !initrd_option.is_empty() {
                    command.arg(initrd_option);
                }
                command.arg(initrd);
            }
        };
        match self.way {
            Way::Ours if self.options.iter().any(|option| option == "--memory") => {
                with(&["run"], "", "--initrd");
            }
            Way::Ours => with(&["run", "--memory", "512M"], "", "--initrd"),
            Way::Floor => {
                command.args(&self.options).arg(kernel).args(initrd);
            }
            Way::Qemu => with(QEMU, "-kernel", "-initrd"),
            Way::CloudHypervisor => with(CLOUD_HYPERVISOR, "--kernel", "--initramfs"),
            Way::Alioth => with(ALIOTH, "--pvh", "--initramfs"),
            Way::Crosvm => with(CROSVM, "", "--initrd"),
            Way::Firecracker => {
                let config = dir.join(format!(
                    "firecracker-{}.json",
                    variant.name.replace(' ', "-")
                ));
                fs::write(&config, firecracker_config(variant))?;
                command.args(["--no-api", "--config-file"]).arg(config);
            }
        }
        Ok(command)
    }
}

fn firecracker_config(variant: &Variant) -> String {
    let mut boot = serde_json::json!({
        "kernel_image_path": variant.kernel,
        "boot_args": "console=ttyS0 reboot=k panic=1",
    });
    if let (Some(initrd), Some(boot)) = (&variant.initrd, boot.as_object_mut()) {
        boot.insert("initrd_path".into(), serde_json::json!(initrd));
    }
    let config = serde_json::json!({
        "boot-source": boot,
        "drives": [],
        "machine-config": { "vcpu_count": 1, "mem_size_mib": 512 },
    });
    config.to_string()
}

/// How our own program is run.
const OURS: [(&str, &[&str]); 3] = [
    ("pvh-vmm", &["--platform", "none"]),
    ("pvh-vmm, xen", &["--platform", "xen"]),
    ("pvh-vmm, copy", &["--platform", "none", "--load", "copy"]),
];

const INITRD_BYTES: usize = 200 << 20;

/// The folder of the programs with shared libraries, beside this one.
const SHARED: &str = "shared";

const QEMU: &[&str] = &[
    "-M",
    "microvm",
    "-accel",
    "kvm",
    "-cpu",
    "host",
    "-m",
    "512",
    "-smp",
    "1",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-serial",
    "stdio",
    "-no-reboot",
];

const CLOUD_HYPERVISOR: &[&str] = &[
    "--memory",
    "size=512M",
    "--cpus",
    "boot=1",
    "--serial",
    "tty",
    "--console",
    "off",
];

const ALIOTH: &[&str] = &["boot", "--memory", "size=512M", "--cpu", "count=1"];

const CROSVM: &[&str] = &[
    "run",
    "--mem",
    "512",
    "--cpus",
    "1",
    "--serial",
    "type=stdout,hardware=serial,num=1",
    "--disable-sandbox",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_are_made_once_and_kept() {
        let dir = env::temp_dir().join(format!("pvh-bench-guests-{}", std::process::id()));
        let made = variants(&dir).unwrap();
        let modified =
            |variant: &Variant| fs::metadata(&variant.kernel).unwrap().modified().unwrap();
        let first: Vec<_> = made.iter().map(modified).collect();
        let again: Vec<_> = variants(&dir).unwrap().iter().map(modified).collect();
        assert_eq!(first, again);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn memory_is_512_mib_unless_the_options_say_otherwise() {
        let variant = Variant {
            name: "x",
            kernel: "k".into(),
            initrd: None,
        };
        let words = |peer: Peer| {
            let command = peer.command(&variant, Path::new(".")).unwrap();
            let words = command.get_args().map(|word| word.to_str().unwrap());
            words.collect::<Vec<_>>().join(" ")
        };
        let vmm = Path::new("vmm");
        assert_eq!(
            words(Peer::ours("", vmm, &["--cpus", "2"])),
            "run --memory 512M --cpus 2 k"
        );
        assert_eq!(
            words(Peer::ours("", vmm, &["--memory", "1G"])),
            "run --memory 1G k"
        );
        assert_eq!(words(Peer::floor("", vmm, "pc")), "pc 512 k");
    }

    #[test]
    fn a_module_goes_behind_its_option() {
        let peer = Peer {
            name: "QEMU".into(),
            program: "qemu".into(),
            way: Way::Qemu,
            options: Vec::new(),
        };
        let variant = Variant {
            name: "x",
            kernel: "k".into(),
            initrd: Some("i".into()),
        };
        let command = peer.command(&variant, Path::new(".")).unwrap();
        let words: Vec<_> = command.get_args().collect();
        assert!(words.ends_with(&[
            "-kernel".as_ref(),
            "k".as_ref(),
            "-initrd".as_ref(),
            "i".as_ref()
        ]));
        let config: serde_json::Value =
            serde_json::from_str(&firecracker_config(&variant)).unwrap();
        assert_eq!(config["boot-source"]["initrd_path"], "i");
    }
}
