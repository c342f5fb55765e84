//! A domain's configuration as xl takes it (xl.cfg(5)): what a run of it is here.

mod disk;
mod keys;
mod syntax;
mod vif;

use super::{ConfigFault, ConfigFile, ConfigFileError};
use crate::args::SHIM_CMDLINE;
use syntax::{Setting, Value};

pub(super) fn read(text: &str, more: &[String]) -> Result<ConfigFile, ConfigFileError> {
    let mut settings = syntax::parse(text, 1)?;
    // A setting on the command line follows the file's last line, as xl appends it.
    let after = text.lines().count();
    for (number, more) in more.iter().enumerate() {
        let line = after.saturating_add(number).saturating_add(1);
        settings.extend(syntax::parse(more, line)?);
    }
    let domain = Domain::new(settings)?;
    let mut file = ConfigFile::default();
    domain.kind(&mut file)?;
    domain.kernel(&mut file)?;
    domain.size(&mut file)?;
    domain.devices(&mut file)?;
    domain.ends(&mut file)?;
    for setting in &domain.settings {
        if keys::is_unserved(&setting.key) {
            let text = format!("'{}' is not served: the guest runs without it", setting.key);
            file.note(setting.line, text);
        }
    }
    file.notes.sort_by_key(|note| note.line);
    Ok(file)
}

/// The settings of a domain, each key once.
struct Domain {
    settings: Vec<Setting>,
}

impl Domain {
    /// Of a key that is set again, the last setting counts.
    fn new(settings: Vec<Setting>) -> Result<Self, ConfigFileError> {
        let mut kept: Vec<Setting> = Vec::new();
        for setting in settings {
            let key = setting.key.as_str();
            if !keys::is_served(key) && !keys::is_unserved(key) {
                let (key, near) = (key.to_owned(), keys::near(key));
                let fault = ConfigFault::Unknown { key, near };
                return Err(ConfigFileError::at(setting.line, fault));
            }
            kept.retain(|before| before.key != setting.key);
            kept.push(setting);
        }
        Ok(Self { settings: kept })
    }

