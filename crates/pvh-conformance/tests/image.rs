//! The images as files: what a loader will read of them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../build.rs"]
#[allow(dead_code, reason = "Cargo calls its main function")]
mod build;

use std::{env, fs, path::Path};

use object::{
    elf::{
        EM_386, EM_X86_64, ET_EXEC, FileHeader32, FileHeader64, PT_INTERP, PT_LOAD, PT_NOTE,
        ProgramHeader32, ProgramType,
    },
    endian::LittleEndian as Le,
    read::elf::{FileHeader as _, ProgramHeader as _},
};
use pvh_conformance::{
    compiler, conformance_image, demo_image, devices_image, draft_demo_image, fuzz_image,
    known::{KNOWN, judge},
    plain_image, plain_image_64, report_of_pvh_vmm, report_of_xen,
    tap::Tap,
};

/// The images; every test is about each.
fn images() -> [Image; 6] {
    let images = [
        demo_image(),
        draft_demo_image(),
        devices_image(),
        conformance_image(),
        fuzz_image(),
        plain_image(),
    ];
    images.map(Image)
}

#[derive(Clone, Copy)]
struct Image(&'static [u8]);

impl Image {
    fn header(self) -> &'static FileHeader32<Le> {
        FileHeader32::parse(self.0).unwrap()
    }

    fn segments(self, kind: ProgramType) -> impl Iterator<Item = &'static ProgramHeader32<Le>> {
        let all = self.header().program_headers(Le, self.0).unwrap();
        all.iter().filter(move |segment| segment.p_type(Le) == kind)
    }

    /// The descriptor of the only note: name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), 4 bytes.
    fn note_entry(self) -> u32 {
        let note = self.segments(PT_NOTE).next().unwrap();
        let mut notes = note.notes(Le, self.0).unwrap().unwrap();
        let note = notes.next().unwrap().unwrap();
        assert_eq!((note.name(), note.n_type(Le).0), (&b"Xen"[..], 18));
        assert!(notes.next().unwrap().is_none());
        u32::from_le_bytes(note.desc().try_into().unwrap())
    }
}

#[test]
fn the_image_is_a_static_32_bit_x86_executable() {
    for image in images() {
        assert_eq!(image.header().e_type(Le), ET_EXEC);
        assert_eq!(image.header().e_machine(Le), EM_386);
        assert_eq!(image.segments(PT_INTERP).count(), 0);
    }
}

#[test]
fn the_note_names_an_entry_in_the_code() {
    for image in images() {
        let entry = image.note_entry();
        assert_eq!(entry, image.header().e_entry(Le));
        let mut code = image
            .segments(PT_LOAD)
            .filter(|segment| segment.p_flags(Le).0 & EXECUTABLE != 0)
            .map(|segment| segment.p_paddr(Le)..segment.p_paddr(Le) + segment.p_filesz(Le));
        assert!(code.next().unwrap().contains(&entry));
        assert_eq!(code.next(), None);
    }
}

#[test]
fn no_segment_is_both_writable_and_executable() {
    let both = WRITABLE | EXECUTABLE;
    for image in images() {
        let mut segments = image.segments(PT_LOAD);
        assert!(segments.all(|segment| segment.p_flags(Le).0 & both != both));
    }
}

#[test]
fn segments_do_not_overlap_and_the_last_has_bytes_past_the_file_s() {
    for image in images() {
        let mut end = 0;
        for segment in image.segments(PT_LOAD) {
            assert!(segment.p_paddr(Le) >= end);
            end = segment.p_paddr(Le) + segment.p_memsz(Le);
        }
        assert!(end < 0x0020_0000, "ends at {end:#x}");
        let last = image.segments(PT_LOAD).last().unwrap();
        assert!(last.p_memsz(Le) > last.p_filesz(Le));
    }
}

/// Builds may be compared byte by byte: nothing of the machine that built it is inside.
#[test]
fn the_image_names_no_path_of_the_build() {
    let here = env!("CARGO_MANIFEST_DIR").as_bytes();
    for Image(bytes) in images() {
        assert!(!bytes.windows(here.len()).any(|window| window == here));
        assert!(!bytes.windows(6).any(|window| window == b"demo.c"));
    }
}

