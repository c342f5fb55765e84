//! A trace in words: what was asked of a domain, by whom and when, and what came of it.

use core::fmt;
use std::io::Read;

use pvh_abi::{
    Errno,
    hvm::{HvmOp, HvmParam},
    hypercall::HypercallNumber,
    sched::{SchedOp, ShutdownReason},
};
use serde::Serialize;

use super::{
    file::{Reader, TraceError},
    wire::{
        Access, Found, Record, Request, WireCall, WireEffect, WireInput, WireOutcome, WireOutput,
    },
    words::{SubOperation, is_kind, is_name, sub_operation},
};

/// One record of a trace, decoded. `Display` writes one line, as strace does.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceLine {
    /// The number of the record, counted from 0.
    pub record: u64,
    /// System time in ns, where the input has one.
    pub system_ns: Option<u64>,
    /// The vCPU that it is about.
    pub vcpu: Option<u32>,
    /// What it is: `hypercall`, `store`, `console`, `event`, `vcpu`, `time` or `domain`.
    pub kind: &'static str,
    /// Its name: that of the hypercall, or of the event.
    pub name: String,
    /// The sub-operation of a hypercall.
    pub operation: Option<String>,
    /// Arguments, decoded where their meaning is known.
    pub arguments: Vec<String>,
    /// The answer: a number, or the name of an error.
    pub answer: Option<String>,
    /// What the domain did beside its answer.
    pub effects: Vec<String>,
    /// What looks like a mistake of the guest.
    pub hints: Vec<String>,
}

/// Reads a trace line by line; the memory it takes is that of one record, 4 MiB at most.
#[expect(missing_debug_implementations, reason = "a file and a number")]
pub struct TraceLines<R> {
    reader: Reader<R>,
    next: u64,
    is_over: bool,
}

impl<R: Read> TraceLines<R> {
    /// Begins with the head of the trace.
    ///
    /// # Errors
    ///
    /// [`TraceError`]: it is no trace, or of an unknown version.
    pub fn new(source: R) -> Result<Self, TraceError> {
        Ok(Self {
            reader: Reader::new(source)?,
            next: 0,
            is_over: false,
        })
    }

    /// Returns how many records were read.
    pub const fn records(&self) -> u64 {
        self.next
    }
}

impl<R: Read> Iterator for TraceLines<R> {
    type Item = Result<TraceLine, TraceError>;

    /// Returns the next line; an error is the last item.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.reader.next() {
            Ok(Some(record)) => {
                let number = self.next;
                self.next = number.saturating_add(1);
                Some(Ok(line(number, &record)))
            }
            Ok(None) => {
                self.is_over = true;
                None
            }
            Err(error) => {
                self.is_over = true;
                Some(Err(error))
            }
        }
    }
}

pub(super) fn line(record: u64, found: &Record) -> TraceLine {
    let mut line = TraceLine {
        record,
        ..TraceLine::default()
    };
    describe_input(&mut line, found);
    line.answer = answer(&found.output, &mut line.hints);
    line.effects = found.effects.iter().map(effect).collect();
    if let Some(path) = missing_path(&found.accesses) {
        line.hints.push(format!("the store has no {path}"));
    }
    line
}

/// System time of an input in ns, where it has one.
pub(super) const fn system_ns(input: &WireInput) -> Option<u64> {
    match input {
        WireInput::Hypercall { now, .. }
        | WireInput::New { now, .. }
        | WireInput::NewOf { now, .. }
        | WireInput::Tick(now)
        | WireInput::Entered { now, .. }
        | WireInput::StateChanged { now, .. }
        | WireInput::Typed { now, .. }
        | WireInput::RequestShutdown { now, .. }
        | WireInput::HypercallPageWritten { now, .. }
        | WireInput::Init { now, .. }
        | WireInput::Sipi { now, .. }
        | WireInput::Halted { now, .. }
        | WireInput::FoundRunning { now, .. }
        | WireInput::End { now, .. }
        | WireInput::ChangeStore { now, .. }
        | WireInput::NotifyPort { now, .. } => Some(now.system_ns),
        WireInput::UpdateTime { .. }
        | WireInput::DebugPort { .. }
        | WireInput::Orders { .. }
        | WireInput::BindPort { .. }
        | WireInput::UnbindPort { .. } => None,
    }
}

