//! One disk of xl (xl-disk-configuration(5)) as a value of `--disk`.

use std::ffi::OsString;

use super::super::ConfigFault;

#[derive(Default)]
struct Disk {
    target: Option<String>,
    format: Option<String>,
    device: Option<String>,
    access: Option<String>,
}

/// Translates `target, format, vdev, access`, in this order or with names.
pub(super) fn option(text: &str) -> Result<OsString, ConfigFault> {
    let mut disk = Disk::default();
    let mut rest = text;
    let mut place = 0_usize;
    loop {
        let (part, after) = rest
            .split_once(',')
            .map_or((rest, None), |(part, after)| (part, Some(after)));
        let part_text = part.trim();
        if part_text.starts_with("target=") {
            // It is the last one, and all that follows belongs to it.
            let target = rest
                .trim_start()
                .strip_prefix("target=")
                .unwrap_or_default();
            disk.target = Some(target.to_owned());
            break;
        }
        disk.set(part_text, &mut place)?;
        match after {
            Some(after) => rest = after,
            None => break,
        }
    }
    disk.value()
}

impl Disk {
    fn set(&mut self, part: &str, place: &mut usize) -> Result<(), ConfigFault> {
        match part.split_once('=') {
            Some(("format", value)) => self.format = Some(value.to_owned()),
            Some(("vdev", value)) => self.device = Some(value.to_owned()),
            Some(("access", value)) => self.access = Some(value.to_owned()),
            // Who serves the disk, and how, is not the guest's business.
            Some(("backendtype" | "backend", _)) => {}
            _ if matches!(part, "discard" | "no-discard" | "direct-io-safe") => {}
            Some((key, _)) if key.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                return Err(unserved(format!("a disk's '{part}' is not served")));
            }
            _ if part == "cdrom" => return Err(unserved(CDROM.to_owned())),
            _ => self.set_next(part, place)?,
        }
        Ok(())
    }

    /// Takes a part without a name: what it is depends on its place.
    fn set_next(&mut self, part: &str, place: &mut usize) -> Result<(), ConfigFault> {
        let mut part = part;
        if *place == 0 {
            let [is_old, target] = old_target(part);
            if !is_old.is_empty() {
                // The old form has no place for the format.
                self.format = Some("raw".to_owned());
                part = target;
            }
        } else if *place == 1 && self.format.is_some() {
            *place = 2;
        }
        if *place == 2 && part.ends_with(":cdrom") {
            return Err(unserved(CDROM.to_owned()));
        }
        let field = match *place {
            0 => &mut self.target,
            1 => &mut self.format,
            2 => &mut self.device,
            3 => &mut self.access,
            _ => {
                return Err(unserved(format!(
                    "'{part}' is one field too many for a disk"
                )));
            }
        };
        if !part.is_empty() {
            *field = Some(part.to_owned());
        }
        *place = place.saturating_add(1);
        Ok(())
    }

    fn value(self) -> Result<OsString, ConfigFault> {
        let target = self.target.filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| unserved("a disk has no target".to_owned()))?;
        let mut value = target.replace(',', ",,");
        match self.access.as_deref() {
            None | Some("w" | "rw") => {}
            Some("r" | "ro") => value.push_str(",ro"),
            Some(other) => {
                return Err(unserved(format!(
                    "a disk's access is r, ro, w or rw, not '{other}'"
                )));
            }
        }
        if let Some(device) = self.device {
            value.push_str(",dev=");
            value.push_str(&device);
        }
        value.push_str(",format=");
        value.push_str(self.format.as_deref().unwrap_or("raw"));
        Ok(value.into())
    }
}

/// The prefix of the form that older configurations have, and what follows it.
fn old_target(target: &str) -> [&str; 2] {
    let prefixes = ["phy:", "file:", "raw:", "tap:aio:", "aio:"];
    let found = prefixes
        .iter()
        .find_map(|prefix| Some([*prefix, target.strip_prefix(prefix)?]));
    found.unwrap_or(["", target])
}

fn unserved(what: String) -> ConfigFault {
    ConfigFault::Unserved { what }
}

const CDROM: &str = "a PVH guest has no CD-ROM; give the image as a disk with access=ro";

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<String, String> {
        option(text)
            .map(|value| value.into_string().unwrap())
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn fields_stand_in_order_or_have_names() {
        for (text, want) in [
            ("/a.img,raw,xvda,rw", "/a.img,dev=xvda,format=raw"),
            (" /a.img , raw , xvda , r ", "/a.img,ro,dev=xvda,format=raw"),
            ("/a.img,,xvda", "/a.img,dev=xvda,format=raw"),
            (
                "vdev=xvdb, access=ro, target=/a,b.img",
                "/a,,b.img,ro,dev=xvdb,format=raw",
            ),
            (
                "format=qcow2, vdev=xvda, access=rw, target=/q",
                "/q,dev=xvda,format=qcow2",
            ),
            (
                "/a,raw,xvda,w,backendtype=phy,discard",
                "/a,dev=xvda,format=raw",
            ),
            ("phy:/dev/vg/a,xvda,w", "/dev/vg/a,dev=xvda,format=raw"),
            ("file:/a,xvda,r", "/a,ro,dev=xvda,format=raw"),
            ("/a", "/a,format=raw"),
        ] {
            assert_eq!(value(text), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_no_disk_here_can_be_is_refused() {
        for (text, word) in [
            ("", "no target"),
            ("vdev=xvda", "no target"),
            ("target=", "no target"),
            ("/a,raw,hdc:cdrom,r", "no CD-ROM"),
            ("/a,raw,xvda,r,cdrom", "no CD-ROM"),
            ("/a,raw,xvda,x", "not 'x'"),
            ("/a,raw,xvda,w,more", "one field too many"),
            (
                "/a,raw,xvda,w,script=block-x",
                "'script=block-x' is not served",
            ),
        ] {
            let refused = value(text).unwrap_err();
            assert!(refused.contains(word), "{text}: {refused}");
        }
    }
}
