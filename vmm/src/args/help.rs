//! What `--help` says below the options.

use pvh_conformance::selection::sections;

/// Of the program.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0      the guest powered off; the file can be booted (inspect); all is as on Xen or explained (conform)
  1      something is not as on Xen, and nobody knows why (conform)
  2      bad arguments
  3      a file is refused
  4      the host cannot: no KVM, no permission, not enough memory; or it lost what was to be written (output, record, trace)
  5      the guest crashed
  6      the guest asked to reboot (with --no-reboot)
  128+N  ended by signal N";

/// Of `run`.
pub(super) const RUN: &str = "\
Exit codes: 0 powered off, 2 bad arguments, 3 a file is refused, 4 the host cannot (or lost part of
a record or trace), 5 the guest crashed, 6 the guest asked to reboot (with --no-reboot), 128+N ended by signal N.

Keys: Ctrl-A X ends the guest, Ctrl-A A or Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A H lists them.

Examples:
  pvh-vmm run
  pvh-vmm run /boot/vmlinuz --initrd initrd.gz --cpus 2 --cmdline \"console=ttyS0\"
  pvh-vmm run unikernel.elf --memory 64M --module config.json=config";

/// Of `conform`: the sections of the guest.
pub(super) fn conform() -> String {
    let names = sections().join(", ");
    format!(
        "Sections: {names}.\n\n'narrow' is what is done from 16-bit code. Four go with a section: 'wide' is what is done from 64-bit code, 'user' \
         what 'misc' does from CPL 3,\n'paged' and 'pae' the starts of 'secondaries' from a boot vCPU with two-level and with PAE paging.\n\nExample:\n  \
         pvh-vmm conform --cmdline only=events,wide"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_documented() {
        let page = include_str!("../../../docs/conformance.md");
        for name in sections() {
            assert!(page.contains(&format!("`{name}`")), "{name}");
            assert!(conform().contains(name), "{name}");
        }
    }
}
