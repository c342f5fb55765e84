//! A configuration in TOML: each key is an option of `run`, without its dashes.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigFault, ConfigFile, ConfigFileError, check, lines_in};

pub(super) fn read(text: &str, folder: &Path) -> Result<ConfigFile, ConfigFileError> {
    let line_of = |offset: usize| lines_in(text.as_bytes().get(..offset).unwrap_or_default());
    let table = DeTable::parse(text).map_err(|wrong| {
        let line = wrong.span().map(|span| line_of(span.start));
        let what = format!("no TOML: {}", one_line(wrong.message()));
        ConfigFileError {
            line,
            fault: ConfigFault::Syntax { what },
        }
    })?;
    // A table has its keys in the order of their names; the guest's devices follow the file.
    let mut settings: Vec<_> = table.get_ref().iter().collect();
    settings.sort_by_key(|(key, _)| key.span().start);
    let mut file = ConfigFile::default();
    for (key, value) in settings {
        let setting = Setting {
            key: key.get_ref(),
            line: line_of(key.span().start),
            folder,
        };
        setting.take(&mut file, value)?;
    }
    Ok(file)
}

struct Setting<'a> {
    key: &'a str,
    line: usize,
    folder: &'a Path,
}

impl Setting<'_> {
    fn take(
        &self,
        file: &mut ConfigFile,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigFileError> {
        let DeValue::Array(values) = value.get_ref() else {
            return self.take_one(file, value.get_ref());
        };
        if !REPEATED.contains(&self.key) {
            return Err(self.type_error("one value, not a list"));
        }
        values
            .iter()
            .try_for_each(|value| self.take_one(file, value.get_ref()))
    }

    fn take_one(&self, file: &mut ConfigFile, value: &DeValue<'_>) -> Result<(), ConfigFileError> {
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Boolean(is_set) => return self.flag(file, *is_set),
            _ => return Err(self.type_error("a text, a decimal number, true or false")),
        };
        if self.key == KERNEL {
            file.kernel = Some(self.beside(&text)?.into());
            return Ok(());
        }
        let value = match self.key {
            key if PATHS.contains(&key) => self.beside(&text)?,
            "disk" => self.beside_with(&text, b',')?,
            "module" => self.beside_with(&text, b'=')?,
            "net" => self.after_scheme(&text, "socket=", b',')?,
            "console" => self.after_scheme(&text, "file:", 0)?,
            "gdb" => self.after_scheme(&text, "unix:", 0)?,
            _ => text.into(),
        };
        self.check_name()?;
        file.add(self.line, self.key, &value)
    }

    fn flag(&self, file: &mut ConfigFile, is_set: bool) -> Result<(), ConfigFileError> {
        self.check_name()?;
        if self.key == KERNEL {
            return Err(self.type_error("a text"));
        }
        let word = OsString::from(format!("--{}", self.key));
        match is_set {
            true => file.add_word(self.line, word),
            // What is off by default; a wrong key is told all the same.
            false => check(self.line, &word),
        }
    }

    /// Options that mean nothing in a file, and keys that are more than one word.
    fn check_name(&self) -> Result<(), ConfigFileError> {
        let is_word = self
            .key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let what = match self.key {
            "config" | "help" => format!("'{}' cannot be set in a file", self.key),
            key if key.is_empty() || !is_word || key.starts_with('-') => {
                format!("'{key}' is no option of run; see pvh-vmm run --help")
            }
            _ => return Ok(()),
        };
        Err(ConfigFileError::at(self.line, ConfigFault::Syntax { what }))
    }

    /// A path from the configuration's folder on.
    fn beside(&self, text: &str) -> Result<OsString, ConfigFileError> {
        self.beside_with(text, 0)
    }

    /// The same for a value that begins with a path, and in which a byte ends the path.
    fn beside_with(&self, text: &str, end: u8) -> Result<OsString, ConfigFileError> {
        let folder = self.folder.as_os_str().as_bytes();
        let is_fixed = text.starts_with('/') || text == "-" || text.is_empty();
        if is_fixed || folder.is_empty() || (self.key == "cache" && text == "none") {
            return Ok(text.into());
        }
        let mut path = Vec::new();
        for byte in folder {
            path.push(*byte);
            if *byte == end && end == b',' {
                path.push(b','); // two are one of the file's name
            } else if *byte == end && end == b'=' {
                let what = "the folder of this file has '=' in its name, so no module can be named from it; write the module's whole path in another folder";
                let what = what.to_owned();
                return Err(ConfigFileError::at(self.line, ConfigFault::Syntax { what }));
            }
        }
        path.push(b'/');
        path.extend(text.as_bytes());
        Ok(OsString::from_vec(path))
    }

    /// The same for a value with a path after `scheme`.
    fn after_scheme(&self, text: &str, scheme: &str, end: u8) -> Result<OsString, ConfigFileError> {
        let Some(path) = text.strip_prefix(scheme) else {
            return Ok(text.into());
        };
        let mut value = OsString::from(scheme);
        value.push::<&OsStr>(&self.beside_with(path, end)?);
        Ok(value)
    }

    fn type_error(&self, wanted: &'static str) -> ConfigFileError {
        let key = self.key.to_owned();
        ConfigFileError::at(self.line, ConfigFault::Type { key, wanted })
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const KERNEL: &str = "kernel";

/// Keys whose value may be a list.
const REPEATED: [&str; 3] = ["disk", "module", "net"];

/// Options whose value is a path.
const PATHS: [&str; 8] = [
    "cache",
    "dump-on-crash",
    "initrd",
    KERNEL,
    "kvm-device",
    "record",
    "shim",
    "trace",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, folder: &str) -> Result<String, String> {
        let file = read(text, Path::new(folder)).map_err(|error| error.to_string())?;
        let kernel = file.kernel.iter().map(|path| path.as_os_str());
        let words = kernel.chain(file.words.iter().map(OsString::as_os_str));
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        Ok(words.join(" "))
    }

    #[test]
    fn each_key_is_an_option_in_the_order_of_the_file() {
        let text = "kernel = 'vmlinuz'\nmemory = \"1G\"\ncpus = 2\nquiet = true\nno-reboot = false\n\
                    disk = ['a.img,ro', '/b.img']\ntimings = true\n# the end";
        assert_eq!(
            lines(text, "").unwrap(),
            "vmlinuz --memory=1G --cpus=2 --quiet --disk=a.img,ro --disk=/b.img --timings"
        );
    }

    #[test]
    fn files_lie_beside_the_configuration() {
        let text = "kernel = 'vmlinuz'\ninitrd = '/boot/initrd'\nmodule = 'm=a=b'\n\
                    cache = 'none'\nnet = ['socket=s', 'passt']\ngdb = 'unix:g'\nconsole = 'file:c'\n\
                    record = 'r'\nkvm-device = '/dev/kvm'\ndisk = 'd,ro'";
        assert_eq!(
            lines(text, "/vm,s").unwrap(),
            "/vm,s/vmlinuz --initrd=/boot/initrd --module=/vm,s/m=a=b --cache=none \
             --net=socket=/vm,,s/s --net=passt --gdb=unix:/vm,s/g --console=file:/vm,s/c --record=/vm,s/r \
             --kvm-device=/dev/kvm --disk=/vm,,s/d,ro"
        );
        assert_eq!(lines("kernel = '-'", "/x").unwrap(), "-");
        let refused = lines("module = 'm'", "a=b").unwrap_err();
        assert!(refused.contains("has '=' in its name"), "{refused}");
    }

    #[test]
    fn a_fault_is_told_with_its_line() {
        for (text, word) in [
            ("memroy = '1G'", "line 1: unexpected argument '--memroy'"),
            ("\nmemory = 'lots'", "line 2: invalid value 'lots'"),
            ("memory = 512", "did you mean 512M?"),
            ("cpus = [1, 2]", "line 1: cpus is one value, not a list"),
            ("cpus = 1.5", "line 1: cpus is a text, a decimal number"),
            ("cpus = 0x10", "line 1: cpus is a text, a decimal number"),
            ("[run]\ncpus = 1", "line 1: run is a text"),
            ("cpus = 1\ncpus = 2", "line 2: no TOML: duplicate key"),
            ("cpus = ", "line 1: no TOML: "),
            ("config = 'x'", "line 1: 'config' cannot be set in a file"),
            ("help = true", "line 1: 'help' cannot be set in a file"),
            ("'cpus 1' = 2", "line 1: 'cpus 1' is no option of run"),
            ("'-q' = true", "line 1: '-q' is no option of run"),
            (
                "quiet = 'yes'",
                "line 1: unexpected value 'yes' for '--quiet'",
            ),
            ("kernel = true", "line 1: kernel is a text"),
            (
                "nonsense = false",
                "line 1: unexpected argument '--nonsense'",
            ),
        ] {
            let refused = lines(text, "").unwrap_err();
            assert!(refused.contains(word), "{text}: {refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
    }
}
