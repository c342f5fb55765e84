//! The advice at the end of each error line, followed word for word until the guest boots.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        process::{Command, Stdio},
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use tempfile::TempDir;

    /// Powers off: mov dx, 0x605; mov al, 0x34; out dx, al.
    const POWER_OFF: &[u8] = b"\x66\xBA\x05\x06\xB0\x34\xEE";

    /// An image of `code` with `mem_size` bytes in memory.
    fn kernel(code: &[u8], mem_size: u64, notes: &[Note]) -> Vec<u8> {
        let notes = [&[Note::entry(0x10_0000)], notes].concat();
        Elf::new(Class::Elf64)
            .segment(Segment::load(0x10_0000, code).mem_size(mem_size))
            .segment(Segment::notes(&notes))
            .build()
    }

    /// A Linux that powers off at once. It has the two stubs that can be patched.
    fn linux() -> Vec<u8> {
        let mut code = vec![0xCC; 64];
        code[..7].copy_from_slice(POWER_OFF);
        code[16..20].copy_from_slice(b"\x0F\x01\xC1\xC3");
        code[32..36].copy_from_slice(b"\x0F\x01\xD9\xC3");
        kernel(&code, 64, &[Note::xen(6, *b"linux\0")])
    }

    /// A folder with the files of the cases.
    fn files() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut cpio = b"070701".to_vec();
        cpio.resize(200, b'0');
        for (name, bytes) in [
            ("kernel", kernel(POWER_OFF, 16, &[])),
            ("large", kernel(POWER_OFF, 64 << 20, &[])),
            ("linux", linux()),
            ("initramfs", cpio),
            ("config", b"text".to_vec()),
        ] {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let initrd = fs::File::create(dir.path().join("initrd")).unwrap();
        initrd.set_len(64 << 20).unwrap();
        dir
    }

    /// Runs in the folder; returns the exit code and what was said.
    fn run(dir: &Path, arguments: &[String]) -> (Option<i32>, String) {
        let output = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .arg("run")
            .args(arguments)
            .args(["--quiet", "--cache", "none"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), errors)
    }

    /// Gives an option another value, or adds it.
    fn set(arguments: &[String], option: &str, value: &str) -> Vec<String> {
        let mut changed = without(arguments, option);
        changed.extend([option.to_owned(), value.to_owned()]);
        changed
    }

    /// Leaves an option out, with its value if it has one.
    fn without(arguments: &[String], option: &str) -> Vec<String> {
        let mut left = arguments.to_vec();
        if let Some(at) = left.iter().position(|word| word == option) {
            left.remove(at);
            if left.get(at).is_some_and(|next| !next.starts_with("--")) {
                left.remove(at);
            }
        }
        left
    }

    fn value<'a>(arguments: &'a [String], option: &str) -> &'a str {
        let mut after = arguments.iter().skip_while(|word| *word != option).skip(1);
        after.next().unwrap()
    }

    /// The text between two others, as one word.
    fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
        let (_, rest) = line.split_once(before)?;
        let (found, _) = rest.split_once(after)?;
        (!found.contains(' ')).then_some(found)
    }

    /// A number with a unit, in bytes.
    fn bytes(size: &str) -> u64 {
        let digits = size.trim_end_matches(char::is_alphabetic);
        let shift = match size.strip_prefix(digits) {
            Some("K") => 10,
            Some("M") => 20,
            Some("T") => 40,
            _ => 0,
        };
        digits.parse::<u64>().unwrap() << shift
    }

    /// Each way out that a line names, followed.
    fn ways(line: &str, now: &[String]) -> Vec<Vec<String>> {
        let mut ways = Vec::new();
        let memory = |size: String| set(now, "--memory", &size);
        let says = |advice: &str| line.contains(advice);
        if let Some(mib) = between(line, "give the guest ", " MiB of RAM or more") {
            ways.push(memory(format!("{mib}M")));
        }
        if let Some(size) = between(line, "did you mean ", "?") {
            ways.push(memory(size.to_owned()));
        }
        if says("choose a larger --memory") {
            ways.push(memory(format!("{}K", bytes(value(now, "--memory")) >> 9)));
        }
        if says("choose a smaller --memory") {
            ways.push(memory(format!("{}K", bytes(value(now, "--memory")) >> 20)));
        }
        if says("must be a multiple of 4K") {
            let size = bytes(value(now, "--memory"));
            ways.push(memory(size.next_multiple_of(4096).to_string()));
        }
        if let Some(cpus) = between(line, "use --cpus ", " or fewer") {
            ways.push(set(now, "--cpus", cpus));
        }
        if let Some(cpus) = between(line, "a machine has ", " to 255 CPUs") {
            ways.push(set(now, "--cpus", cpus));
        }
        for platform in ["xen", "none"] {
            let advice = [";", ", or", " or", "; use", ", or use"];
            if advice
                .iter()
                .any(|word| says(&format!("{word} --platform {platform}")))
            {
                ways.push(set(now, "--platform", platform));
            }
        }
        if says("use --patch-hypercalls") {
            ways.push([now, &["--patch-hypercalls".to_owned()]].concat());
        }
        if let Some(option) = between(line, "leave ", " out") {
            ways.push(without(now, option));
        }
        if let Some(option) = between(line, "choose another file for ", "\n") {
            ways.push(set(now, option, "another"));
        }
        if says("give it as the initrd, after the kernel") {
            let rest = now[1..].to_vec();
            let files = ["kernel", "--initrd", &now[0]].map(str::to_owned);
            ways.push([&files[..], &rest].concat());
        }
        if let Some(option) = between(line, "argument exists: '", "'") {
            let similar = now.iter().map(|word| match word.starts_with("--memr") {
                true => option.to_owned(),
                false => word.clone(),
            });
            ways.push(similar.collect());
        }
        if says("a module needs a file: FILE or FILE=CMDLINE") {
            ways.push(set(now, "--module", "config=text"));
        }
        ways
    }

    /// Follows every way out until the guest boots; each may lead to other advice.
    fn follow(dir: &Path, arguments: &[String], depth: u32) {
        let (code, line) = run(dir, arguments);
        if code == Some(0) {
            return;
        }
        assert_eq!(line.lines().count(), 1, "{arguments:?}: {line}");
        let ways = ways(&line, arguments);
        assert!(
            !ways.is_empty(),
            "{arguments:?}: no advice to follow: {line}"
        );
        for way in ways {
            let deeper = depth.checked_sub(1);
            assert!(
                deeper.is_some() && way != arguments,
                "{arguments:?}: it leads nowhere: {line}"
            );
            follow(dir, &way, deeper.unwrap());
        }
    }

    /// What is asked for, and a word of its first refusal.
    const MISTAKES: [(&[&str], &str); 18] = [
        (&["large", "--memory", "32M"], "MiB of RAM or more"),
        (
            &["large", "--memory", "32M", "--initrd", "initrd"],
            "MiB of RAM or more",
        ),
        (
            &["kernel", "--memory", "32M", "--initrd", "initrd"],
            "MiB of RAM or more",
        ),
        (
            &["kernel", "--memory", "4K", "--platform", "none"],
            "larger --memory",
        ),
        (
            &["kernel", "--memory", "4K", "--platform", "xen"],
            "MiB of RAM or more",
        ),
        (&["kernel", "--memory", "512"], "did you mean 512M?"),
        (&["kernel", "--memory", "2000000"], "multiple of 4K"),
        (&["kernel", "--memory", "16777215T"], "smaller --memory"),
        (&["kernel", "--cpus", "0"], "1 to 255"),
        (
            &["kernel", "--cpus", "129", "--platform", "xen"],
            "use --cpus 128 or fewer, or --platform none",
        ),
        (
            &["kernel", "--platform", "none", "--record", "record"],
            "leave --record out",
        ),
        (
            &["kernel", "--platform", "none", "--disk", "initrd"],
            "leave --disk out",
        ),
        (
            &["kernel", "--patch-hypercalls"],
            "leave --patch-hypercalls out",
        ),
        (&["kernel", "--trace", "kernel"], "another file for --trace"),
        (
            &["kernel", "--record", ".", "--platform", "xen"],
            "another file for --record",
        ),
        (&["initramfs"], "as the initrd"),
        (&["kernel", "--memroy", "64M"], "'--memory'"),
        (&["kernel", "--module", "=text"], "a module needs a file"),
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_advice_leads_to_a_boot() {
        let dir = files();
        for (arguments, word) in MISTAKES {
            let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
            let (code, line) = run(dir.path(), &arguments);
            assert_ne!(code, Some(0), "{arguments:?}");
            assert!(line.contains(word), "{arguments:?}: {line}");
            follow(dir.path(), &arguments, 12);
        }
    }

    /// On a host that can catch its calls, this Linux boots as it is.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_linux_that_calls_bare_boots_by_the_ways_that_are_named() {
        let dir = files();
        let arguments = ["linux", "--platform", "xen"].map(str::to_owned).to_vec();
        let (code, line) = run(dir.path(), &arguments);
        if code == Some(0) {
            return;
        }
        assert!(
            line.contains("use --patch-hypercalls or --platform none"),
            "{line}"
        );
        follow(dir.path(), &arguments, 3);
    }
}
