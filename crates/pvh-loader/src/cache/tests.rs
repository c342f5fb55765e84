//! The cache as its users see it.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

use std::{
    fs::FileTimes,
    os::unix::fs::{PermissionsExt, symlink},
    thread,
    time::Duration,
};

use nix::{sys::stat::Mode, unistd::mkfifo};

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

    /// Opens a kernel as if its file were old enough. Tells whether it is in a file of the cache,
    /// and returns its byte.
    fn open(&self, path: &Path) -> (bool, u8) {
        let key = Key::of(&File::open(path).unwrap()).unwrap();
        let opened = match self.cache.find(&key) {
            Found::Kernel(image) => (*image).into(),
            Found::Foreign => Image::open(path).unwrap().into(),
            _ => self.cache.keep(&key, Image::open(path).unwrap().into()),
        };
        if let Some(pending) = opened.pending {
            pending.finish().unwrap();
        }
        let mut byte = [0];
        let segment = opened.image.segments()[0];
        opened.image.read_at(segment.offset, &mut byte).unwrap();
        (opened.image.bytes().is_none(), byte[0])
    }

    /// The path of a kernel's entry.
    fn entry(&self, kernel: &Path) -> PathBuf {
        self.cache
            .path(&Key::of(&File::open(kernel).unwrap()).unwrap())
    }

    /// The names in the sub-folder, without the marker.
    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.cache.entries).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "CACHEDIR.TAG").collect()
    }
}

/// Sets when a file was last used.
fn set_used(path: &Path, seconds_ago: u64) {
    let used = SystemTime::now().checked_sub(Duration::from_secs(seconds_ago));
    let times = FileTimes::new().set_accessed(used.unwrap());
    File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn a_kernel_is_cached_once_and_found_again() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    assert_eq!(place.open(&kernel), (true, 7)); // mapped from its entry at once
    let [name] = &place.names()[..] else {
        panic!("{:?}", place.names())
    };
    let entry = fs::metadata(place.cache.entries.join(name)).unwrap();
    assert_eq!(entry.permissions().mode() & 0o777, 0o400);
    assert_eq!(name::kind(name), Some(name::Kind::Entry));
    fs::remove_file(&kernel).unwrap();
    assert_eq!(place.names().len(), 1);
}

#[test]
fn the_second_time_nothing_is_unpacked() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
    let Found::Kernel(found) = place.cache.find(&key) else {
        panic!("no entry")
    };
    assert_eq!(found.entry(), 0x10_0000);
    assert!(found.bytes().is_none());
}

#[test]
fn a_changed_kernel_gets_a_new_entry() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    place.kernel("a", 8);
    assert_eq!(place.open(&kernel).1, 8);
    assert_eq!(place.names().len(), 2);
}

#[test]
fn a_folder_that_takes_no_kernel_is_reported_and_the_kernel_opens() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
    fs::remove_dir_all(&place.cache.entries).unwrap();
    let opened = place.cache.keep(&key, Image::open(&kernel).unwrap().into());
    let unkept = opened.unkept.unwrap();
    assert!(
        matches!(&unkept, CacheError::Unkept { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{unkept:?}"
    );
    assert_eq!(opened.image.entry(), 0x10_0000);
}

#[test]
fn a_kernel_that_was_just_written_is_not_cached() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    let opened = place.cache.open(&kernel, &Limits::default()).unwrap();
    assert!(opened.image.bytes().is_some());
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn an_unpacked_kernel_is_not_cached() {
    let place = Place::new();
    let path = place.dir.path().join("elf");
    fs::write(&path, Elf::bootable(Class::Elf64, 0x10_0000).build()).unwrap();
    assert!(!is_packed(&File::open(&path).unwrap()));
    assert!(is_packed(&File::open(place.kernel("a", 7)).unwrap()));
    fs::write(&path, [0x1F; 0x300]).unwrap();
    assert!(!is_packed(&File::open(&path).unwrap()));
}

/// Changes an entry in place.
fn damage(entry: &Path, change: impl FnOnce(&File)) {
    fs::set_permissions(entry, PermissionsExt::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(entry);
    change(&file.unwrap());
    fs::set_permissions(entry, PermissionsExt::from_mode(0o400)).unwrap();
}

#[test]
fn a_truncated_entry_is_unpacked_anew() {
    for keep in [0_u64, 1, 0x1_0000, u64::MAX] {
        let place = Place::new();
        let kernel = place.kernel("a", 7);
        place.open(&kernel);
        damage(&place.entry(&kernel), |file| {
            let len = file.metadata().unwrap().len();
            file.set_len(len.checked_sub(1).unwrap().min(keep)).unwrap();
        });
        assert_eq!(place.open(&kernel), (true, 7), "cut to {keep:#x}");
    }
}

#[test]
fn a_write_anywhere_into_an_entry_is_found_by_its_time() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    for offset in [0x1_8000, 0x1_8001] {
        let entry = place.entry(&kernel);
        damage(&entry, |file| file.write_all_at(b"x", offset).unwrap());
        let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
        assert!(matches!(place.cache.find(&key), Found::Damaged));
        assert!(!entry.exists());
        assert_eq!(place.open(&kernel), (true, 7), "at {offset:#x}");
    }
}

/// Damage by a disk does not change the time of a file.
#[test]
fn damage_of_headers_notes_samples_or_trailer_is_found_by_checksums() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    let len = fs::metadata(place.entry(&kernel)).unwrap().len();
    let trailer = (1..=48).map(|back| len.checked_sub(back).unwrap());
    let last_page = len.checked_sub(48 + 4096).unwrap();
    for offset in (0..0x200).chain([0xFFFF, last_page]).chain(trailer) {
        let entry = place.entry(&kernel);
        let modified = fs::metadata(&entry).unwrap().modified().unwrap();
        damage(&entry, |file| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
            file.set_modified(modified).unwrap();
        });
        let key = Key::of(&File::open(&kernel).unwrap()).unwrap();
        let found = place.cache.find(&key);
        assert!(matches!(found, Found::Damaged), "{offset:#x}: {found:?}");
        assert_eq!(place.open(&kernel), (true, 7), "{offset:#x}");
    }
}

