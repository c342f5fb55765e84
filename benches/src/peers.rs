//! The VMMs that are compared, and how each is told to boot a guest.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    guest::{HELLO, LARGE, TOUCH, write_noise_once, write_once},
    measure::{self, Sample},
};

/// What is booted.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Variant {
    /// Its name in tables.
    pub name: &'static str,
    /// The image.
    pub kernel: PathBuf,
    /// A module, if it has one.
    pub initrd: Option<PathBuf>,
}

/// Makes the guests in `dir`: tiny, with a large segment, with a large module, and one that touches every page of a
/// large segment.
///
/// # Errors
///
/// When the files cannot be written.
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

/// A program that boots guests, and how.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: String,
    program: PathBuf,
    way: Way,
    options: &'static [&'static str],
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

/// Finds the programs: ours and the floors beside this one, the others on PATH.
#[must_use]
pub fn peers() -> Vec<Peer> {
    let beside = |name: &str| Some(env::current_exe().ok()?.with_file_name(name));
    let ours = env::var_os("PVH_VMM").map(PathBuf::from);
    let ours = ours.or_else(|| beside("pvh-vmm"));
    let known = [
        (
            "floor, no devices",
            beside("floor"),
            Way::Floor,
            &["none"][..],
        ),
        ("floor, local APIC", beside("floor"), Way::Floor, &["apic"]),
        ("floor, Xen", beside("floor"), Way::Floor, &["xen"]),
        ("floor, PC", beside("floor"), Way::Floor, &["pc"]),
        ("pvh-vmm", ours.clone(), Way::Ours, &["--platform", "none"]),
        (
            "pvh-vmm, xen",
            ours.clone(),
            Way::Ours,
            &["--platform", "xen"],
        ),
        (
            "pvh-vmm, copy",
            ours,
            Way::Ours,
            &["--platform", "none", "--load", "copy"],
        ),
        ("alioth", on_path("alioth"), Way::Alioth, &[]),
        (
            "Cloud Hypervisor",
            on_path("cloud-hypervisor"),
            Way::CloudHypervisor,
            &[],
        ),
        ("Firecracker", on_path("firecracker"), Way::Firecracker, &[]),
        ("crosvm", on_path("crosvm"), Way::Crosvm, &[]),
        (
            "QEMU microvm",
            on_path("qemu-system-x86_64"),
            Way::Qemu,
            &[],
        ),
    ];
    let found = known
        .into_iter()
        .filter_map(|(name, program, way, options)| {
            let program = program.filter(|program| program.is_file())?;
            Some(Peer {
                name: name.to_owned(),
                program,
                way,
                options,
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
    /// Boots `variant` once.
    ///
    /// # Errors
    ///
    /// As [`Peer::command`] and [`measure::run`].
    pub fn run(&self, variant: &Variant, dir: &Path) -> io::Result<Sample> {
        let mut command = self.command(variant, dir)?;
        // It reads the settings of its terminal, and does without none.
        let _terminal = match self.way {
            Way::Alioth => Some(measure::with_terminal(&mut command)?),
            _ => {
                command.stdin(Stdio::null());
                None
            }
        };
        measure::run(&mut command)
    }

    /// Returns the command that boots `variant` with 512 MiB and one vCPU; a file it needs goes to `dir`.
    ///
    /// # Errors
    ///
    /// When that file cannot be written.
    pub fn command(&self, variant: &Variant, dir: &Path) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        let Variant { kernel, initrd, .. } = variant;
        let mut with = |arguments: &[&str], kernel_option: &str, initrd_option: &str| {
            command.args(arguments).args(self.options);
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
            Way::Ours => with(&["run", "--memory", "512M"], "", "--initrd"),
            Way::Floor => {
                command
                    .args(self.options)
                    .arg("512")
                    .arg(kernel)
                    .args(initrd);
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

const INITRD_BYTES: usize = 200 << 20;

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
    fn a_module_goes_behind_its_option() {
        let peer = Peer {
            name: "QEMU".into(),
            program: "qemu".into(),
            way: Way::Qemu,
            options: &[],
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