#[expect(clippy::too_many_lines, reason = "a table with a row for each input")]
fn describe_input(line: &mut TraceLine, found: &Record) {
    let (kind, name, vcpu) = match &found.input {
        WireInput::Hypercall { vcpu, call, .. } => {
            hypercall(line, call, &found.accesses);
            ("hypercall", None, Some(*vcpu))
        }
        WireInput::New { config, .. } | WireInput::NewOf { config, .. } => {
            line.arguments.push(format!("vcpus={}", config.vcpus));
            line.arguments
                .push(format!("memory={}K", config.memory_kib));
            if let WireInput::NewOf { major, minor, .. } = &found.input {
                line.arguments.push(format!("xen={major}.{minor}"));
            }
            ("domain", Some("new"), None)
        }
        WireInput::Tick(_) => ("time", Some("tick"), None),
        WireInput::Entered { vcpu, .. } => ("vcpu", Some("entered"), Some(*vcpu)),
        WireInput::StateChanged { vcpu, .. } => ("vcpu", Some("state changed"), Some(*vcpu)),
        WireInput::UpdateTime { vcpu } => ("time", Some("update"), Some(*vcpu)),
        WireInput::Typed { bytes, .. } => {
            line.arguments.push(format!("{} bytes", bytes.len()));
            ("console", Some("input"), None)
        }
        WireInput::RequestShutdown { kind, .. } => {
            line.arguments.push(format!("{kind:?}"));
            ("domain", Some("request shutdown"), None)
        }
        WireInput::HypercallPageWritten { .. } => ("domain", Some("hypercall page"), None),
        WireInput::DebugPort { byte } => {
            line.arguments.push(format!("{:?}", char::from(*byte)));
            ("console", Some("debug port"), None)
        }
        WireInput::Orders { vcpu } => ("vcpu", Some("orders"), Some(*vcpu)),
        WireInput::Init { vcpu, .. } => ("vcpu", Some("INIT"), Some(*vcpu)),
        WireInput::Sipi { vcpu, vector, .. } => {
            line.arguments.push(format!("vector={vector:#x}"));
            ("vcpu", Some("SIPI"), Some(*vcpu))
        }
        WireInput::Halted { vcpu, .. } => ("vcpu", Some("halted"), Some(*vcpu)),
        WireInput::FoundRunning { vcpu, .. } => ("vcpu", Some("found running"), Some(*vcpu)),
        WireInput::End { reason, .. } => {
            line.arguments
                .push(named(ShutdownReason(*reason).name(), u64::from(*reason)));
            ("domain", Some("end"), None)
        }
        WireInput::ChangeStore { changes, .. } => {
            line.arguments
                .extend(changes.iter().map(|change| format!("{change:?}")));
            ("store", Some("change"), None)
        }
        WireInput::BindPort { port } => {
            line.arguments.push(format!("port={port}"));
            ("event", Some("bind"), None)
        }
        WireInput::NotifyPort { end, .. } => {
            line.arguments.push(format!("end={end}"));
            ("event", Some("notify"), None)
        }
        WireInput::UnbindPort { end } => {
            line.arguments.push(format!("end={end}"));
            ("event", Some("unbind"), None)
        }
    };
    line.kind = kind;
    if let Some(name) = name {
        name.clone_into(&mut line.name);
    }
    (line.vcpu, line.system_ns) = (vcpu, system_ns(&found.input));
}

