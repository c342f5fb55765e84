//! The keys of xl.cfg(5): those that say what a run is, and those that are not served.

/// Tells whether the translation reads this key.
pub(super) fn is_served(key: &str) -> bool {
    SERVED.contains(&key)
}

/// Tells whether xl knows this key and a run does nothing with it.
pub(super) fn is_unserved(key: &str) -> bool {
    UNSERVED.contains(&key)
}

/// The known key that differs least from `key`, if one differs little.
pub(super) fn near(key: &str) -> Option<&'static str> {
    if key.len() > LONGEST {
        return None;
    }
    let known = SERVED.iter().chain(&UNSERVED);
    let known = known.map(|known| (distance(key, known), *known));
    let (distance, near) = known.min_by_key(|(distance, _)| *distance)?;
    let is_near = distance <= 2 && distance.saturating_mul(2) < key.len();
    is_near.then_some(near)
}

/// How many letters have to be added, removed, changed or swapped with the next.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.iter().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for (j, wanted) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX);
            let same = usize::from(letter != wanted);
            let least = [
                at(&row, j).saturating_add(same),
                at(&row, j.saturating_add(1)).saturating_add(1),
                at(&next, j).saturating_add(1),
            ];
            let mut cost = least.into_iter().min().unwrap_or(usize::MAX);
            let is_swap = i > 0
                && j > 0
                && one.get(i.wrapping_sub(1)) == Some(wanted)
                && other.get(j.wrapping_sub(1)) == Some(letter);
            if is_swap {
                cost = cost.min(at(&before, j.wrapping_sub(1)).saturating_add(1));
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// No key is longer, so no time is spent on one that is.
const LONGEST: usize = 40;

const SERVED: [&str; 24] = [
    "bootloader",
    "builder",
    "cmdline",
    "disk",
    "extra",
    "kernel",
    "maxmem",
    "maxvcpus",
    "memory",
    "name",
    "on_crash",
    "on_poweroff",
    "on_reboot",
    "pvh",
    "pvshim",
    "pvshim_cmdline",
    "pvshim_extra",
    "pvshim_path",
    "ramdisk",
    "root",
    "type",
    "vcpus",
    "vif",
    // It says where a bootloader's arguments are, and comes with one.
    "bootloader_args",
];

const UNSERVED: [&str; 80] = [
    "acpi",
    "acpi_firmware",
    "altp2m",
    "apic",
    "arm_sci",
    "blkdev_start",
    "boot",
    "bios",
    "channel",
    "claim_mode",
    "cpu_weight",
    "cpuid",
    "cpus",
    "cpus_soft",
    "cap",
    "device_model_args",
    "device_model_override",
    "device_model_version",
    "device_tree",
    "dm_restrict",
    "dma_bufs",
    "driver_domain",
    "dtdev",
    "event_actions",
    "firmware",
    "firmware_override",
    "gfx_passthru",
    "global_vnc",
    "hap",
    "hdtype",
    "hpet",
    "hpet_base",
    "init_seclabel",
    "iomem",
    "ioports",
    "irqs",
    "keymap",
    "localtime",
    "max_event_channels",
    "max_grant_frames",
    "max_grant_version",
    "max_maptrack_frames",
    "mca_caps",
    "msr_relaxed",
    "nestedhvm",
    "nographic",
    "nomigrate",
    "numa_placement",
    "on_soft_reset",
    "on_watchdog",
    "p9",
    "pae",
    "passthrough",
    "pci",
    "pci_msitranslate",
    "pci_permissive",
    "pci_power_mgmt",
    "pci_seize",
    "pool",
    "pvcalls",
    "rdm",
    "rtc_timeoffset",
    "sched",
    "sdl",
    "seclabel",
    "serial",
    "shadow_memory",
    "suspend_cancel",
    "timer_mode",
    "tsc_mode",
    "tee",
    "usbctrl",
    "usbdev",
    "uuid",
    "vfb",
    "virtio",
    "vnuma",
    "vpmu",
    "vtpm",
    "xend_suspend_evtchn_compat",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_in_both_lists_or_twice() {
        let mut all: Vec<_> = SERVED.iter().chain(&UNSERVED).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|key| key.len() <= LONGEST));
    }

    #[test]
    fn a_mistyped_key_is_known_again() {
        for (typed, meant) in [
            ("memroy", Some("memory")),
            ("kernal", Some("kernel")),
            ("on_crahs", Some("on_crash")),
            ("vcpu", Some("vcpus")),
            ("something", None),
            ("", None),
        ] {
            assert_eq!(near(typed), meant, "{typed}");
        }
        assert_eq!(near(&"m".repeat(60_000)), None);
    }
}
