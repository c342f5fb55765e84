//! Reads from the kernel's log which calls a sandbox would have refused, for `--sandbox log`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    process,
};

use libc::O_NONBLOCK;

use crate::describe;

/// The kernel's log from when it was opened.
#[derive(Debug)]
pub struct KernelLog(io::Result<File>);

impl KernelLog {
    /// Opens it, and skips what is in it.
    #[must_use]
    pub fn open() -> Self {
        let opened = File::options()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open("/dev/kmsg");
        Self(opened.and_then(|mut file| {
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        }))
    }

    /// Returns a line for each thread and call in it, or one that says why there are none.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let id = process::id();
        match &self.0 {
            Ok(file) => lines(&calls(file, id)),
            Err(why) => vec![format!(
                "sandbox log: cannot read the kernel's log (/dev/kmsg: {why}); as root: dmesg | grep \
                 'type=1326.* pid={id} '"
            )],
        }
    }
}

/// How often each thread made each call.
type Calls = BTreeMap<(String, i64), u64>;

fn lines(calls: &Calls) -> Vec<String> {
    if calls.is_empty() {
        return vec![NOTHING.to_owned()];
    }
    let line = |((thread, number), count): (&(String, i64), &u64)| {
        let name = describe(*number, [0; 2]).to_string();
        // The kernel logs no arguments.
        let name = name.trim_end_matches(" 0x0");
        format!("sandbox log: thread {thread} called {name} ({count} times in the kernel's log)")
    };
    calls.iter().map(line).collect()
}

/// Reads the records of this process.
fn calls(mut file: &File, id: u32) -> Calls {
    let mut calls = Calls::new();
    let mut record = [0; RECORD_BYTES];
    // One read is one record. It fails where the log ends (EAGAIN).
    for _ in 0..MOST_RECORDS {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(len) => {
                let text = String::from_utf8_lossy(record.get(..len).unwrap_or_default());
                if let Some(call) = parse(&text, id) {
                    let count = calls.entry(call).or_insert(0_u64);
                    *count = count.saturating_add(1);
                }
            }
            // Records that were overwritten before they were read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    calls
}

/// Thread and call of a record, if it is one of seccomp's about the process `id`.
fn parse(record: &str, id: u32) -> Option<(String, i64)> {
    let field = |name: &str| {
        let fields = record.split_ascii_whitespace();
        let mut found = fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.next()
    };
    // AUDIT_SECCOMP
    let is_ours = record.contains("type=1326 ") && field("pid")?.parse() == Ok(id);
    let thread = field("comm")?.trim_matches('"').to_owned();
    let number = field("syscall")?.parse().ok()?;
    is_ours.then_some((thread, number))
}

/// The kernel writes no longer records.
const RECORD_BYTES: usize = 8192;
/// The kernel keeps fewer; others write to it meanwhile.
const MOST_RECORDS: usize = 1 << 16;

const NOTHING: &str = "sandbox log: the kernel's log names no call that '--sandbox on' would refuse (a kernel \
    without audit logs none, and where auditd runs, 'ausearch -m SECCOMP' has them)";

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "5,1234,26337334117,-;audit: type=1326 audit(1796072015.060:2): auid=4294967295 uid=0 \
        gid=0 ses=4294967295 pid=2704 comm=\"vcpu0\" exe=\"/usr/bin/pvh-vmm\" sig=0 arch=c000003e syscall=41 \
        compat=0 ip=0x7f8f34c5bdc7 code=0x7ffc0000";

    #[test]
    fn a_record_of_this_process_names_thread_and_call() {
        assert_eq!(parse(RECORD, 2704), Some(("vcpu0".to_owned(), 41)));
        assert_eq!(parse(RECORD, 2705), None, "another process");
        let other = RECORD.replace("type=1326", "type=1400");
        assert_eq!(parse(&other, 2704), None, "another kind");
        assert_eq!(parse("type=1326 pid=2704", 2704), None);
    }

    #[test]
    fn each_call_has_one_line() {
        let calls = Calls::from([(("vcpu0".to_owned(), 41), 3), (("time".to_owned(), 16), 1)]);
        assert_eq!(
            lines(&calls),
            [
                "sandbox log: thread time called ioctl (1 times in the kernel's log)",
                "sandbox log: thread vcpu0 called socket (3 times in the kernel's log)",
            ]
        );
        assert_eq!(lines(&Calls::new()), [NOTHING]);
    }
}