fn hypercall(line: &mut TraceLine, call: &WireCall, accesses: &[Access]) {
    let number = HypercallNumber(call.number);
    line.name = match number.name() {
        Some(name) => name.to_ascii_lowercase(),
        None => format!("hypercall {}", call.number),
    };
    if number.name().is_none() {
        line.hints.push("no such hypercall".to_owned());
    }
    let [first, second, third, ..] = call.args;
    let operation = low_32(first);
    match sub_operation(number, operation) {
        Some(SubOperation { name, operation }) => {
            if name.is_none() {
                line.hints.push(format!("no sub-operation {operation}"));
            }
            line.operation = Some(named(name, u64::from(operation)));
            line.arguments = match number {
                HypercallNumber::VCPU_OP => vec![format!("vcpu={second}"), pointer(third)],
                HypercallNumber::GRANT_TABLE_OP => vec![pointer(second), format!("count={third}")],
                _ => vec![pointer(second)],
            };
        }
        None => line.arguments = call.args.iter().map(|arg| pointer(*arg)).collect(),
    }
    let structure = accesses.iter().find_map(|access| match access {
        Access {
            request: Request::CopyIn { linear, .. },
            found: Found::Bytes(bytes),
        } if call.args.contains(linear) => Some(bytes),
        _ => None,
    });
    if let Some(bytes) = structure {
        line.arguments.push(content(number, operation, bytes));
    }
}

/// What a structure holds: parameters by name, ports as numbers, other things as bytes.
fn content(number: HypercallNumber, operation: u32, bytes: &[u8]) -> String {
    let word = |at: usize| {
        let rest = bytes.get(at..).and_then(<[u8]>::first_chunk);
        rest.map_or(0, |word| u32::from_le_bytes(*word))
    };
    match number {
        HypercallNumber::EVENT_CHANNEL_OP if bytes.len() == 4 => format!("{{port={}}}", word(0)),
        HypercallNumber::SCHED_OP if SchedOp(operation) == SchedOp::SHUTDOWN => {
            let reason = word(0);
            let name = u8::try_from(reason)
                .ok()
                .and_then(|reason| ShutdownReason(reason).name());
            format!("{{reason={}}}", named(name, u64::from(reason)))
        }
        HypercallNumber::HVM_OP
            if matches!(HvmOp(operation.into()), HvmOp::SET_PARAM | HvmOp::GET_PARAM) =>
        {
            let value = u64::from(word(12)) << 32 | u64::from(word(8));
            let name = named(HvmParam(word(4)).name(), u64::from(word(4)));
            match HvmOp(operation.into()) {
                HvmOp::SET_PARAM => format!("{{param={name}, value={value:#x}}}"),
                _ => format!("{{param={name}}}"),
            }
        }
        _ => {
            let shown: Vec<_> = bytes
                .iter()
                .take(SHOWN_BYTES)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let more = if bytes.len() > SHOWN_BYTES { " .." } else { "" };
            format!("{{{}{more}}}", shown.join(" "))
        }
    }
}

fn answer(output: &WireOutput, hints: &mut Vec<String>) -> Option<String> {
    Some(match output {
        WireOutput::Nothing => return None,
        WireOutput::Answer { outcome, sleep } => match outcome {
            WireOutcome::Return(value) => {
                let errno = value
                    .checked_neg()
                    .and_then(|value| u16::try_from(value).ok());
                let errno = errno.filter(|errno| *errno > 0);
                match errno.and_then(|errno| Errno(errno).name()) {
                    Some(name) => {
                        if name == "EFAULT" {
                            hints.push("a pointer leads to no memory".to_owned());
                        }
                        format!("-{name}")
                    }
                    None => match sleep {
                        Some(sleep) => format!("{value:#x} and sleeps ({sleep:?})"),
                        None => format!("{value:#x}"),
                    },
                }
            }
            WireOutcome::Again(_) => "continues".to_owned(),
        },
        WireOutput::Count(count) => format!("{count} bytes"),
        WireOutput::Park => "park".to_owned(),
        WireOutput::Over => "over".to_owned(),
        WireOutput::Run(None) => "run".to_owned(),
        WireOutput::Run(Some(_)) => "run from new registers".to_owned(),
        WireOutput::Observe { .. } => "waits for other vCPUs".to_owned(),
        WireOutput::Refused(errno) => match Errno(*errno).name() {
            Some(name) => format!("-{name}"),
            None => format!("-{errno}"),
        },
        WireOutput::Bound(end) => format!("end {end}"),
    })
}

