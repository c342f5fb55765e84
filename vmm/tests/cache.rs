//! `pvh-vmm cache` from the outside.

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Output};

    use assert_cmd::Command;

    fn cache(folder: &Path, options: &[&str]) -> Output {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.arg("cache").arg("--cache").arg(folder);
        command.args(options).output().unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn an_empty_cache_is_listed_and_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        for (options, end) in [
            (&[][..], "0 kernels, 0 bytes of 1 GiB\n"),
            (&["--clear"], "removed 0 kernels, 0 bytes\n"),
        ] {
            let output = cache(&folder, options);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let page = text(&output.stdout);
            assert!(page.ends_with(end), "{page}");
            assert!(page.starts_with(folder.to_str().unwrap()), "{page}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_one_line_and_code_4() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let output = cache(&file, &[]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let told = text(&output.stderr);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(file.to_str().unwrap()), "{told}");
    }
}
