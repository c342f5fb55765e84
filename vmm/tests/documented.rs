//! Every command line of README, docs and help, read from there and run as it stands.
//!
//! Lines that build or test everything cannot run inside a test: of those it is checked that their
//! targets, variables and scripts exist.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        path::{Path, PathBuf},
        process::{Command, Output, Stdio},
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use tempfile::TempDir;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// The pages for users, and for those who build.
    fn pages() -> Vec<(String, String)> {
        let mut paths: Vec<_> = [
            "README.md",
            "CONTRIBUTING.md",
            "vmm/README.md",
            "lab/README.md",
        ]
        .map(|page| root().join(page))
        .into();
        let docs = fs::read_dir(root().join("docs")).unwrap();
        paths.extend(docs.map(|entry| entry.unwrap().path()));
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
        let read = |path: PathBuf| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        };
        paths.into_iter().map(read).collect()
    }

    /// A line without its comment.
    fn uncommented(line: &str) -> &str {
        let comment = line.starts_with('#').then_some(0).or(line.find(" #"));
        line[..comment.unwrap_or(line.len())].trim()
    }

    /// The command lines of a page: all lines of its `sh` blocks, and commands in a sentence that
    /// have no placeholder.
    fn commands(page: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut block = None;
        for line in page.lines() {
            match (block, line.strip_prefix("```")) {
                (None, Some(language)) => block = Some(language),
                (Some(_), Some(_)) => block = None,
                (Some("sh"), None) => found.push(uncommented(line).to_owned()),
                (Some(_), None) => {}
                (None, None) => {
                    let spans = line.split('`').skip(1).step_by(2);
                    let is_command = |span: &&str| {
                        let is_placeholder = |word: &str| {
                            word.len() > 1 && word.chars().all(|letter| letter.is_ascii_uppercase())
                        };
                        let starts = ["pvh-vmm conform", "make ", "lab/run "];
                        starts.iter().any(|start| span.starts_with(start))
                            && !span.split([' ', '=', '[']).any(is_placeholder)
                    };
                    found.extend(spans.filter(is_command).map(str::to_owned));
                }
            }
        }
        found.retain(|line| !line.is_empty());
        found
    }

    /// The examples of a command's help.
    fn examples(command: &str) -> Vec<String> {
        let help = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let lines = help.lines().map(str::trim);
        let examples = lines.filter(|line| line.starts_with("pvh-vmm "));
        examples.map(str::to_owned).collect()
    }

    /// All command lines, each with where it was found.
    fn all() -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for (path, page) in pages() {
            lines.extend(commands(&page).into_iter().map(|line| (path.clone(), line)));
        }
        for command in ["run", "create", "conform"] {
            let found = examples(command).into_iter();
            lines.extend(found.map(|line| (format!("{command} --help"), line)));
        }
        lines
    }

    /// A kernel for either platform: it powers off by ACPI's port, and has a VMCALL and a VMMCALL to
    /// patch.
    fn kernel() -> Vec<u8> {
        let mut code = vec![0xCC; 64];
        // mov dx, 0x605; mov al, 0x34; out dx, al
        code[..7].copy_from_slice(b"\x66\xBA\x05\x06\xB0\x34\xEE");
        code[16..20].copy_from_slice(b"\x0F\x01\xC1\xC3");
        code[32..36].copy_from_slice(b"\x0F\x01\xD9\xC3");
        Elf::new(Class::Elf64)
            .segment(Segment::load(0x10_0000, code))
            .segment(Segment::notes(&[Note::entry(0x10_0000)]))
            .build()
    }

    /// A folder with everything that the lines name.
    struct Home(TempDir);

    impl Home {
        fn new() -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            let binary = assert_cmd::cargo::cargo_bin("pvh-vmm");
            for folder in [
                "bin",
                "target/release",
                "boot",
                "grub-xen",
                "debian",
                "xen-4.17",
            ] {
                fs::create_dir_all(home.path(folder)).unwrap();
            }
            for name in ["bin/pvh-vmm", "target/release/pvh-vmm"] {
                symlink(&binary, home.path(name)).unwrap();
            }
            let release = Command::new("uname").arg("-r").output().unwrap().stdout;
            let release = String::from_utf8(release).unwrap();
            let (kernel, initrd, disk) = (kernel(), packed(), vec![0; 512]);
            let domain = b"type = 'pvh'\nkernel = 'vmlinuz'\nmemory = 64\n".to_vec();
            let machine = b"kernel = 'vmlinuz'\nmemory = '64M'\n".to_vec();
            let files = [
                ("vmlinuz".to_owned(), &kernel),
                (format!("boot/vmlinuz-{}", release.trim()), &kernel),
                (format!("boot/initrd.img-{}", release.trim()), &initrd),
                ("grub-xen/grub-i386-xen_pvh.bin".to_owned(), &kernel),
                ("unikernel.elf".to_owned(), &kernel),
                ("initrd.gz".to_owned(), &initrd),
                ("config.json".to_owned(), &initrd),
                ("disk.img".to_owned(), &disk),
                ("data.img".to_owned(), &disk),
                ("debian/vmlinuz-6.12".to_owned(), &kernel),
                ("debian/initrd-6.12".to_owned(), &initrd),
                ("debian/disk".to_owned(), &disk),
                ("guest.cfg".to_owned(), &domain),
                ("machine.toml".to_owned(), &machine),
                ("xen-4.17/xen-shim".to_owned(), &kernel),
            ];
            for (name, bytes) in files {
                fs::write(home.path(&name), bytes).unwrap();
            }
            home
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Runs a line in a shell, with the folders of Debian replaced by this one's.
        fn run(&self, line: &str) -> Output {
            let here = line
                .replace("/usr/lib/grub-xen/", "grub-xen/")
                .replace("/usr/lib/xen-4.17/boot/", "xen-4.17/")
                .replace("/boot/", "boot/");
            let path = std::env::var("PATH").unwrap();
            Command::new("timeout")
                .args(["120", "bash", "-o", "pipefail", "-c", &here])
                .current_dir(self.0.path())
                .env("PATH", format!("{}:{path}", self.path("bin").display()))
                .env("HOME", self.0.path())
                .env_remove("XDG_CACHE_HOME")
                .stdin(Stdio::null())
                .output()
                .unwrap()
        }

        /// Runs a line that must succeed, and if it ends in jq must print a value.
        fn check(&self, found: &str, line: &str) {
            if line.contains("| jq") && !is_installed("jq") {
                eprintln!("{line}: not run: jq is not installed");
                return;
            }
            let output = self.run(line);
            let (text, errors) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            assert!(output.status.success(), "{found}: {line}: {text}{errors}");
            if line.contains("| jq") {
                assert!(
                    !matches!(text.trim(), "" | "null"),
                    "{found}: {line}: {text}"
                );
            }
        }
    }

    fn packed() -> Vec<u8> {
        let shell = Command::new("sh")
            .args(["-c", "printf 070701 | gzip"])
            .output();
        shell.unwrap().stdout
    }

    fn is_installed(tool: &str) -> bool {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    }

    fn is_vmm(line: &str) -> bool {
        line.contains("pvh-vmm ")
    }

    fn needs_kvm(line: &str) -> bool {
        let is_dry = line.ends_with(" -n");
        let boots = ["pvh-vmm run", "pvh-vmm create", "pvh-vmm conform"];
        !is_dry && boots.iter().any(|start| line.contains(start))
    }

    #[test]
    fn lines_that_only_look_at_files_work() {
        let home = Home::new();
        let lines = all()
            .into_iter()
            .filter(|(_, line)| is_vmm(line) && !needs_kvm(line));
        let mut count = 0;
        for (found, line) in lines {
            home.check(&found, &line);
            count += 1;
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn lines_that_boot_a_guest_work() {
        let home = Home::new();
        let mut lines: Vec<_> = all();
        lines.retain(|(_, line)| is_vmm(line) && needs_kvm(line));
        lines.sort_by(|(_, a), (_, b)| a.cmp(b));
        lines.dedup_by(|(_, a), (_, b)| a == b);
        assert!(lines.len() >= 10, "{}", lines.len());
        for (found, line) in lines {
            // Its own test, in conform.rs, runs it.
            if line != "pvh-vmm conform" {
                home.check(&found, &line);
            }
        }
    }

    /// An option of the table of options that is a whole command line.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_last_line_of_timings_is_json() {
        let page = include_str!("../README.md");
        let pipe = r"2>&1 >/dev/null \| tail -n1 \| jq";
        assert!(page.contains(pipe), "vmm/README.md has changed");
        let line = format!(
            "pvh-vmm run vmlinuz --timings=json {}",
            pipe.replace(r"\|", "|")
        );
        Home::new().check("vmm/README.md", &line);
        assert!(
            page.contains("--initrd <(zcat a b)"),
            "vmm/README.md has changed"
        );
        let line = "pvh-vmm run vmlinuz --initrd <(zcat initrd.gz initrd.gz) --quiet";
        Home::new().check("vmm/README.md", line);
    }

    #[test]
    fn make_s_targets_and_variables_and_scripts_exist() {
        let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
        let lines = all().into_iter().filter(|(_, line)| !is_vmm(line));
        for (found, line) in lines {
            let mut words = line.split_whitespace();
            match words.next().unwrap() {
                "make" => {
                    for word in words {
                        let exists = match word.split_once('=') {
                            Some((variable, _)) => {
                                makefile.contains(&format!("$({variable})"))
                                    || makefile.contains(&format!("${{{variable}"))
                            }
                            None => makefile.contains(&format!("\n{word}: ")),
                        };
                        assert!(exists, "{found}: {line}: {word}");
                    }
                }
                "lab/run" => {
                    let script = root().join("lab/run");
                    let plan = Command::new(script)
                        .arg("--plan")
                        .args(words)
                        .output()
                        .unwrap();
                    assert!(plan.status.success(), "{found}: {line}: {plan:?}");
                    assert!(!plan.stdout.is_empty(), "{found}: {line}: no case");
                }
                // For root; the lab's case of a Debian on a disk runs it.
                "sudo" => {
                    let script = words.next().unwrap();
                    let exists = script == "chown" || root().join(script).is_file();
                    assert!(exists, "{found}: {line}: {script}");
                }
                script @ ("lab/test" | "fuzz/run.sh") => {
                    let checked = Command::new("bash")
                        .arg("-n")
                        .arg(root().join(script))
                        .status();
                    assert!(checked.unwrap().success(), "{found}: {line}");
                }
                other => panic!("{found}: {line}: say here how {other} is tested"),
            }
        }
    }

    #[test]
    fn lines_are_found_in_blocks_and_sentences() {
        let page = "Use `make ci`, `pvh-vmm inspect FILE` or `pvh-vmm conform --json`.\n\
                    ```sh\nmake run   # boots\n# only a comment\npvh-vmm run a --cmdline \"x=#y\"\n```\n\
                    ```text\nmake no\n```\n";
        let want = [
            "make ci",
            "pvh-vmm conform --json",
            "make run",
            "pvh-vmm run a --cmdline \"x=#y\"",
        ];
        assert_eq!(commands(page), want);
    }
}
