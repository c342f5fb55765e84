//! `pvh-vmm fuzz`: what it finds in a VMM, and the line that repeats it.

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Output};

    fn fuzz(arguments: &[&str]) -> (i32, String, String) {
        let mut command = assert_cmd::Command::cargo_bin("pvh-vmm").unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = command.arg("fuzz").args(arguments).output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code().unwrap(), stdout, stderr)
    }

    #[test]
    fn a_vmm_that_crashes_in_a_step_is_told_with_the_line_that_repeats_it() {
        let folder = tempfile::tempdir().unwrap();
        let vmm = folder.path().join("vmm");
        let script = "#!/bin/sh\necho '#fuzz xen'\nfor s in 0 1 2; do echo \"#$s call 1.1\"\n\
                      case \"$2\" in *keep*) [ \"${2#*keep=*$s}\" = \"$2\" ] && continue ;; esac\n\
                      [ $s = 2 ] && exit 9\necho \"#$s call 1.1 =0\"\ndone\n";
        fs::write(&vmm, script).unwrap();
        fs::set_permissions(&vmm, fs::Permissions::from_mode(0o755)).unwrap();
        let command = format!("{} {{image}} {{cmdline}}", vmm.display());
        let (code, text, _) = fuzz(&["--seed", "4", "--steps", "3", "--vmm", &command]);
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("exit code 9), in step 2: call 1.1"), "{text}");
        let again = format!("pvh-vmm fuzz --seed 4 --steps 3 --keep 2 --vmm '{command}'");
        assert!(text.trim_end().ends_with(&again), "{text}");
    }

    #[test]
    fn a_vmm_without_the_guest_is_told() {
        let (code, text, _) = fuzz(&["--vmm", "false {image}"]);
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("did not start in this VMM"), "{text}");
        let (code, _, line) = fuzz(&["--vmm", "/nowhere/vmm {image}"]);
        assert_eq!(code, 4, "{line}");
        assert!(line.contains("cannot start /nowhere/vmm"), "{line}");
        let (code, _, line) = fuzz(&["--vmm", "vmm"]);
        assert!(code == 2 && line.contains("{image}"), "{line}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn this_vmm_carries_out_a_program_and_nothing_is_found() {
        let (code, text, line) = fuzz(&["--seed", "2", "--steps", "200"]);
        assert_eq!(code, 0, "{text}{line}");
        assert_eq!(text.trim_end(), "1 programs, 200 steps: nothing found");
    }
}
