//! `pvh-vmm cache` from the outside.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{DirBuilderExt, PermissionsExt},
        path::Path,
        process::Output,
    };

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
    fn a_folder_that_is_not_there_is_told_of_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        for options in [&[][..], &["--clear"]] {
            let output = cache(&folder, options);
            assert_eq!(output.status.code(), Some(3), "{output:?}");
            let told = text(&output.stderr);
            assert_eq!(
                told,
                format!(
                    "pvh-vmm: {}: no cache: this folder does not exist\n",
                    folder.display()
                )
            );
            assert!(!folder.exists());
        }
        // The user's own cache, before the first run.
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.arg("cache").env("XDG_CACHE_HOME", dir.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains("no cache yet"), "{output:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn none_is_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.args(["cache", "--cache", "none"]);
        let output = command.current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = text(&output.stderr);
        assert!(told.contains("--cache none turns the cache off"), "{told}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Only the names count: without a marker, a folder with such names is a new cache.
    #[test]
    fn a_cache_is_listed_and_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        let kept = fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(folder.join("unpacked"));
        kept.unwrap();
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
        let unpacked = fs::read_dir(folder.join("unpacked")).unwrap();
        assert_eq!(unpacked.count(), 0, "looking writes nothing");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let output = cache(dir.path(), &[]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let told = text(&output.stderr);
        let fix = format!("chmod go-w {}\n", dir.path().display());
        assert!(told.ends_with(&fix), "{told}");
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