#[test]
fn an_entry_under_the_name_of_another_is_not_taken() {
    let place = Place::new();
    let [a, b] = [("a", 1), ("b", 2)].map(|(name, byte)| place.kernel(name, byte));
    place.open(&a);
    fs::rename(place.entry(&a), place.entry(&b)).unwrap();
    assert_eq!(place.open(&b), (true, 2));
}

#[test]
fn only_files_count_as_entries_of_the_cache() {
    let place = Place::new();
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    let (entry, elsewhere) = (place.entry(&kernel), place.dir.path().join("elsewhere"));
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    assert_eq!(place.open(&kernel), (false, 7));
    assert!(fs::symlink_metadata(&entry).unwrap().is_symlink());
    fs::remove_file(&entry).unwrap();
    mkfifo(&entry, Mode::S_IRUSR).unwrap(); // opening it does not wait
    assert_eq!(place.open(&kernel), (false, 7));
    assert!(entry.exists());
}

#[test]
fn the_least_recently_used_entry_is_removed_first() {
    let mut place = Place::new();
    let [a, b, c] = [("a", 1), ("b", 2), ("c", 3)].map(|(name, byte)| place.kernel(name, byte));
    for (kernel, age) in [(&a, 30), (&b, 60)] {
        place.open(kernel);
        set_used(&place.entry(kernel), age);
    }
    place.cache.limit_bytes = 0x5_0000; // two of them
    place.open(&c);
    let has = [&a, &b, &c].map(|kernel| place.entry(kernel).exists());
    assert_eq!(has, [true, false, true]);
}

