//! The container file: it parses, and what it names exists. Nothing is built, for that takes an engine and a network.

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use parse_dockerfile::{Command, CopyInstruction, Instruction, Source, parse};

    /// What is wrong with the text of a container file.
    fn faults(text: &str) -> Vec<String> {
        let file = match parse(text) {
            Ok(file) => file,
            Err(error) => return vec![error.to_string()],
        };
        let mut found = Vec::new();
        let mut installed: Vec<&str> = Vec::new();
        for stage in file.stages() {
            installed.clear();
            for instruction in stage.instructions {
                match instruction {
                    Instruction::Copy(copy) => {
                        installed.push(&copy.dest.value);
                        found.extend(copy_fault(copy, |name| file.stage(name).is_some()));
                    }
                    Instruction::Entrypoint(entrypoint) => {
                        // An image without a shell cannot run the form of a shell.
                        let Command::Exec(words) = &entrypoint.arguments else {
                            found.push("ENTRYPOINT needs a shell".to_owned());
                            continue;
                        };
                        let program = &*words.value[0].value;
                        if !installed.contains(&program) {
                            found.push(format!("ENTRYPOINT: nothing copied {program}"));
                        }
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// What is wrong with a copy: the stage that it copies from, or the program's name.
    fn copy_fault(copy: &CopyInstruction<'_>, is_stage: impl Fn(&str) -> bool) -> Option<String> {
        let from = copy.options.iter().find(|flag| flag.name.value == "from")?;
        let from = &*from.value.as_ref()?.value;
        if !is_stage(from) {
            return Some(format!("COPY: no stage {from}"));
        }
        // `make release` makes this one.
        let is_made = |source: &Source<'_>| match source {
            Source::Path(path) => path.value == "/source/target/release/pvh-vmm",
            _ => false,
        };
        (!copy.src.iter().all(is_made)).then(|| "COPY: make release does not make it".to_owned())
    }

    fn read(name: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        fs::read_to_string(root.join(name)).unwrap()
    }

    #[test]
    fn the_container_file_parses_and_its_stages_and_program_exist() {
        assert_eq!(faults(&read("Containerfile")), [""; 0]);
    }

    #[test]
    fn the_compiler_of_the_image_is_the_oldest_that_is_supported() {
        let manifest = read("Cargo.toml");
        let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
        let version = rest.split('"').next().unwrap();
        let text = read("Containerfile");
        let file = parse(&text).unwrap();
        let image = file.stages().next().unwrap().from.image.value.clone();
        assert_eq!(
            image,
            format!("docker.io/library/rust:{version}-slim-bookworm")
        );
    }

    #[test]
    fn what_is_wrong_is_found() {
        let text = read("Containerfile");
        for (from, to, fault) in [
            ("--from=build", "--from=built", "no stage built"),
            (
                "\"/usr/bin/pvh-vmm\"]",
                "\"/pvh-vmm\"]",
                "nothing copied /pvh-vmm",
            ),
            ("[\"/usr/bin/pvh-vmm\"]", "pvh-vmm run", "needs a shell"),
            ("release/pvh-vmm /", "release/pvh /", "does not make it"),
            ("FROM scratch", "FORM scratch", "FORM"),
        ] {
            assert!(text.contains(from), "{from}");
            let found = faults(&text.replace(from, to)).join("; ");
            assert!(found.contains(fault), "{to}: {found}");
        }
    }
}
