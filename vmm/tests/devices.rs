//! The devices of either platform, as the drivers of a guest find them (docs/devices.md).

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use assert_cmd::cargo::CommandCargoExt;

    /// Boots the guest that uses each device; returns the lines about devices, whether each is there.
    fn devices(platform: &str) -> Vec<(String, bool)> {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("devices.elf");
        std::fs::write(&kernel, pvh_conformance::devices_image()).unwrap();
        let output = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .arg("run")
            .arg(&kernel)
            .args(["--memory", "16M", "--platform", platform])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("\nPVH devices: ok\n"), "{text}");
        assert!(!text.contains("check failed"), "{text}");
        let lines = text.lines().filter_map(|line| {
            let (device, state) = line.strip_prefix("device: ")?.split_once(": ")?;
            Some((device.to_owned(), state == "there"))
        });
        lines.collect()
    }

    fn expected(list: [(&str, bool); 8]) -> Vec<(String, bool)> {
        let owned = list.map(|(device, is_there)| (device.to_owned(), is_there));
        owned.into()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_plain_platform_has_whole_devices() {
        let found = devices("none");
        let want = expected([
            ("local APIC", true),
            ("PICs", true),
            ("I/O APIC", true),
            ("timer", true),
            ("COM1", true),
            ("clock", true),
            ("keyboard controller", false),
            ("PM1a", true),
        ]);
        assert_eq!(found, want);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_xen_domain_has_no_half_device() {
        let found = devices("xen");
        let want = expected([
            ("local APIC", true),
            ("PICs", false),
            ("I/O APIC", false),
            ("timer", false),
            ("COM1", false),
            ("clock", false),
            ("keyboard controller", false),
            ("PM1a", true),
        ]);
        assert_eq!(found, want);
    }
}