    fn find(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    fn text(&self, key: &str) -> Result<Option<(usize, &str)>, ConfigFileError> {
        let setting = self.find(key);
        setting
            .map(|setting| Ok((setting.line, setting.text()?)))
            .transpose()
    }

    fn number(&self, key: &str) -> Result<Option<(usize, u64)>, ConfigFileError> {
        let setting = self.find(key);
        setting
            .map(|setting| Ok((setting.line, setting.number()?)))
            .transpose()
    }

    /// What the domain is: a Xen PVH guest.
    fn kind(&self, file: &mut ConfigFile) -> Result<(), ConfigFileError> {
        let unserved = |line, what: &str| {
            let what = what.to_owned();
            ConfigFileError::at(line, ConfigFault::Unserved { what })
        };
        let is_pvh = self.number("pvh")?.is_some_and(|(_, is_pvh)| is_pvh == 1);
        match self.text("type")? {
            Some((line, "pvh")) => self.shim(file, line, false)?,
            Some((line, "pv")) => self.shim(file, line, true)?,
            Some((line, "hvm")) => return Err(unserved(line, HVM)),
            Some((line, _)) => return Err(unserved(line, "type is \"pvh\", \"pv\" or \"hvm\"")),
            None if is_pvh => {}
            None => match self.text("builder")? {
                Some((line, "hvm")) => return Err(unserved(line, HVM)),
                _ => file.note(
                    1,
                    "type is not set: the guest is a PVH guest (xl would make it PV)",
                ),
            },
        }
        file.add(1, "platform", "xen".as_ref())
    }

    /// A PV guest runs under the shim that `pvshim_path` or `--shim` names.
    fn shim(&self, file: &mut ConfigFile, line: usize, is_pv: bool) -> Result<(), ConfigFileError> {
        let is_asked = self
            .number("pvshim")?
            .is_some_and(|(_, is_asked)| is_asked != 0);
        if !is_pv && !is_asked {
            return Ok(());
        }
        file.add_word(line, "--pv".into())?;
        if let Some((line, path)) = self.text("pvshim_path")? {
            file.add(line, "shim", path.as_ref())?;
        }
        let text = self.text("pvshim_cmdline")?;
        let extra = self.text("pvshim_extra")?;
        let Some((line, _)) = text.or(extra) else {
            return Ok(());
        };
        let text = text.map_or(SHIM_CMDLINE, |(_, text)| text);
        let parts = [Some(text), extra.map(|(_, extra)| extra)];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        file.add(line, "shim-cmdline", parts.join(" ").as_ref())
    }

    fn kernel(&self, file: &mut ConfigFile) -> Result<(), ConfigFileError> {
        match (self.text("kernel")?, self.text("bootloader")?) {
            (Some((_, path)), _) => file.kernel = Some(path.into()),
            (None, Some((line, _))) => {
                let what = NO_BOOTLOADER.to_owned();
                return Err(ConfigFileError::at(line, ConfigFault::Unserved { what }));
            }
            (None, None) => {
                let what = "it has no kernel".to_owned();
                return Err(ConfigFileError::file(ConfigFault::Unserved { what }));
            }
        }
        if let Some((line, path)) = self.text("ramdisk")? {
            file.add(line, "initrd", path.as_ref())?;
        }
        self.command_line(file)
    }

    /// `cmdline`, or else `root` and `extra`.
    fn command_line(&self, file: &mut ConfigFile) -> Result<(), ConfigFileError> {
        let (root, extra) = (self.text("root")?, self.text("extra")?);
        if let Some((line, text)) = self.text("cmdline")? {
            for (line, key) in [(root, "root"), (extra, "extra")]
                .into_iter()
                .filter_map(|(setting, key)| Some((setting?.0, key)))
            {
                file.note(line, format!("'{key}' is not used, because cmdline is set"));
            }
            return file.add(line, "cmdline", text.as_ref());
        }
        let line = root.or(extra).map_or(1, |(line, _)| line);
        let root = root.map(|(_, root)| format!("root={root}"));
        let extra = extra.map(|(_, extra)| extra.to_owned());
        let parts: Vec<String> = root.into_iter().chain(extra).collect();
        match parts.is_empty() {
            true => Ok(()),
            false => file.add(line, "cmdline", parts.join(" ").as_ref()),
        }
    }

    fn size(&self, file: &mut ConfigFile) -> Result<(), ConfigFileError> {
        let memory = self.number("memory")?;
        let most = self.number("maxmem")?;
        if let Some((line, mib)) = memory.or(most) {
            file.add(line, "memory", format!("{mib}M").as_ref())?;
        }
        match (memory, most) {
            (Some((_, memory)), Some((line, most))) if memory != most => {
                file.note(
                    line,
                    "'maxmem' is not used: the guest's memory does not grow",
                );
            }
            _ => {}
        }
        let (cpus, most) = (self.number("vcpus")?, self.number("maxvcpus")?);
        if let Some((line, cpus)) = cpus.or(most) {
            file.add(line, "cpus", cpus.to_string().as_ref())?;
        }
        match (cpus, most) {
            (Some((_, cpus)), Some((line, most))) if cpus != most => {
                file.note(
                    line,
                    "'maxvcpus' is not used: no CPU is added to a running guest",
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn devices(&self, file: &mut ConfigFile) -> Result<(), ConfigFileError> {
        let list = |key| self.find(key).map_or(Ok(Vec::new()), Setting::texts);
        for (line, text) in list("disk")? {
            let word = disk::option(text).map_err(|fault| ConfigFileError::at(line, fault))?;
            file.add(line, "disk", &word)?;
        }
        for (line, text) in list("vif")? {
            let vif = vif::option(text).map_err(|fault| ConfigFileError::at(line, fault))?;
            if let Some(note) = vif.note {
                file.note(line, note);
            }
            file.add(line, "net", vif.value.as_ref())?;
        }
        Ok(())
    }

    /// What happens at the end of the guest.
    fn ends(&self, file: &mut ConfigFile) -> Result<(), ConfigFileError> {
        match self.text("on_reboot")? {
            None | Some((_, "restart")) => {}
            Some((line, "destroy")) => file.add_word(line, "--no-reboot".into())?,
            Some((line, action)) => file.note(line, other_end("on_reboot", action, "restart")),
        }
        for key in ["on_poweroff", "on_crash"] {
            match self.text(key)? {
                None | Some((_, "destroy")) => {}
                Some((line, action)) if key == "on_crash" && action.starts_with("coredump") => {
                    let text = format!("'{key}': a core is written with --dump-on-crash FILE only");
                    file.note(line, text);
                }
                Some((line, action)) => file.note(line, other_end(key, action, "destroy")),
            }
        }
        Ok(())
    }
}

impl Setting {
    fn text(&self) -> Result<&str, ConfigFileError> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.type_error("a text in quotes")),
        }
    }

    fn number(&self) -> Result<u64, ConfigFileError> {
        match &self.value {
            Value::Number(number) => Ok(*number),
            // xl takes a number in quotes as well.
            Value::Text(text) => syntax::number(text).ok_or_else(|| self.type_error("a number")),
            Value::List(_) => Err(self.type_error("a number")),
        }
    }

    /// The texts of a list, or one text.
    fn texts(&self) -> Result<Vec<(usize, &str)>, ConfigFileError> {
        match &self.value {
            Value::Text(text) => Ok(vec![(self.line, text)]),
            Value::List(values) => Ok(values
                .iter()
                .map(|(line, text)| (*line, text.as_str()))
                .collect()),
            Value::Number(_) => Err(self.type_error("a list of texts")),
        }
    }

    fn type_error(&self, wanted: &'static str) -> ConfigFileError {
        let key = self.key.clone();
        ConfigFileError::at(self.line, ConfigFault::Type { key, wanted })
    }
}

fn other_end(key: &str, action: &str, done: &str) -> String {
    format!("'{key}' is '{action}', which is not served: it is '{done}'")
}

const HVM: &str = "an HVM guest needs firmware and a device model; only type=\"pvh\" is served";
const NO_BOOTLOADER: &str =
    "a bootloader is not served; set kernel, for example to GRUB's image for PVH";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn line(text: &str, more: &[&str]) -> Result<String, String> {
        let more: Vec<String> = more.iter().map(|more| (*more).to_owned()).collect();
        let file = read(text, &more).map_err(|error| error.to_string())?;
        let kernel = file.kernel.iter().map(|path| path.as_os_str());
        let words = kernel.chain(file.words.iter().map(OsString::as_os_str));
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        Ok(words.join(" "))
    }

    fn notes(text: &str) -> Vec<(usize, String)> {
        let file = read(text, &[]).unwrap();
        file.notes()
            .iter()
            .map(|note| (note.line, note.text.clone()))
            .collect()
    }

    #[test]
    fn a_usual_domain_is_a_run() {
        let text = "# a comment\nname = \"debian\"\ntype = \"pvh\"\nkernel = '/boot/vmlinuz'\n\
                    ramdisk = \"/boot/initrd.img\"\nroot = '/dev/xvda1 ro'\nextra = \"console=hvc0 quiet\"\n\
                    memory = 1024; vcpus = 2\n\
                    disk = [ '/d/a.img,raw,xvda,rw',\n 'phy:/dev/vg/b,xvdb,r', ]\n\
                    vif = [ 'mac=00:16:3e:00:00:01,vifname=tap0' ]\n\
                    on_reboot = 'destroy'\n";
        assert_eq!(
            line(text, &[]).unwrap(),
            "/boot/vmlinuz --platform=xen --initrd=/boot/initrd.img \
             --cmdline=root=/dev/xvda1 ro console=hvc0 quiet --memory=1024M --cpus=2 \
             --disk=/d/a.img,dev=xvda,format=raw --disk=/dev/vg/b,ro,dev=xvdb,format=raw \
             --net=tap=tap0,mac=00:16:3e:00:00:01 --no-reboot"
        );
        assert_eq!(notes(text), []);
    }

    #[test]
    fn the_last_setting_counts_and_the_command_line_comes_last() {
        let text = "type='pvh'\nkernel='a'\nmemory=64\nkernel='b'";
        let run = line(text, &["memory=128", "vcpus='0x2'"]).unwrap();
        assert_eq!(run, "b --platform=xen --memory=128M --cpus=2");
        let refused = line(text, &["memroy=1"]).unwrap_err();
        assert_eq!(
            refused,
            "line 5: 'memroy' is no key of xl.cfg; did you mean 'memory'?"
        );
    }

    #[test]
    fn what_is_not_served_is_said_once_for_each_key() {
        let text = "kernel='k'\npci=['01:00.0']\npci=['02:00.0']\nmemory=64\nmaxmem=128\nmaxvcpus=4\n\
                    vcpus=1\non_crash='restart'\non_reboot='preserve'\ncmdline='a'\nextra='b'";
        let want = [
            (
                1,
                "type is not set: the guest is a PVH guest (xl would make it PV)",
            ),
            (3, "'pci' is not served: the guest runs without it"),
            (5, "'maxmem' is not used: the guest's memory does not grow"),
            (
                6,
                "'maxvcpus' is not used: no CPU is added to a running guest",
            ),
            (
                8,
                "'on_crash' is 'restart', which is not served: it is 'destroy'",
            ),
            (
                9,
                "'on_reboot' is 'preserve', which is not served: it is 'restart'",
            ),
            (11, "'extra' is not used, because cmdline is set"),
        ];
        let want = want.map(|(line, text)| (line, text.to_owned()));
        assert_eq!(notes(text), want);
    }

    #[test]
    fn a_fault_is_told_with_its_line() {
        for (text, word) in [
            ("type='pvh'", "it has no kernel"),
            (
                "\ntype='hvm'\nkernel='k'",
                "line 2: an HVM guest needs firmware",
            ),
            ("type='x'\nkernel='k'", "line 1: type is \"pvh\""),
            ("builder='hvm'\nkernel='k'", "line 1: an HVM guest"),
            (
                "type='pvh'\nbootloader='pygrub'",
                "line 2: a bootloader is not served",
            ),
            (
                "kernal='k'",
                "line 1: 'kernal' is no key of xl.cfg; did you mean 'kernel'?",
            ),
            ("zzzz=1", "line 1: 'zzzz' is no key of xl.cfg"),
            ("kernel=1", "line 1: kernel is a text in quotes"),
            ("kernel='k'\nmemory=['1']", "line 2: memory is a number"),
            ("kernel='k'\nmemory='lots'", "line 2: memory is a number"),
            ("kernel='k'\nmemory=0", "line 2: invalid value '0M'"),
            ("kernel='k'\nvcpus=999", "line 2: invalid value '999'"),
            (
                "kernel='k'\ndisk=[\n'a.qcow2,qcow2,xvda,w']",
                "line 3: invalid value",
            ),
            ("kernel='k'\nvif=1", "line 2: vif is a list of texts"),
        ] {
            let refused = line(text, &[]).unwrap_err();
            assert!(refused.contains(word), "{text}: {refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
    }
}
