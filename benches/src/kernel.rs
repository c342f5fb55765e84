//! The kernel for the measurements: a real one, if there is one.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use pvh_loader::Image;

use crate::guest::{HELLO, write_once};

/// Returns the path of an unpacked kernel.
///
/// It is `PVH_BENCH_KERNEL`, a `vmlinuz-6.12*` in the folder `PVH_TEST_KERNELS`, or the kernel that
/// the lab downloaded, unpacked into a temporary folder. If there is none, it is a file of the same
/// size that boots to its first instructions.
///
/// # Errors
///
/// If the kernel cannot be read, or the unpacked one cannot be written.
pub fn vmlinux() -> io::Result<PathBuf> {
    let dir = env::temp_dir().join("pvh-bench");
    fs::create_dir_all(&dir)?;
    let Some(packed) = packed() else {
        let path = dir.join("no-vmlinux.elf");
        write_once(&path, HELLO, SIZE)?;
        return Ok(path);
    };
    let image = Image::open(&packed).map_err(io::Error::other)?;
    let Some(bytes) = image.bytes() else {
        return Ok(packed);
    };
    let path = dir.join("vmlinux");
    if !is_same(&path, bytes) {
        fs::write(&path, bytes)?;
    }
    Ok(path)
}

/// Returns a packed kernel of a distribution, if there is one.
#[must_use]
pub fn packed() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PVH_BENCH_KERNEL") {
        return Some(path.into());
    }
    if let Some(dir) = env::var_os("PVH_TEST_KERNELS")
        && let Some(kernel) = newest(Path::new(&dir))
    {
        return Some(kernel);
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    let kernel = cache.join("pvh-lab/kernels/6.12-cloud/vmlinuz");
    kernel.is_file().then_some(kernel)
}

/// Returns the last Linux 6.12 of a folder, in the order of names.
fn newest(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let kernels = names.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("vmlinuz-6.12")
    });
    kernels.map(|entry| entry.path()).max()
}

fn is_same(path: &Path, bytes: &[u8]) -> bool {
    let len = File::open(path).and_then(|file| file.metadata());
    len.is_ok_and(|there| there.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|there| there == bytes)
}

/// About the size of Debian's cloud kernel 6.12.
const SIZE: usize = 57 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_folder_the_last_6_12_is_taken() {
        let dir = env::temp_dir().join(format!("pvh-bench-kernels-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(newest(&dir), None);
        for name in [
            "vmlinuz-6.12.1",
            "vmlinuz-6.12.2",
            "vmlinuz-6.1.9",
            "config-6.12.3",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(newest(&dir), Some(dir.join("vmlinuz-6.12.2")));
        fs::remove_dir_all(dir).unwrap();
    }
}
