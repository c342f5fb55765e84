//! `pvh-vmm inspect` from the outside.

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use serde_json::{Value, json};

    /// Writes a file and returns what `inspect` printed on it, with its exit code.
    fn inspect(options: &[&str], bytes: &[u8]) -> (String, Option<i32>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        fs::write(&path, bytes).unwrap();
        inspect_path(options, &path)
    }

    fn inspect_path(options: &[&str], path: &Path) -> (String, Option<i32>) {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let output = command
            .arg("inspect")
            .args(options)
            .arg(path)
            .output()
            .unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.code(),
        )
    }

    fn kernel() -> Vec<u8> {
        Elf::new(Class::Elf32)
            .segment(Segment::load(0x10_0000, vec![0xf4; 64]))
            .segment(Segment::notes(&[Note::entry(0x10_0010)]))
            .build()
    }

    #[test]
    fn a_kernel_is_described_with_its_entry() {
        let (page, code) = inspect(&[], &kernel());
        assert_eq!(code, Some(0), "{page}");
        for line in [
            "ELF32",
            "LOAD rwx at 0x100000",
            "PHYS32_ENTRY = 0x100010",
            "entry       0x100010",
        ] {
            assert!(page.contains(line), "{line:?} is missing in:\n{page}");
        }
        assert!(
            page.ends_with("verdict     can boot through PVH\n"),
            "{page}"
        );
    }

    #[test]
    fn json_names_the_file_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        fs::write(&path, kernel()).unwrap();
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.args(["inspect", "--json", "-"]);
        let output = command.stdin(fs::File::open(&path).unwrap()).output();
        let output = output.unwrap();
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&value["file"], &value["bootable"]),
            (&json!("-"), &json!(true))
        );
    }

    #[test]
    fn json_is_one_object_with_numbers() {
        let (page, code) = inspect(&["--json"], &kernel());
        assert_eq!(code, Some(0));
        let value: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(value["entry"], json!(0x10_0010));
        assert_eq!(value["bootable"], json!(true));
        assert_eq!(value["elf"]["class"], json!(32));
        assert_eq!(value["elf"]["segments"][0]["paddr"], json!(0x10_0000));
        assert_eq!(value["elf"]["notes"][0]["name"], json!("PHYS32_ENTRY"));
        assert_eq!(value["why"], Value::Null);
    }

    /// The addresses of a kernel in the upper half, which lose their last bits as floating point.
    #[test]
    fn addresses_above_2_to_the_53_are_exact_as_strings() {
        let segment = Segment::load(0x10_0000, vec![0xf4; 0x22]);
        let segment = segment.with(|segment| segment.vaddr = 0xFFFF_FFFF_8010_0018);
        let elf = Elf::new(Class::Elf64)
            .segment(segment)
            .segment(Segment::notes(&[
                Note::entry64(0x10_0000),
                Note::reloc(&[]),
            ]))
            .build();
        let (page, code) = inspect(&["--json"], &elf);
        let value: Value = serde_json::from_str(&page).unwrap();
        assert_eq!((code, &value["schema"]), (Some(0), &json!(1)));
        let segment = &value["elf"]["segments"][0];
        assert_eq!(segment["vaddr_hex"], json!("0xffffffff80100018"));
        assert_eq!(segment["vaddr"], json!(0xFFFF_FFFF_8010_0018_u64));
        assert_eq!(segment["paddr_hex"], json!("0x100000"));
        assert_eq!(value["entry_hex"], json!("0x100000"));
        assert_eq!(value["elf"]["notes"][0]["value_hex"], json!("0x100000"));
        let relocation = &value["elf"]["relocation"];
        assert_eq!(relocation["max_hex"], json!("0xffffffff"));
    }

    /// Collects the keys of an object and of all objects in it.
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                found.push(key.clone());
                keys(value, found);
            }),
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_key_is_described_and_no_key_is_missing_in_another_object() {
        let page = include_str!("../../docs/inspect-json.md");
        let object = |path: &Path| -> Value {
            serde_json::from_str(&inspect_path(&["--json"], path).0).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        let notes = Segment::notes(&[Note::entry(0x10_0000), Note::reloc(&[])]);
        let elf = Elf::new(Class::Elf32).segment(Segment::load(0x10_0000, vec![0xf4; 64]));
        fs::write(&path, elf.segment(notes).build()).unwrap();
        let value = object(&path);
        let mut found = Vec::new();
        keys(&value, &mut found);
        assert!(found.len() > 30, "{found:?}");
        for key in found {
            assert!(page.contains(&format!("`{key}`")), "{key}");
        }
        let names = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&object(Path::new("/nonexistent"))), names(&value));
    }

    #[test]
    fn a_kernel_without_the_note_is_refused_and_the_fix_named() {
        let elf = Elf::new(Class::Elf64)
            .segment(Segment::load(0x10_0000, vec![0xf4; 64]))
            .build();
        let (page, code) = inspect(&[], &elf);
        assert_eq!(code, Some(3));
        assert!(
            page.contains("refused: the kernel has no PVH entry point"),
            "{page}"
        );
        assert!(page.contains("CONFIG_PVH=y"), "{page}");
        let (page, code) = inspect(&["--json"], &elf);
        let value: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(code, Some(3));
        assert_eq!(value["bootable"], json!(false));
        assert!(value["fix"].as_str().unwrap().contains("PHYS32_ENTRY"));
    }

    #[test]
    fn the_hypercall_stubs_are_told_in_text_and_in_json() {
        let mut code = vec![0xf4; 64];
        code[16..20].copy_from_slice(b"\x0f\x01\xc1\xc3");
        code[20..32].fill(0xcc);
        code[32..36].copy_from_slice(b"\x0f\x01\xd9\xc3");
        let elf = |code: Vec<u8>| {
            Elf::new(Class::Elf64)
                .segment(Segment::load(0x10_0000, code))
                .segment(Segment::notes(&[Note::entry(0x10_0000)]))
                .build()
        };
        let (page, _) = inspect(&[], &elf(code.clone()));
        let line =
            "hypercalls  without a hypercall page: VMCALL at 0x100010, VMMCALL at 0x100020\n";
        assert!(page.contains(line), "{page}");
        for word in [
            "KVM with Xen support",
            "--patch-hypercalls",
            "type 2 (executable)",
        ] {
            assert!(page.contains(word), "{word}: {page}");
        }
        let (page, _) = inspect(&["--json"], &elf(code.clone()));
        let value: Value = serde_json::from_str(&page).unwrap();
        let stubs = &value["hypercall_stubs"];
        assert_eq!(stubs["vmmcall"]["at"], json!(0x10_0020));
        assert_eq!(stubs["vmcall"]["at"], json!(0x10_0010));
        assert!(stubs["vmcall"]["offset"].is_u64());
        assert_eq!(value["hypercall_stubs_why"], Value::Null);

        code[32] = 0xf4; // no VMMCALL any more
        let (page, _) = inspect(&[], &elf(code.clone()));
        assert!(page.contains("hypercalls  the hypercall stub at"), "{page}");
        let (page, _) = inspect(&["--json"], &elf(code));
        let value: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(value["hypercall_stubs"], Value::Null);
        assert!(value["hypercall_stubs_why"].is_string());
    }

    #[test]
    fn a_file_that_is_not_there_is_refused_in_json_too() {
        let (page, code) = inspect_path(&["--json"], Path::new("/nonexistent/vmlinuz"));
        let value: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(code, Some(3));
        assert_eq!(value["bootable"], json!(false));
    }

    #[test]
    fn a_note_s_text_cannot_reach_the_terminal() {
        let os = Note::xen(6, b"\x1b[2Jlinux\n\0".to_vec());
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(0x10_0000, vec![0xf4; 64]))
            .segment(Segment::notes(&[os, Note::entry(0x10_0000)]))
            .build();
        let (page, _) = inspect(&[], &elf);
        assert!(!page.contains('\x1b'), "{page:?}");
    }
}
