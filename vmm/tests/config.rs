//! `run --config` and `create`: what a user sees of configuration files.

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use assert_cmd::cargo::CommandCargoExt;

    /// Runs the program in `dir`; returns its exit code, output and errors.
    fn vmm(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let output = command.args(words).current_dir(dir).output().unwrap();
        let [text, errors] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), text, errors)
    }

    #[test]
    fn a_dry_run_prints_a_command_line_and_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("g.cfg"), "type='pvh'\nkernel='none'\n").unwrap();
        let words = ["create", "g.cfg", "-n", "memory=64", "--", "--cpus", "2"];
        let want = "pvh-vmm run none '--platform=xen' '--memory=64M' --cpus 2\n";
        assert_eq!(
            vmm(dir.path(), &words),
            (Some(0), want.to_owned(), String::new())
        );
        // An option takes the place of the file's, so that the line can be run.
        let words = ["create", "g.cfg", "-n", "memory=64", "--", "--memory=1G"];
        let want = "pvh-vmm run none '--platform=xen' '--memory=1G'\n";
        assert_eq!(vmm(dir.path(), &words).1, want);
        let (code, _, errors) = vmm(dir.path(), &["create", "g.cfg", "-n", "--", "--cpus", "0"]);
        assert_eq!(code, Some(2));
        assert!(errors.contains("'--cpus <N>'"), "{errors}");
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_code_3() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("g.cfg"), "type='pvh'\nkernal='none'\n").unwrap();
        fs::write(dir.path().join("g.toml"), "memory = 512\n").unwrap();
        let long = vec![b'#'; 1 << 20];
        fs::write(dir.path().join("long.cfg"), long).unwrap();
        for (words, want) in [
            (
                &["create", "g.cfg"][..],
                "g.cfg: line 2: 'kernal' is no key of xl.cfg; did you mean 'kernel'?",
            ),
            (&["run", "--config", "g.toml"], "did you mean 512M?"),
            (&["create", "long.cfg"], "more than 65536 bytes"),
            (
                &["create", "none.cfg"],
                "none.cfg: cannot read the configuration",
            ),
            (&["create", "."], ".: cannot read the configuration"),
        ] {
            let (code, text, errors) = vmm(dir.path(), words);
            assert_eq!((code, text.as_str()), (Some(3), ""), "{errors}");
            assert!(errors.contains(want), "{errors}");
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_guest_of_a_domain_s_configuration_boots_and_what_it_lacks_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let config = "type='pvh'\nkernel='demo.elf'\nmemory=64\nvcpus=2\npci=['01:00.0']\n\
                      extra='console=hvc0'\n";
        fs::write(dir.path().join("g.cfg"), config).unwrap();
        assert_eq!(vmm(dir.path(), &["demo", "--write", "demo.elf"]).0, Some(0));
        let (code, text, errors) = vmm(dir.path(), &["create", "g.cfg", "-c"]);
        assert_eq!(code, Some(0), "{errors}");
        assert!(text.contains("PVH demo: ok"), "{text}");
        let note = "pvh-vmm: g.cfg: line 5: 'pci' is not served: the guest runs without it";
        assert!(errors.lines().any(|line| line == note), "{errors}");
        let (code, text, errors) = vmm(dir.path(), &["create", "g.cfg", "-q"]);
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        assert!(text.contains("PVH demo: ok"), "{text}");

        // The kernel lies beside a configuration in TOML, wherever that is.
        let other = tempfile::tempdir().unwrap();
        let toml = dir.path().join("g.toml");
        fs::write(&toml, "kernel = 'demo.elf'\nmemory = '64M'\nquiet = true\n").unwrap();
        let words = ["run", "--config", toml.to_str().unwrap(), "--cpus", "2"];
        let (code, text, errors) = vmm(other.path(), &words);
        assert_eq!(code, Some(0), "{errors}");
        assert!(text.contains("PVH demo: ok"), "{text}");
    }
}
