//! The command line of `pvh-vmm`, which may name any files, sizes and devices.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use pvh_blkif::virtual_device;
use pvh_config::{
    CacheMode, Command, CommandLine, DiskArgument, LinkArgument, NetArgument, RunConfig,
    disk_names, network_addresses,
};

/// Reads a command line: up to 12 parts, each ended by a NUL, whose first byte says what it is: the
/// value of `--memory`, `--cpus`, `--disk`, `--net` or `--module`, or any other word.
///
/// # Panics
///
/// If a value is taken that a second reading refuses, or the other way round; if its meaning is
/// another; if two devices get one name or address; or if a refusal is more than one line.
pub fn args(bytes: &[u8]) {
    let mut words = vec![OsString::from("pvh-vmm"), OsString::from("run")];
    let mut wanted = Wanted::default();
    let (mut is_refused, mut is_known) = (false, true);
    let mut given = BTreeSet::new();
    for part in bytes.split(|byte| *byte == 0).take(12) {
        let Some((kind, value)) = part.split_first() else {
            continue;
        };
        let option = match kind {
            b'm' => "--memory=",
            b'c' => "--cpus=",
            b'd' => "--disk=",
            b'n' => "--net=",
            b'o' => "--module=",
            _ => {
                // clap's own rules for other words have no second reading here.
                is_known = false;
                words.push(OsString::from_vec(value.to_vec()));
                continue;
            }
        };
        // These two may be given once.
        let is_single = matches!(kind, b'm' | b'c');
        is_refused |= is_single && !given.insert(*kind);
        is_refused |= wanted.take(*kind, value).is_none();
        let mut word = option.as_bytes().to_vec();
        word.extend(value);
        words.push(OsString::from_vec(word));
    }
    let read = CommandLine::read(words, |path| path == Path::new("kernel"));
    let config = match read {
        CommandLine::Command(command) => match *command {
            Command::Run(arguments) => RunConfig::from(arguments),
            other => panic!("not run: {other:?}"),
        },
        CommandLine::Wrong(line) => {
            assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
            assert!(is_refused || !is_known, "refused without a reason: {line}");
            return;
        }
        CommandLine::Page(_) => return assert!(!is_known, "a page that nobody asked for"),
    };
    names_and_addresses(&config);
    if is_known {
        assert!(!is_refused, "taken, though a value is wrong: {config:?}");
        wanted.compare(&config);
    }
}

/// What the values mean by a second reading.
#[derive(Debug, Default)]
struct Wanted {
    memory_bytes: Option<u64>,
    cpus: Option<u32>,
    disks: Vec<DiskArgument>,
    networks: Vec<NetArgument>,
    modules: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Wanted {
    /// Reads a value; `None` if it is wrong.
    fn take(&mut self, kind: u8, value: &[u8]) -> Option<()> {
        match kind {
            b'm' => self.memory_bytes = Some(memory(value)?),
            b'c' => {
                let digits = value.strip_prefix(b"+").unwrap_or(value);
                let cpus = number(digits)?;
                self.cpus = Some(u32::try_from(cpus).ok().filter(|n| (1..=255).contains(n))?);
            }
            b'd' => self.disks.push(disk(value)?),
            b'n' => self.networks.push(network(value)?),
            _ => {
                let at = value.iter().position(|byte| *byte == b'=');
                let path = &value[..at.unwrap_or(value.len())];
                let cmdline = at.map(|at| value[at + 1..].to_vec());
                self.modules.push((path.to_vec(), cmdline));
                return (!path.is_empty()).then_some(());
            }
        }
        Some(())
    }

    fn compare(&self, config: &RunConfig) {
        assert_eq!(config.memory_bytes, self.memory_bytes.unwrap_or(512 << 20));
        assert_eq!(config.cpus, self.cpus.unwrap_or(1));
        assert_eq!(config.disks, self.disks);
        assert_eq!(config.networks, self.networks);
        let modules = config.modules.iter();
        let modules = modules.map(|module| {
            let path = module.path.as_os_str().as_bytes().to_vec();
            (path, module.cmdline.clone())
        });
        assert_eq!(modules.collect::<Vec<_>>(), self.modules);
    }
}

/// Every disk gets a name of its own, and every network an address of its own, or one of the rules
/// against that holds.
fn names_and_addresses(config: &RunConfig) {
    let asked: Vec<_> = config
        .disks
        .iter()
        .filter_map(|disk| disk.device.clone())
        .collect();
    let numbers: BTreeSet<_> = asked.iter().map(|(_, number)| *number).collect();
    let may = config.disks.len() <= 16 && numbers.len() == asked.len();
    let names = disk_names(&config.disks);
    assert_eq!(names.is_ok(), may, "{names:?}");
    let names = names.unwrap_or_default();
    let all: BTreeSet<_> = names.iter().map(|(_, number)| *number).collect();
    assert_eq!(all.len(), names.len(), "{names:?}");
    for (name, number) in names {
        assert_eq!(virtual_device(&name), Ok(number));
    }
    let asked: Vec<_> = config
        .networks
        .iter()
        .filter_map(|network| network.mac)
        .collect();
    let distinct: BTreeSet<_> = asked.iter().collect();
    let may = config.networks.len() <= 16 && distinct.len() == asked.len();
    let addresses = network_addresses(&config.networks, [0xFF; 3]);
    assert_eq!(addresses.is_ok(), may, "{addresses:?}");
    let addresses = addresses.unwrap_or_default();
    let all: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(all.len(), addresses.len(), "{addresses:?}");
    assert!(addresses.iter().all(|mac| mac[0] & 1 == 0), "{addresses:?}");
}

/// Digits alone, below 2^64.
fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0_u128;
    for digit in digits {
        number = number * 10 + u128::from(char::from(*digit).to_digit(10)?);
        if number >> 64 != 0 {
            return None;
        }
    }
    u64::try_from(number).ok().filter(|_| !digits.is_empty())
}

