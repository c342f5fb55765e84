//! The guest's console in a file and on a pseudo-terminal.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{BufRead, BufReader, Read, Write},
        path::Path,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use assert_cmd::cargo::cargo_bin;

    use super::guest::obedient;

    fn run(console: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .arg("60")
            .arg(cargo_bin("pvh-vmm"))
            .args(["run", "--memory", "64M", "--platform", "none"])
            .args(["--console", console])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    #[test]
    fn the_kernel_and_a_folder_are_no_file_for_the_console() {
        let (dir, kernel) = obedient();
        let before = fs::read(&kernel).unwrap();
        for path in [kernel.as_path(), dir.path()] {
            let console = format!("file:{}", path.display());
            let output = run(&console).arg(&kernel).output().unwrap();
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(output.status.code(), Some(2..=4)), "{line}");
            assert!(line.contains("--console"), "{line}");
        }
        assert_eq!(fs::read(&kernel).unwrap(), before);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_file_takes_the_output_and_nothing_reads_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        fs::write(&log, "of an earlier run").unwrap();
        let output = run(&format!("file:{}", log.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stdout, b"");
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("PVH demo: ok"), "{text}");
        assert!(!text.contains("earlier"), "{text}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn programs_come_and_go_at_a_pseudo_terminal_and_a_reboot_keeps_it() {
        let (_dir, kernel) = obedient();
        let mut child = run("pty")
            .arg(&kernel)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let name = line.trim().strip_prefix("pvh-vmm: console: ").unwrap();
        // Ctrl-A X is the guest's: it echoes everything but its own commands.
        for (typed, printed) in [(&b"\x01x\x03a"[..], &b"B\x01x\x03a"[..]), (b"Rb", b"Bb")] {
            let mut console = open(Path::new(name));
            console.write_all(&typed[..1]).unwrap();
            if typed[0] == b'R' {
                // What is typed before the guest is up again would be lost.
                let mut up = [0];
                console.read_exact(&mut up).unwrap();
                assert_eq!(&up, b"B");
                console.write_all(&typed[1..]).unwrap();
                let mut rest = [0];
                console.read_exact(&mut rest).unwrap();
                assert_eq!(rest, printed[1..]);
            } else {
                console.write_all(&typed[1..]).unwrap();
                let mut got = vec![0; printed.len()];
                console.read_exact(&mut got).unwrap();
                assert_eq!(got, printed);
            }
        }
        open(Path::new(name)).write_all(b"P").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_pseudo_terminal_that_nobody_opens_does_not_delay_the_end() {
        let began = Instant::now();
        let output = run("pty").stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }
}
