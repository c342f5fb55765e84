//! The text of `--help` below the options.

use pvh_conformance::selection::sections;

/// For the program.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0      the guest powered off; inspect: the file can be booted; conform: as on Xen, or explained
  1      conform: a difference from Xen that nothing explains; tap: a result that was not expected;
         fuzz: an answer differs from another VMM
  2      wrong arguments
  3      a file was refused: missing, unreadable, not bootable or too large
  4      the host lacks something (KVM, permission, memory) or could not write the output, record or trace
  5      the guest crashed (an early and silent triple fault is a crash, see run's --on-crash), or halted
         for good with --exit-on-halt
  6      the guest asked to reboot or had another triple fault (with --no-reboot)
  7      the sandbox ended the run: a thread of pvh-vmm made a system call that it does not need
  128+N  ended by signal N";

/// For `run`.
pub(crate) const RUN: &str = "\
Exit codes: 0 powered off, 2 wrong arguments, 3 a file was refused, 4 the host lacks something (or could
not write the output, record or trace), 5 the guest crashed (an early and silent triple fault is a crash,
see --on-crash) or halted for good (with --exit-on-halt), 6 the guest asked to reboot or had another triple
fault (with --no-reboot), 7 the sandbox ended the run, 128+N ended by signal N.

Keys: Ctrl-A X ends the guest, Ctrl-A A or Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A H lists the keys.

Examples:
  pvh-vmm run
  pvh-vmm run /boot/vmlinuz-$(uname -r) --initrd initrd.gz --cpus 2 --cmdline console=ttyS0
  pvh-vmm run vmlinuz --initrd initrd.gz --platform xen --disk disk.img --cmdline \"root=/dev/xvda1 console=hvc0\"
  pvh-vmm run vmlinuz --initrd initrd.gz --platform xen --net \"passt=-t 8080:80\" --cmdline console=hvc0
  pvh-vmm run unikernel.elf --memory 64M --module config.json=config";

/// For `create`.
pub(crate) const CREATE: &str = "\
A key that xl has and a run does not serve is named, and the guest starts without it. A vif is connected to
the tap that vifname= names, else to passt; a disk is a raw image or a block device.

Exit codes: those of 'run'; 3 also a configuration that is wrong or cannot be read.

Examples:
  pvh-vmm create guest.cfg -c
  pvh-vmm create guest.cfg -n
  pvh-vmm create guest.cfg memory=1024 -- --patch-hypercalls";

/// For `inspect`.
pub(crate) const INSPECT: &str = "\
Exit codes: 0 the file can be booted, 2 wrong arguments, 3 it cannot be booted or read, 4 the report could
not be written.";

/// For `tap`.
pub(crate) const TAP: &str = "\
Standard input may have other lines of the console before the report and between its lines.

Exit codes: 0 every result is as expected, 1 a result was not expected, 2 wrong arguments, 3 FILE is no
report or cannot be read, 4 standard input cannot be read, or the result could not be written, 5 standard
input has no report, or one that breaks off.

Example:
  timeout 60 my-vmm pvh-conformance-64.elf | pvh-vmm tap --expect known.tap";

/// For `fuzz`.
pub(crate) const FUZZ: &str = "\
A program is a seed and the numbers of its steps: hypercalls, ports, memory, MSRs, CPUID, the local APIC, rings,
page tables, and starts and stops of vCPUs. The VMM must put the guest's COM1 or port 0xE9 on standard output.

Exit codes: 0 nothing was found, 1 an answer differs from the VMM of --beside, 2 wrong arguments, 4 the host
lacks something (or a VMM could not be started), 5 a program made the VMM crash, hang, grow or end early,
128+N ended by signal N.

Examples:
  pvh-vmm fuzz --seed 1 --programs 100
  pvh-vmm fuzz --seed 17 --steps 1000 --keep 3,240
  pvh-vmm fuzz --vmm 'qemu-system-x86_64 -M microvm -nodefaults -display none -serial stdio -kernel {image} -append {cmdline}'";

/// For `trace`.
pub(crate) const TRACE: &str = "\
A line has the time, the vCPU, the call with its decoded arguments, the answer, and what the domain did; what
looks like a mistake of the guest follows '<--'.

Exit codes: 0 printed, or replayed without a difference, 2 wrong arguments, 3 FILE is no record, breaks off
or replays differently, 4 standard output cannot be written.

Examples:
  pvh-vmm run vmlinuz --record boot.trace --cmdline console=hvc0
  pvh-vmm trace boot.trace --only hypercall
  pvh-vmm trace boot.trace --only grant_table_op,send --json";

/// For `cache`.
pub(crate) const CACHE: &str = "\
Exit codes: 0 listed or cleared, 2 wrong arguments, 3 the named folder does not exist, 4 the folder cannot
be used, or the list could not be written.";

/// For `conform`: the sections of the guest.
pub(crate) fn conform() -> String {
    let names = sections().join(", ");
    format!(
        "Sections: {names}.\n\n\
         'narrow' makes the calls from 16-bit code. Four names add to other sections: 'wide' repeats them\n\
         from 64-bit code, 'user' repeats 'misc' from CPL 3, and 'paged' and 'pae' make the starts of\n\
         'secondaries' from a boot vCPU with two-level or PAE paging.\n\n\
         Exit codes: 0 as on Xen, or explained, 1 a difference from Xen that nothing explains, 2 wrong arguments,\n\
         4 the host lacks something (or the report could not be written), 5 the guest did not end its report,\n\
         128+N ended by signal N.\n\n\
         Example:\n  pvh-vmm conform --cmdline only=events,wide"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of help without its line ends.
    fn flow(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_command_lists_its_exit_codes() {
        let conform = conform();
        for (text, codes) in [
            (RUN, &[0, 2, 3, 4, 5, 6, 7][..]),
            (INSPECT, &[0, 2, 3, 4]),
            (CACHE, &[0, 2, 3, 4]),
            (FUZZ, &[0, 1, 2, 4, 5]),
            (&conform, &[0, 1, 2, 4, 5]),
        ] {
            let text = flow(text);
            let (_, list) = text.split_once("Exit codes: ").unwrap();
            let (list, _) = list.split_once('.').unwrap();
            let listed = list.split(", ").filter_map(|part| {
                let (number, _) = part.split_once(' ')?;
                number.parse::<u8>().ok()
            });
            assert_eq!(listed.collect::<Vec<_>>(), codes, "{list}");
        }
    }

    #[test]
    fn every_section_is_documented() {
        let page = include_str!("../../../../docs/conformance.md");
        for name in sections() {
            assert!(page.contains(&format!("`{name}`")), "{name}");
            assert!(conform().contains(name), "{name}");
        }
    }
}
