//! Real kernels: every file in the directory that `PVH_TEST_KERNELS` names must be one that boots.

use std::{
    env,
    fs::{self, File},
};

use pvh_loader::{
    image::{Format, Image},
    inspect::inspect,
};

#[test]
#[ignore = "needs kernels: set PVH_TEST_KERNELS to a directory of them"]
fn every_real_kernel_has_an_entry_in_a_segment() {
    let directory = env::var_os("PVH_TEST_KERNELS").expect("PVH_TEST_KERNELS names a directory");
    let mut count = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let image =
            Image::open(&path).unwrap_or_else(|refused| panic!("{}: {refused:?}", path.display()));
        let entry = u64::from(image.entry());
        let inside = |segment: &pvh_elfnote::ProgramHeader| {
            (segment.paddr..segment.paddr + segment.mem_size).contains(&entry)
        };
        assert!(image.segments().iter().any(inside), "{}", path.display());
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("vmlinuz")
        {
            assert!(
                matches!(image.format(), Format::BzImage { .. }),
                "{}",
                path.display()
            );
        }
        count += 1;
    }
    assert!(count > 0, "the directory is empty");
}

#[test]
#[ignore = "needs kernels: set PVH_TEST_KERNELS to a directory of them"]
fn a_real_bzimage_cut_at_every_4_kib_of_its_payload_is_refused() {
    let directory = env::var_os("PVH_TEST_KERNELS").expect("PVH_TEST_KERNELS names a directory");
    let mut cuts = 0;
    for file in fs::read_dir(directory).unwrap() {
        let copy = tempfile::NamedTempFile::new().unwrap();
        fs::copy(file.unwrap().path(), copy.path()).unwrap();
        let Some(payload) = inspect(copy.path()).unwrap().payload else {
            continue;
        };
        let writer = File::options().write(true).open(copy.path()).unwrap();
        let end = payload.offset + payload.packed_bytes;
        for pages in (0..end.div_ceil(4096)).rev() {
            writer.set_len(pages * 4096).unwrap();
            assert!(Image::open(copy.path()).is_err(), "cut at {pages} pages");
            cuts += 1;
        }
    }
    assert!(cuts > 0, "no bzImage in the directory");
}
