//! What a build without codecs does: `cargo test -p pvh-loader --no-default-features`.

#![cfg(not(any(feature = "gzip", feature = "zstd")))]

use std::error::Error as _;

use pvh_loader::{Image, image::ImageError};
use pvh_testkit::{
    bzimage::bzimage,
    elf::{Class, Elf},
};

#[test]
fn a_plain_kernel_and_a_stored_payload_are_taken() {
    let elf = Elf::bootable(Class::Elf64, 0x10_0000).build();
    let image = Image::from_bytes(bzimage(&elf)).unwrap();
    assert_eq!(image.entry(), 0x10_0000);
    assert_eq!(Image::from_bytes(elf).unwrap().entry(), 0x10_0000);
}

#[test]
fn a_packed_kernel_is_refused_with_the_name_of_the_feature() {
    let zstd = bzimage(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0]);
    let gzip = [&[0x1f, 0x8b][..], &[0; 64]].concat();
    for (file, feature) in [(zstd, "zstd"), (gzip, "gzip")] {
        let refused = Image::from_bytes(file).unwrap_err();
        assert!(matches!(refused, ImageError::Unpack { .. }), "{refused}");
        let cause = refused.source().unwrap().to_string();
        assert!(cause.contains(&format!("`{feature}`")), "{cause}");
    }
}
