//! The VMMs that run the plain guest, and where their reports are kept.
//!
//! `results/plain/ID.tap` has the report of a VMM; its notes `vmm` and `machine` say what ran. The
//! program `conform-peers` writes these files, and [`table`](crate::table) makes one table of them.

/// A VMM, or one of its machines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// The name of its file in `results/plain`.
    pub id: &'static str,
    /// Its name for people, without a version.
    pub name: &'static str,
    /// The program; `None` for a report that is stored by hand: from the lab's hosts and from Xen.
    pub program: Option<&'static str>,
    /// The arguments, with `{kernel32}`, `{kernel64}`, `{module}`, `{sha256}` and, for a file in
    /// JSON, `{config}`.
    pub arguments: &'static [&'static str],
}

/// All VMMs that are known, in the order of the table.
pub const PEERS: &[Peer] = &[
    Peer {
        id: "pvh-vmm",
        name: "pvh-vmm, plain",
        program: Some("pvh-vmm"),
        arguments: &[
            "run",
            "{kernel32}",
            "--platform",
            "none",
            "--cpus",
            "2",
            "--memory",
            "512M",
            "--module",
            "{module}=sha256={sha256}",
        ],
    },
    Peer {
        id: "pvh-vmm-xen",
        name: "pvh-vmm, xen",
        program: Some("pvh-vmm"),
        arguments: &[
            "run",
            "{kernel64}",
            "--platform",
            "xen",
            "--cpus",
            "2",
            "--memory",
            "512M",
            "--module",
            "{module}=sha256={sha256}",
        ],
    },
    Peer {
        id: "pvh-vmm-kvm-amd",
        name: "pvh-vmm, plain, kvm_amd",
        program: None,
        arguments: &[],
    },
    Peer {
        id: "pvh-vmm-xen-kvm-amd",
        name: "pvh-vmm, xen, kvm_amd",
        program: None,
        arguments: &[],
    },
    Peer {
        id: "xen-4.17",
        name: "Xen 4.17",
        program: None,
        arguments: &[],
    },
    Peer {
        id: "xen-4.20",
        name: "Xen 4.20",
        program: None,
        arguments: &[],
    },
    qemu(
        "qemu-microvm-tcg",
        "QEMU microvm, TCG",
        &["-M", "microvm", "-accel", "tcg"],
    ),
    qemu(
        "qemu-q35-tcg",
        "QEMU q35, TCG",
        &["-M", "q35", "-accel", "tcg"],
    ),
    qemu(
        "qemu-microvm-kvm",
        "QEMU microvm, KVM",
        &["-M", "microvm", "-accel", "kvm"],
    ),
    qemu(
        "qemu-q35-kvm",
        "QEMU q35, KVM",
        &["-M", "q35", "-accel", "kvm"],
    ),
    Peer {
        id: "firecracker",
        name: "Firecracker",
        program: Some("firecracker"),
        arguments: &["--no-api", "--config-file", "{config}"],
    },
    Peer {
        id: "cloud-hypervisor",
        name: "Cloud Hypervisor",
        program: Some("cloud-hypervisor"),
        arguments: &[
            "--kernel",
            "{kernel64}",
            "--initramfs",
            "{module}",
            "--cmdline",
            "module0.sha256={sha256}",
            "--cpus",
            "boot=2",
            "--memory",
            "size=512M",
            "--serial",
            "tty",
            "--console",
            "off",
        ],
    },
    Peer {
        id: "alioth",
        name: "alioth",
        program: Some("alioth"),
        arguments: &[
            "boot",
            "--pvh",
            "{kernel64}",
            "--initramfs",
            "{module}",
            "--cmdline",
            "module0.sha256={sha256}",
            "--cpu",
            "count=2",
            "--memory",
            "size=512M",
            "--console",
            "log,path=/dev/stdout",
        ],
    },
    Peer {
        id: "crosvm",
        name: "crosvm",
        program: Some("crosvm"),
        arguments: &[
            "run",
            "--mem",
            "512",
            "--cpus",
            "2",
            "--serial",
            "type=stdout,hardware=serial,num=1",
            "--disable-sandbox",
            "--initrd",
            "{module}",
            "--params",
            "module0.sha256={sha256}",
            "{kernel64}",
        ],
    },
];

/// A machine of QEMU. The first arguments choose it; the others are common to all.
const fn qemu(id: &'static str, name: &'static str, machine: &'static [&'static str]) -> Peer {
    Peer {
        id,
        name,
        program: Some("qemu-system-x86_64"),
        arguments: machine,
    }
}

/// The arguments of every machine of QEMU.
const QEMU: &[&str] = &[
    "-m",
    "512",
    "-smp",
    "2",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-serial",
    "stdio",
    "-no-reboot",
    "-kernel",
    "{kernel32}",
    "-initrd",
    "{module}",
    "-append",
    "module0.sha256={sha256}",
];

/// The files that a command names.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain paths")]
pub struct Files {
    /// The plain guest as ELF32.
    pub kernel32: String,
    /// The plain guest as ELF64.
    pub kernel64: String,
    /// The module.
    pub module: String,
    /// The SHA-256 of the module, in hexadecimal.
    pub sha256: String,
    /// A file for Firecracker with the text of [`Files::firecracker_config`].
    pub config: String,
}

impl Files {
    /// The machine of Firecracker, in JSON.
    #[must_use]
    pub fn firecracker_config(&self) -> String {
        format!(
            "{{\"boot-source\":{{\"kernel_image_path\":\"{}\",\"initrd_path\":\"{}\",\
             \"boot_args\":\"module0.sha256={}\"}},\"drives\":[],\
             \"machine-config\":{{\"vcpu_count\":2,\"mem_size_mib\":512}}}}\n",
            self.kernel64, self.module, self.sha256
        )
    }

    fn fill(&self, argument: &str) -> String {
        let fields = [
            ("{kernel32}", &self.kernel32),
            ("{kernel64}", &self.kernel64),
            ("{module}", &self.module),
            ("{sha256}", &self.sha256),
            ("{config}", &self.config),
        ];
        let argument = argument.to_owned();
        fields
            .iter()
            .fold(argument, |text, (field, value)| text.replace(field, value))
    }
}

impl Peer {
    /// The arguments of its program for these files.
    #[must_use]
    pub fn arguments_for(&self, files: &Files) -> Vec<String> {
        let common = match self.program {
            Some("qemu-system-x86_64") => QEMU,
            _ => &[],
        };
        let arguments = self.arguments.iter().chain(common);
        arguments.map(|argument| files.fill(argument)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_command_is_filled() {
        let name = |name: &str| name.to_owned();
        let files = Files {
            kernel32: name("k32"),
            kernel64: name("k64"),
            module: name("m"),
            sha256: name("00"),
            config: name("c"),
        };
        for peer in PEERS.iter().filter(|peer| peer.program.is_some()) {
            let words = peer.arguments_for(&files).join(" ");
            assert!(!words.contains(['{', '}']), "{words}");
            assert!(
                words.contains("k32") || words.contains("k64") || words.contains(" c"),
                "{words}"
            );
        }
        let config = files.firecracker_config();
        assert!(config.contains("\"kernel_image_path\":\"k64\",\"initrd_path\":\"m\""));
    }

    #[test]
    fn ids_and_names_differ() {
        for (index, peer) in PEERS.iter().enumerate() {
            for other in &PEERS[index + 1..] {
                assert_ne!((peer.id, peer.name), (other.id, other.name));
                assert!(peer.id != other.id && peer.name != other.name);
            }
        }
    }
}