#[test]
fn files_of_others_are_neither_removed_nor_counted() {
    let mut place = Place::new();
    place.cache.limit_bytes = 0x3_0000; // one of them
    let (dir, entries) = (place.cache.dir.clone(), place.cache.entries.clone());
    let names = [
        "vmlinux.elf",
        "unfinished-1",
        "pvh2-1.elf",
        "pvh2-1-00000000.elf",
        "pvh2-2.tmp",
    ];
    let theirs: Vec<_> = [dir, entries]
        .iter()
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .collect();
    for path in &theirs {
        fs::write(path, vec![1; 0x4_0000]).unwrap();
        set_used(path, 100_000);
    }
    let kernel = place.kernel("a", 7);
    place.open(&kernel);
    place.open(&place.kernel("b", 8));
    assert!(!place.entry(&kernel).exists());
    for path in &theirs {
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn a_temporary_file_is_removed_as_soon_as_its_writer_is_gone() {
    let place = Place::new();
    let left = place.cache.entries.join(name::temporary(1));
    fs::write(&left, b"half").unwrap();
    let (writing, _file) = file::write(&place.cache.entries, |_| Ok(())).unwrap();
    assert_eq!(place.names().len(), 2);
    place.open(&place.kernel("a", 7));
    assert!(!left.exists());
    assert_eq!(place.names().len(), 2, "{:?}", place.names());
    drop(writing);
    assert_eq!(place.names().len(), 1);
}

#[test]
fn temporary_files_of_other_processes_count_towards_the_limit() {
    let mut place = Place::new();
    let [a, b] = [("a", 1), ("b", 2)].map(|(name, byte)| place.kernel(name, byte));
    place.cache.limit_bytes = 0x5_0000; // two of them
    place.open(&a);
    let write = |file: &mut File| file.set_len(0x2_0000);
    let _writing = file::write(&place.cache.entries, write).unwrap();
    place.open(&b);
    assert!(!place.entry(&a).exists() && place.entry(&b).exists());
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let refused = Cache::at(dir.path().to_owned()).unwrap_err();
    let fix = format!(
        "is not this user's alone: chmod go-w {}",
        dir.path().display()
    );
    assert!(refused.to_string().ends_with(&fix), "{refused}");
    let inside = Cache::at(dir.path().join("inside")).unwrap_err();
    assert!(matches!(inside, CacheError::UnsafeParent { .. }));
    let deep = Cache::at(dir.path().join("a/b")).unwrap_err();
    assert!(matches!(deep, CacheError::UnsafeParent { .. }));
    let made = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(made, 0, "a folder that is refused is not made");
    // Nobody else can rename what is this user's in a sticky folder.
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    Cache::at(dir.path().join("inside")).unwrap();
}

#[test]
fn a_cache_is_found_and_nothing_is_made_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cache");
    let find = || Cache::find_at(folder.clone());
    assert_eq!(find().unwrap(), None);
    assert!(!folder.exists());
    let made = Cache::at(folder.clone()).unwrap();
    assert_eq!(find().unwrap(), Some(made.clone()));
    fs::write(made.entries.join("foreign"), b"").unwrap();
    assert_eq!(find().unwrap(), Some(made.clone()), "it has its marker");
    fs::remove_file(made.entries.join("CACHEDIR.TAG")).unwrap();
    assert!(matches!(find(), Err(CacheError::NotMadeHere { .. })));
    fs::remove_file(made.entries.join("foreign")).unwrap();
    assert_eq!(find().unwrap(), Some(made.clone()));
    assert_eq!(fs::read_dir(&made.entries).unwrap().count(), 0);
    fs::remove_dir(&made.entries).unwrap();
    assert_eq!(find().unwrap(), None);
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(find(), Err(CacheError::Writable { .. })));
    symlink(&folder, dir.path().join("link")).unwrap();
    let link = Cache::find_at(dir.path().join("link"));
    assert!(matches!(link, Err(CacheError::NotAFolder { .. })));
}

#[test]
fn links_fifos_and_files_are_no_folders() {
    let dir = tempfile::tempdir().unwrap();
    let [file, link, fifo] = ["file", "link", "fifo"].map(|name| dir.path().join(name));
    fs::write(&file, b"").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    symlink(dir.path().join("folder"), &link).unwrap();
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    for path in [&file, &link, &fifo] {
        let refused = Cache::at(path.clone()).unwrap_err();
        assert!(
            matches!(refused, CacheError::NotAFolder { .. }),
            "{refused}"
        );
        let home = tempfile::tempdir().unwrap();
        fs::rename(path, home.path().join("unpacked")).unwrap();
        let refused = Cache::at(home.path().to_owned()).unwrap_err();
        assert!(
            matches!(refused, CacheError::NotAFolder { .. }),
            "{refused}"
        );
    }
}

#[test]
fn a_sub_folder_that_this_cache_did_not_make_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let entries = dir.path().join("unpacked");
    fs::create_dir(&entries).unwrap();
    fs::write(entries.join("vmlinux.elf"), b"mine").unwrap();
    let refused = Cache::at(dir.path().to_owned()).unwrap_err();
    assert!(matches!(refused, CacheError::NotMadeHere { .. }));
    // An empty one, or one that a process left before it wrote the marker, is taken.
    fs::rename(
        entries.join("vmlinux.elf"),
        entries.join(name::temporary(1)),
    )
    .unwrap();
    Cache::at(dir.path().to_owned()).unwrap();
    fs::write(entries.join("vmlinux.elf"), b"mine").unwrap();
    Cache::at(dir.path().to_owned()).unwrap();
    fs::remove_file(entries.join("CACHEDIR.TAG")).unwrap();
    fs::write(entries.join("CACHEDIR.TAG"), b"of something else").unwrap();
    let refused = Cache::at(dir.path().to_owned()).unwrap_err();
    assert!(matches!(refused, CacheError::NotMadeHere { .. }));
}

#[test]
fn processes_that_cache_one_kernel_at_once_leave_one_entry() {
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

#[test]
fn entries_are_listed_and_cleared_and_other_files_stay() {
    let place = Place::new();
    assert_eq!(place.cache.entries().unwrap(), []);
    let kernel = place.kernel("a", 7);
    let entry = place.entry(&kernel);
    assert!(place.open(&kernel).0);
    let other = place.cache.entries_dir().join("other");
    fs::write(&other, b"other").unwrap();
    let listed = place.cache.entries().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].path, listed[0].len_bytes > 0x2_0000),
        (&entry, true)
    );
    assert_eq!(place.cache.clear().unwrap(), listed);
    assert!(!entry.exists() && other.exists());
    assert_eq!(place.cache.clear().unwrap(), []);
    assert!(place.open(&kernel).0, "it is kept again");
}
