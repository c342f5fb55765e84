//! A process that serves a disk is killed in the middle of writes, again and again.
//!
//! The host lives on, so its page cache keeps what `pwritev` took. These tests show that no answer is
//! sooner than its write, that sectors are whole, and that the lock of a dead process is gone. What
//! a power cut does to a disk is up to `fdatasync`, which a flush calls.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;

/// Serves a guest that writes its stamps and prints each stamp once it is flushed, for ever. A test
/// only in the process that `every_flushed_write_survives_a_kill` starts.
#[test]
fn the_process_to_be_killed() {
    let Ok(words) = env::var(WRITER) else { return };
    let (first, path) = words.split_once(' ').unwrap();
    let mut machine = Machine::on(Path::new(path), |_| {});
    machine.publish();
    machine.grant(9, 1, 0x30);
    for stamp in first.parse::<u64>().unwrap().. {
        let sector = stamp % 16;
        machine.guest.put(0x3_0000, &stamp.to_le_bytes().repeat(64));
        assert_eq!(machine.request(1, sector, 1), 0);
        assert_eq!(machine.request(3, 0, 1), 0);
        println!("{FLUSHED}{stamp}");
    }
}

#[test]
fn every_flushed_write_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, [0; 16 * 512]).unwrap();
    let mut flushed: HashMap<u64, u64> = HashMap::new();
    let mut next_stamp = 1;
    for kill in 0..KILLS {
        let stamps = stamps_until_killed(&path, next_stamp, 1 + kill % 7);
        assert!(!stamps.is_empty(), "kill {kill}: nothing was written");
        flushed.extend(stamps.iter().map(|stamp| (stamp % 16, *stamp)));
        check(&path, &flushed);
        // Stamps of the next process are larger than any that this one may have written.
        next_stamp = stamps.last().unwrap() + 1000;
    }
}

/// Starts a process that writes from this stamp on, kills it after so many lines, and returns the
/// stamps that it printed.
fn stamps_until_killed(path: &Path, first: u64, lines: usize) -> Vec<u64> {
    let mut child = start(path, first);
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    // The harness prints lines, too, and the start of one with the first stamp.
    let stamp = |line: String| line.split_once(FLUSHED)?.1.parse::<u64>().ok();
    let mut stamps = Vec::new();
    let mut stamp_lines = said.by_ref().map_while(Result::ok).filter_map(stamp);
    stamps.extend(stamp_lines.by_ref().take(lines));
    child.kill().unwrap();
    // What it printed between the last line that was read and its death.
    stamps.extend(stamp_lines);
    assert!(!child.wait().unwrap().success());
    stamps
}

fn start(path: &Path, first: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("{}::the_process_to_be_killed", module()))
        .env(WRITER, format!("{first} {}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The path of these tests as the harness has it: without the crate's name.
fn module() -> &'static str {
    module_path!().split_once("::").unwrap().1
}

/// Checks that each sector is whole and has its last flushed stamp, or a later one.
fn check(path: &Path, flushed: &HashMap<u64, u64>) {
    // The lock of the killed process is gone.
    Image::open(path, &ImageOptions::default()).unwrap();
    let bytes = fs::read(path).unwrap();
    for (sector, content) in (0..).zip(bytes.chunks(512)) {
        let stamp = u64::from_le_bytes(content[..8].try_into().unwrap());
        assert!(
            content.chunks(8).all(|word| word == stamp.to_le_bytes()),
            "sector {sector}"
        );
        let least = flushed.get(&sector).copied().unwrap_or_default();
        assert!(
            stamp >= least,
            "sector {sector}: {stamp} is older than {least}"
        );
        assert!(
            stamp == 0 || stamp % 16 == sector,
            "sector {sector}: {stamp}"
        );
    }
}

/// The variable that makes a process the one to be killed: its first stamp and its disk.
const WRITER: &str = "PVH_TEST_DISK_WRITER";
/// What a stamp follows on standard output.
const FLUSHED: &str = "flushed: ";
const KILLS: usize = 50;