/// A number with a unit, or of at least 1 MiB without one.
fn memory(value: &[u8]) -> Option<u64> {
    let digits = value
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, unit) = value.split_at(digits);
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" => {
            return number(digits).filter(|bytes| *bytes >= 1 << 20);
        }
        b"k" | b"kb" | b"kib" => 1024_u128,
        b"m" | b"mb" | b"mib" => 1024 * 1024,
        b"g" | b"gb" | b"gib" => 1024 * 1024 * 1024,
        b"t" | b"tb" | b"tib" => 1024 * 1024 * 1024 * 1024,
        _ => return None,
    };
    let bytes = u128::from(number(digits)?) * factor;
    u64::try_from(bytes).ok().filter(|bytes| *bytes != 0)
}

/// The parts between single commas; two commas are one of the text.
fn parts(value: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut at = 0;
    while at < value.len() {
        let is_double = value[at..].starts_with(b",,");
        if value[at] == b',' && !is_double {
            parts.push(Vec::new());
        } else {
            parts.last_mut().expect("it has one").push(value[at]);
        }
        at += if is_double { 2 } else { 1 };
    }
    parts
}

fn disk(value: &[u8]) -> Option<DiskArgument> {
    let parts = parts(value);
    let (path, options) = parts.split_first()?;
    let mut disk = DiskArgument {
        path: OsString::from_vec(path.clone()).into(),
        is_read_only: false,
        is_raw: false,
        cache: CacheMode::Writeback,
        has_discard: true,
        device: None,
    };
    for option in options {
        match option.as_slice() {
            b"ro" => disk.is_read_only = true,
            b"format=raw" => disk.is_raw = true,
            b"discard=on" => disk.has_discard = true,
            b"discard=off" => disk.has_discard = false,
            b"cache=none" => disk.cache = CacheMode::None,
            b"cache=writeback" => disk.cache = CacheMode::Writeback,
            b"cache=unsafe" => disk.cache = CacheMode::Unsafe,
            other => {
                let name = String::from_utf8_lossy(other.strip_prefix(b"dev=")?).into_owned();
                let number = virtual_device(&name).ok()?;
                disk.device = Some((name, number));
            }
        }
    }
    (!path.is_empty()).then_some(disk)
}

fn network(value: &[u8]) -> Option<NetArgument> {
    let parts = parts(value);
    let (link, options) = parts.split_first()?;
    let link = if link == b"passt" {
        LinkArgument::Passt(Vec::new())
    } else if let Some(words) = link.strip_prefix(b"passt=") {
        let words = String::from_utf8_lossy(words).into_owned();
        LinkArgument::Passt(words.split_whitespace().map(String::from).collect())
    } else if let Some(path) = link.strip_prefix(b"socket=") {
        let path = OsString::from_vec(path.to_vec());
        LinkArgument::Socket(Some(path).filter(|path| !path.is_empty())?.into())
    } else {
        let name = link.strip_prefix(b"tap=")?;
        let is_taken = |byte: &u8| (0x21..0x7F).contains(byte) && !b"/:%".contains(byte);
        if !(1..16).contains(&name.len())
            || !name.iter().all(is_taken)
            || [&b"."[..], b".."].contains(&name)
        {
            return None;
        }
        LinkArgument::Tap(String::from_utf8(name.to_vec()).ok()?)
    };
    let mut mac = None;
    for option in options {
        mac = Some(address(option.strip_prefix(b"mac=")?)?);
    }
    Some(NetArgument { link, mac })
}

/// Twelve hexadecimal digits, a colon after each second one.
fn address(text: &[u8]) -> Option<[u8; 6]> {
    if text.len() != 17 {
        return None;
    }
    let mut mac = [0; 6];
    for (index, byte) in text.iter().enumerate() {
        if index % 3 == 2 {
            if *byte != b':' {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)?;
        mac[index / 3] = mac[index / 3] * 16 + u8::try_from(digit).ok()?;
    }
    (mac[0] % 2 == 0 && mac != [0; 6]).then_some(mac)
}