#[test]
fn the_plain_guest_as_elf64_has_the_segments_and_the_entry_of_the_elf32_file() {
    let (narrow, wide) = (Image(plain_image()), plain_image_64());
    let header = FileHeader64::<Le>::parse(wide).unwrap();
    assert_eq!(
        (header.e_type(Le), header.e_machine(Le)),
        (ET_EXEC, EM_X86_64)
    );
    let segments = header.program_headers(Le, wide).unwrap();
    let loads = segments
        .iter()
        .filter(|segment| segment.p_type(Le) == PT_LOAD);
    let loads: Vec<_> = loads.collect();
    let narrow_loads: Vec<_> = narrow.segments(PT_LOAD).collect();
    assert_eq!(loads.len(), narrow_loads.len());
    for (wide_load, load) in loads.iter().zip(narrow_loads) {
        assert_eq!(wide_load.p_paddr(Le), load.p_paddr(Le).into());
        assert_eq!(wide_load.p_memsz(Le), load.p_memsz(Le).into());
        assert_eq!(wide_load.p_align(Le), 0, "linux-loader takes no 4096");
    }
    let code = loads[0].data(Le, wide).unwrap();
    let narrow_code = narrow.segments(PT_LOAD).next().unwrap();
    assert_eq!(code.len(), narrow_code.data(Le, narrow.0).unwrap().len());
    let note = segments
        .iter()
        .find(|segment| segment.p_type(Le) == PT_NOTE);
    let mut notes = note.unwrap().notes(Le, wide).unwrap().unwrap();
    let note = notes.next().unwrap().unwrap();
    assert_eq!((note.name(), note.n_type(Le).0), (&b"Xen"[..], 18));
    let entry = u64::from_le_bytes(note.desc().try_into().unwrap());
    assert_eq!(entry, u64::from(narrow.note_entry()));
    assert_eq!(entry, header.e_entry(Le));
}

/// The size of the images that other projects download.
#[test]
fn the_plain_images_are_smaller_than_300_kib() {
    for image in [plain_image(), plain_image_64()] {
        assert!(image.len() < 300 * 1024, "{}", image.len());
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Two people who build the same commit with the same compiler may compare their files, and so may
/// who has a package, which holds the images built.
#[test]
fn a_build_in_another_folder_gives_the_same_bytes() {
    let here = build::compiler();
    if here.as_deref() != Ok(compiler()) {
        println!("not compared: built by {}, here is {here:?}", compiler());
        return;
    }
    let dir = env::temp_dir().join(format!("pvh-conformance-{}", std::process::id()));
    copy_folder(Path::new("guest"), &dir.join("sources"));
    build::build_all(&dir.join("sources"), &dir).unwrap();
    for (name, image) in pvh_conformance::images() {
        let built = fs::read(dir.join(name)).unwrap();
        assert!(built == image, "{name} was not built from these sources");
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_images_differ() {
    assert_ne!(demo_image(), draft_demo_image());
}

/// What the guest wants is what Xen answers: the stored report has no check that failed.
#[test]
fn xen_conforms_to_itself() {
    let tap = Tap::parse(report_of_xen()).unwrap();
    assert!(tap.is_complete());
    assert_eq!(tap.sums().failed, 0);
    assert!(tap.sums().ok > 1900);
}

/// Where the two stored reports differ, docs/conformance.md says why.
#[test]
fn every_difference_between_the_stored_reports_is_explained() {
    let [xen, ours] =
        [report_of_xen(), report_of_pvh_vmm()].map(|report| Tap::parse(report).unwrap());
    assert!(ours.is_complete());
    assert!(ours.sums().ok > 1800);
    let page = include_str!("../../../docs/conformance.md");
    for judged in judge(&xen, &ours) {
        assert!(judged.why.is_some(), "{}", judged.difference);
    }
    for known in KNOWN {
        assert!(
            page.contains(&format!("`{}", known.checks)),
            "{}",
            known.checks
        );
        assert!(page.contains(known.why), "{}", known.why);
    }
}

const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;
