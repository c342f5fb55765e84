//! The memory of a process, mapping by mapping.

use std::{fs, io, path::Path};

use crate::guest::PLACE;

/// Sums over mappings, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "sums")]
pub struct Usage {
    /// Resident memory.
    pub rss: f64,
    /// Resident memory, each page divided by the number of processes that share it.
    pub pss: f64,
    /// Memory that no other process has.
    pub private: f64,
    /// Memory that was written, so that no file has it.
    pub dirty: f64,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq)]
struct Mapping {
    start: u64,
    end: u64,
    name: String,
    usage: Usage,
}

/// Returns the memory of process `pid`.
///
/// # Errors
///
/// If the process cannot be read.
pub fn usage(pid: u32) -> io::Result<Usage> {
    Ok(sum(&parse(&read(pid)?)))
}

/// Returns the memory of process `pid` without the RAM of its guest. The RAM has `ram_bytes`, and
/// `file`, an image of [`crate::guest`], is mapped into it.
///
/// # Errors
///
/// If the process cannot be read, or no such RAM is found.
pub fn usage_beside_ram(pid: u32, ram_bytes: u64, file: &str) -> io::Result<Usage> {
    let mappings = parse(&read(pid)?);
    let ram = find_ram(&mappings, ram_bytes, file);
    let (start, end) = ram.ok_or_else(|| io::Error::other("no guest RAM found in smaps"))?;
    // A mapping that is only partly in RAM has something else in it, so it counts.
    let beside = mappings
        .into_iter()
        .filter(|mapping| mapping.start < start || mapping.end > end);
    Ok(sum(&beside.collect::<Vec<_>>()))
}

fn read(pid: u32) -> io::Result<String> {
    fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps"))
}

fn sum(mappings: &[Mapping]) -> Usage {
    mappings
        .iter()
        .fold(Usage::default(), |sum, mapping| Usage {
            rss: sum.rss + mapping.usage.rss,
            pss: sum.pss + mapping.usage.pss,
            private: sum.private + mapping.usage.private,
            dirty: sum.dirty + mapping.usage.dirty,
        })
}

/// Finds the RAM: `file` is mapped at [`PLACE`] in it.
fn find_ram(mappings: &[Mapping], len: u64, file: &str) -> Option<(u64, u64)> {
    let kernel = mappings
        .iter()
        .find(|mapping| mapping.name.ends_with(file))?;
    let start = kernel.start.checked_sub(PLACE as u64)?;
    Some((start, start.checked_add(len)?))
}

/// Reads the lines of the file: a line with addresses starts a mapping, the others describe it.
fn parse(text: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(mapping) = header(line) {
            mappings.push(mapping);
        } else if let (Some(mapping), Some((name, mib))) = (mappings.last_mut(), amount(line)) {
            let usage = &mut mapping.usage;
            match name {
                "Rss" => usage.rss += mib,
                "Pss" => usage.pss += mib,
                "Private_Clean" => usage.private += mib,
                "Private_Dirty" => {
                    usage.private += mib;
                    usage.dirty += mib;
                }
                "Shared_Dirty" => usage.dirty += mib,
                _ => {}
            }
        }
    }
    mappings
}

/// `start-end permissions offset device inode name`.
fn header(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let name = rest
        .split_whitespace()
        .skip(4)
        .collect::<Vec<_>>()
        .join(" ");
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        name,
        usage: Usage::default(),
    })
}

/// `name:  number kB`.
fn amount(line: &str) -> Option<(&str, f64)> {
    let (name, amount) = line.split_once(':')?;
    let kib: f64 = amount.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some((name, kib / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-2000 rw-p 00000000 00:00 0
Rss:                1024 kB
Pss:                1024 kB
Private_Clean:         0 kB
Private_Dirty:      1024 kB
2000-3000 rw-p 00001000 fe:00 77     /a/kernel.elf
Rss:                2048 kB
Pss:                1024 kB
Shared_Clean:       2048 kB
3000-5000 rw-p 00000000 00:00 0
Rss:                 512 kB
Private_Dirty:       512 kB
VmFlags: rd wr
7f00-8000 r-xp 00000000 fe:00 78     /bin/vmm (deleted)
Rss:                 256 kB
Pss:                  64 kB
Shared_Clean:        256 kB
";

    #[test]
    fn every_mapping_is_read_with_its_amounts() {
        let mappings = parse(SMAPS);
        let names: Vec<_> = mappings.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["", "/a/kernel.elf", "", "/bin/vmm (deleted)"]);
        let all = sum(&mappings);
        assert_eq!((all.rss, all.private, all.dirty), (3.75, 1.5, 1.5));
        assert_eq!(all.pss, 2.0625);
    }

    #[test]
    fn the_ram_lies_around_the_kernel() {
        let mapping = |start, end, name: &str| Mapping {
            start,
            end,
            name: name.into(),
            usage: Usage::default(),
        };
        let mappings = [
            mapping(0x1000, 0x2000, ""),
            mapping(0x30_0000, 0x40_0000, "/a/kernel.elf"),
        ];
        let found = find_ram(&mappings, 0x50_0000, "kernel.elf");
        assert_eq!(found, Some((0x20_0000, 0x70_0000)));
        assert_eq!(find_ram(&mappings, 0x50_0000, "other"), None);
    }

    #[test]
    fn this_process_has_some_memory() {
        assert!(usage(std::process::id()).unwrap().rss > 0.1);
    }
}