fn effect(effect: &WireEffect) -> String {
    match effect {
        WireEffect::GlobalVector { vcpu, vector } | WireEffect::VcpuVector { vcpu, vector } => {
            format!("upcall of vCPU {vcpu} by vector {vector:#x}")
        }
        WireEffect::Wake(vcpu) => format!("vCPU {vcpu} wakes"),
        WireEffect::Start(vcpu) => format!("vCPU {vcpu} starts"),
        WireEffect::Resume(vcpu) => format!("vCPU {vcpu} resumes"),
        WireEffect::Stop(vcpu) => format!("vCPU {vcpu} stops"),
        WireEffect::Nmi(vcpu) => format!("NMI to vCPU {vcpu}"),
        WireEffect::FlushTlbs => "TLBs are flushed".to_owned(),
        WireEffect::Output(bytes) => format!("console output {}", quoted(bytes)),
        WireEffect::InputWanted => "room for console input".to_owned(),
        WireEffect::Log(bytes) => format!("log {}", quoted(bytes)),
        WireEffect::Shutdown(reason) => {
            let name = named(ShutdownReason(*reason).name(), u64::from(*reason));
            format!("shutdown, reason {name}")
        }
        WireEffect::Park(vcpu) => format!("vCPU {vcpu} parks"),
        WireEffect::StartExpected(vcpu) => format!("vCPU {vcpu} may start"),
        WireEffect::Notified(end) => format!("back end {end} is notified"),
    }
}

