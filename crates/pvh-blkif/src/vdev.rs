//! The number that the store has for a disk's name.

/// Why a name is no disk's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{name:?} is not a disk name: use xvda to xvdz or xvdaa and so on, with or without a partition number"
)]
#[non_exhaustive]
pub struct VdevError {
    /// The name that was given.
    pub name: String,
}

/// Returns the number of a disk, for `virtual-device` and for its folders in the store.
///
/// `xvda` to `xvdp` with partitions 0 to 15 have 202 << 8 | disk << 4 | partition, all others
/// 1 << 28 | disk << 8 | partition (docs/misc/vbd-interface, "format of virtual-device").
///
/// # Errors
///
/// [`VdevError`]: another prefix, no letters, or a number past the format's fields (disks below
/// 2^20, partitions below 256).
pub fn virtual_device(name: &str) -> Result<u32, VdevError> {
    number(name).ok_or_else(|| VdevError {
        name: name.chars().take(64).collect(),
    })
}

fn number(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("xvd")?;
    let letters_end = rest.find(|c: char| !c.is_ascii_lowercase());
    let (letters, digits) = rest.split_at(letters_end.unwrap_or(rest.len()));
    let disk = disk(letters)?;
    let partition = match digits {
        "" => 0,
        // "xvda0" and "xvda01" would be second names of others.
        digits if digits.starts_with('0') => return None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    if disk < 16 && partition < 16 {
        return Some(XVD_MAJOR << 8 | disk << 4 | partition);
    }
    (disk < 1 << 20 && partition < 256).then_some(1 << 28 | disk << 8 | partition)
}

/// a is 0, z is 25, aa is 26.
fn disk(letters: &str) -> Option<u32> {
    let mut count = 0_u32;
    for letter in letters.bytes() {
        let digit = u32::from(letter.checked_sub(b'a')?).checked_add(1)?;
        count = count.checked_mul(26)?.checked_add(digit)?;
    }
    count.checked_sub(1)
}

const XVD_MAJOR: u32 = 202;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_the_text() {
        let known = [
            ("xvda", 0xCA00),
            ("xvda1", 0xCA01),
            ("xvdb", 0xCA10),
            ("xvdp15", 0xCAFF),
            ("xvda16", 0x1000_0010),
            ("xvdq", 0x1000_1000),
            ("xvdz1", 0x1000_1901),
            ("xvdaa", 0x1000_1A00),
        ];
        for (name, want) in known {
            assert_eq!(virtual_device(name), Ok(want), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "xvd",
            "sda",
            "xvda0",
            "xvda01",
            "xvdA",
            "xvda256",
            "xvda1b",
            "xvd1",
            "xvdzzzzzz",
        ] {
            assert!(virtual_device(name).is_err(), "{name}");
        }
    }
}
