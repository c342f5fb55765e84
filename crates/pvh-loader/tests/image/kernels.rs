//! Real kernels: every file in the directory that `PVH_TEST_KERNELS` names must be one that boots.

use std::{env, fs};

use pvh_loader::image::{Format, Image};

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