/// The path of a request to the store that was answered ENOENT, if this record has one.
fn missing_path(accesses: &[Access]) -> Option<String> {
    let is_refusal = |access: &Access| match &access.request {
        Request::Write { bytes, .. } => contains(bytes, b"ENOENT\0"),
        _ => false,
    };
    accesses.iter().find(|access| is_refusal(access))?;
    let read = accesses.iter().filter_map(|access| match &access.found {
        Found::Bytes(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    let texts = read.flat_map(|bytes| bytes.split(|byte| !byte.is_ascii_graphic()));
    let longest = texts
        .filter(|text| text.len() >= 3)
        .max_by_key(|text| text.len());
    let text = longest.map(|text| String::from_utf8_lossy(text).into_owned());
    Some(text.unwrap_or_else(|| "such path".to_owned()))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn quoted(bytes: &[u8]) -> String {
    let more = if bytes.len() > SHOWN_TEXT { ".." } else { "" };
    let shown = bytes.get(..SHOWN_TEXT).unwrap_or(bytes);
    format!("\"{}\"{more}", shown.escape_ascii())
}

fn named(name: Option<&'static str>, number: u64) -> String {
    match name {
        Some(name) => name.to_ascii_lowercase(),
        None => number.to_string(),
    }
}

fn pointer(value: u64) -> String {
    format!("{value:#x}")
}

fn low_32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl TraceLine {
    /// Tells whether a filter word can mean any line: a kind, the name of a hypercall or of a
    /// sub-operation.
    #[must_use]
    pub fn is_word(word: &str) -> bool {
        is_kind(word) || is_name(word)
    }

    /// Tells whether a filter word means this line: its kind, its name or its sub-operation.
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(word);
        is(self.kind) || is(&self.name) || self.operation.as_deref().is_some_and(is)
    }
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.system_ns {
            Some(ns) => {
                let seconds = ns.checked_div(1_000_000_000).unwrap_or(0);
                let micros = ns
                    .checked_div(1000)
                    .unwrap_or(0)
                    .checked_rem(1_000_000)
                    .unwrap_or(0);
                write!(f, "{seconds:4}.{micros:06} ")?;
            }
            None => f.write_str("          . ")?,
        }
        match self.vcpu {
            Some(vcpu) => write!(f, "vCPU {vcpu:<3} ")?,
            None => f.write_str("         ")?,
        }
        let operation = self.operation.iter().map(String::as_str);
        let words: Vec<_> = operation
            .chain(self.arguments.iter().map(String::as_str))
            .collect();
        write!(f, "{}({})", self.name, words.join(", "))?;
        if let Some(answer) = &self.answer {
            write!(f, " = {answer}")?;
        }
        for effect in &self.effects {
            write!(f, "; {effect}")?;
        }
        for hint in &self.hints {
            write!(f, "  <-- {hint}")?;
        }
        Ok(())
    }
}

const SHOWN_BYTES: usize = 16;
const SHOWN_TEXT: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::wire::WireNow;

    fn record(number: u64, args: [u64; 5], answer: i64, accesses: Vec<Access>) -> Record {
        Record {
            input: WireInput::Hypercall {
                vcpu: 1,
                takes_interrupts: true,
                now: WireNow {
                    system_ns: 1_500_000_000,
                    tsc: 0,
                    wall_ns: 0,
                },
                call: WireCall {
                    is_native: true,
                    number,
                    args,
                },
            },
            accesses,
            output: WireOutput::Answer {
                outcome: WireOutcome::Return(answer),
                sleep: None,
            },
            effects: vec![],
        }
    }

    fn copied(linear: u64, bytes: &[u8]) -> Access {
        Access {
            request: Request::CopyIn {
                linear,
                len_bytes: bytes.len() as u64,
            },
            found: Found::Bytes(bytes.to_vec()),
        }
    }

    // Numbers of xen.h, event_channel.h, hvm/params.h: event_channel_op 32, send 4; hvm_op 34,
    // set_param 0, STORE_EVTCHN 2; sched_op 29, shutdown 2.
    #[test]
    fn a_call_has_its_names_its_structure_and_its_answer() {
        let send = record(
            32,
            [4, 0x1000, 0, 0, 0],
            0,
            vec![copied(0x1000, &[7, 0, 0, 0])],
        );
        let text = line(3, &send).to_string();
        assert_eq!(
            text,
            "   1.500000 vCPU 1   event_channel_op(send, 0x1000, {port=7}) = 0x0"
        );
        let param = [
            [0xF0, 0x7F, 0, 0, 2, 0, 0, 0].as_slice(),
            &5_u64.to_le_bytes(),
        ]
        .concat();
        let set = record(34, [0, 0x2000, 0, 0, 0], -22, vec![copied(0x2000, &param)]);
        let text = line(0, &set).to_string();
        assert!(
            text.ends_with("hvm_op(set_param, 0x2000, {param=store_evtchn, value=0x5}) = -EINVAL"),
            "{text}"
        );
        let shutdown = record(
            29,
            [2, 0x3000, 0, 0, 0],
            0,
            vec![copied(0x3000, &[3, 0, 0, 0])],
        );
        assert!(line(0, &shutdown).to_string().contains("{reason=crash}"));
    }

    #[test]
    fn mistakes_of_a_guest_are_pointed_out() {
        let hints = |record: &Record| line(0, record).hints;
        assert_eq!(
            hints(&record(32, [99, 0, 0, 0, 0], -38, vec![])),
            ["no sub-operation 99"]
        );
        assert_eq!(
            hints(&record(11, [0; 5], -38, vec![])),
            ["no such hypercall"]
        );
        assert_eq!(
            hints(&record(32, [4, 1, 0, 0, 0], -14, vec![])),
            ["a pointer leads to no memory"]
        );
        let request = Access {
            request: Request::Read {
                at: 0,
                len_bytes: 10,
            },
            found: Found::Bytes(b"device/vbd\0".to_vec()),
        };
        let reply = Access {
            request: Request::Write {
                at: 0,
                bytes: b"ENOENT\0".to_vec(),
            },
            found: Found::Done,
        };
        let send = record(32, [4, 0, 0, 0, 0], 0, vec![request, reply]);
        assert_eq!(hints(&send), ["the store has no device/vbd"]);
    }

    #[test]
    fn a_filter_word_is_a_kind_a_name_or_an_operation() {
        let send = line(0, &record(32, [4, 0, 0, 0, 0], 0, vec![]));
        for word in ["hypercall", "event_channel_op", "SEND"] {
            assert!(send.matches(word), "{word}");
        }
        assert!(!send.matches("sched_op"));
    }
}
