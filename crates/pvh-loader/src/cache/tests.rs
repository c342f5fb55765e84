//! The cache as its users see it.

use std::{
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    thread,
    time::Duration,
};

use pvh_testkit::elf::{Class, Elf, Note, Segment};
use tempfile::TempDir;

use super::*;

/// A bzImage with a payload as it is: an ELF with `byte` in it.
fn bzimage(byte: u8) -> Vec<u8> {
    let elf = Elf::new(Class::Elf64)
        .segment(Segment::load(0x10_0000, vec![byte; 0x2_0000]))
        .segment(Segment::notes(&[Note::entry(0x10_0000)]))
        .build();
    let mut file = vec![0; 1024];
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&u32::try_from(elf.len()).unwrap().to_le_bytes());
    file.extend(elf);
    file
}

struct Place {
    dir: TempDir,
    cache: Cache,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache")).unwrap();
        Self { dir, cache }
    }

    /// Writes a kernel that was not touched for a while.
    fn kernel(&self, name: &str, byte: u8) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bzimage(byte)).unwrap();
        path
    }

    /// Opens a kernel as if its file were old enough, and tells whether it came from a file, and
    /// its byte.
    fn open(&self, path: &Path) -> (bool, u8) {
        let file = File::open(path).unwrap();
        let key = Key::of(&file).unwrap();
        let opened = match self.cache.find(&key) {
            Some(image) => image.into(),
            None => self.cache.keep(&key, Image::open(path).unwrap().into()),
        };
        if let Some(pending) = opened.pending {
            pending.finish().unwrap();
        }
        let mut byte = [0];
        let segment = opened.image.segments()[0];
        opened.image.read_at(segment.offset, &mut byte).unwrap();
        (opened.image.bytes().is_none(), byte[0])
    }

    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.cache.dir).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

#[test]
fn a_kernel_is_kept_once_and_found_again() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    assert_eq!(place.open(&kernel), (true, 7)); // mapped from its entry at once
    let [name] = &place.names()[..] else {
        panic!("{:?}", place.names())
    };
    let entry = fs::metadata(place.cache.dir.join(name)).unwrap();
    assert_eq!(entry.permissions().mode() & 0o777, 0o400);
    fs::remove_file(&kernel).unwrap();
    assert_eq!(place.names().len(), 1);
}

#[test]
fn the_second_time_nothing_is_unpacked() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
    let found = place.cache.find(&key).unwrap();
    assert_eq!(found.entry(), 0x10_0000);
    assert!(found.bytes().is_none());
}

#[test]
fn a_kernel_that_has_changed_is_another() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    place.kernel("a", 8);
    assert_eq!(place.open(&kernel).1, 8);
    assert_eq!(place.names().len(), 2);
}

#[test]
fn a_folder_that_takes_no_kernel_is_told_of_and_the_kernel_is_opened() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
    fs::remove_dir(&place.cache.dir).unwrap();
    let opened = place.cache.keep(&key, Image::open(&kernel).unwrap().into());
    let unkept = opened.unkept.unwrap();
    assert!(
        matches!(&unkept, CacheError::Unkept { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{unkept:?}"
    );
    assert_eq!(opened.image.entry(), 0x10_0000);
}

#[test]
fn a_kernel_that_was_just_written_is_not_kept() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    let opened = place.cache.open(&kernel, &Limits::default()).unwrap();
    assert!(opened.image.bytes().is_some());
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn what_is_not_packed_is_not_kept() {
    let place = Place::new();
    let path = place.dir.path().join("elf");
    fs::write(&path, Elf::bootable(Class::Elf64, 0x10_0000).build()).unwrap();
    assert!(!is_packed(&File::open(&path).unwrap()));
    assert!(is_packed(&File::open(place.kernel("a", 7)).unwrap()));
    fs::write(&path, [0x1F; 0x300]).unwrap();
    assert!(!is_packed(&File::open(&path).unwrap()));
}

#[test]
fn a_damaged_entry_is_made_anew() {
    for damage in [0_u64, 1, 0x1_0000] {
        let place = Place::new();
        let kernel = place.kernel("a", 7);
        place.open(&kernel);
        let entry = place.cache.dir.join(&place.names()[0]);
        fs::set_permissions(&entry, PermissionsExt::from_mode(0o600)).unwrap();
        let file = File::options().write(true).open(&entry).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len.checked_sub(1).unwrap().min(damage))
            .unwrap();
        assert_eq!(place.open(&kernel), (true, 7), "cut to {damage:#x}");
    }
}

#[test]
fn an_entry_that_leads_elsewhere_is_not_followed() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    let entry = place.cache.dir.join(&place.names()[0]);
    let elsewhere = place.dir.path().join("elsewhere");
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
    assert!(place.cache.find(&key).is_none());
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let mut place = Place::new();
    let [a, b, c] = [("a", 1), ("b", 2), ("c", 3)].map(|(name, byte)| place.kernel(name, byte));
    for (kernel, age) in [(&a, 30), (&b, 60)] {
        place.open(kernel);
        let key = Key::of(&File::open(kernel).unwrap()).unwrap();
        let entry = File::open(place.cache.dir.join(key.name())).unwrap();
        let used = SystemTime::now()
            .checked_sub(Duration::from_secs(age))
            .unwrap();
        entry.set_modified(used).unwrap();
    }
    place.cache.limit_bytes = 0x5_0000; // two of them
    place.open(&c);
    let has = |kernel: &Path| {
        let key = Key::of(&File::open(kernel).unwrap()).unwrap();
        place.cache.dir.join(key.name()).exists()
    };
    assert_eq!([has(&a), has(&b), has(&c)], [true, false, true]);
}

#[test]
fn what_a_killed_run_has_left_goes_after_an_hour() {
    let place = Place::new();
    let left = |name: &str, age| {
        let mut file = File::create(place.cache.dir.join(name)).unwrap();
        file.write_all(b"half").unwrap();
        let then = SystemTime::now()
            .checked_sub(Duration::from_secs(age))
            .unwrap();
        file.set_modified(then).unwrap();
    };
    left("unfinished-1", 3700);
    left("unfinished-2", 60);
    left("something of the user's", 100_000);
    place.open(&place.kernel("a", 7));
    let names = place.names();
    assert!(!names.contains(&"unfinished-1".to_owned()));
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let refused = Cache::at(dir.path().to_owned()).unwrap_err();
    assert!(
        refused.to_string().ends_with("is not this user's alone"),
        "{refused}"
    );
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(Cache::at(file), Err(CacheError::Host { .. })));
}

#[test]
fn runs_that_keep_one_kernel_at_once_leave_one_entry() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| place.open(&kernel)))
            .collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), (true, 7));
        }
    });
    assert_eq!(place.names().len(), 1);
}
