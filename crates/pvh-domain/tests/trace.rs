//! What a domain did is done again from its trace, and nothing else is taken for it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may stop"
)]

use core::num::NonZeroU64;
use std::{
    error::Error as _,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use pvh_abi::{DomId, Gpa, sched::ShutdownReason};
use pvh_domain::{
    Config, Domain, Effect, MemoryConfig, Now, Origin, RecordError, Recorder, ReplayError,
    RunState, Shutdown, TraceError, replay,
};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState, VecMemory};
use pvh_vcpu::CpuPolicy;

const RAM_BYTES: u64 = 0x10_0000;
const ARG: u64 = 0x8000;
const START_NS: u64 = 5_000_000_000;
const CONSOLE_PAGE: u64 = 0xFEFF_F000;
const TEXT: &[u8] = b"an unlikely line";

const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};

/// A sink whose bytes can be read while it is written.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that has room for so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config() -> Config {
    Config {
        domid: DomId(5),
        uuid: [7; 16],
        name: "guest".into(),
        vcpus: 2,
        cpu: CpuPolicy {
            cr4_bits: 0x3f_f7ff,
            efer_bits: 0xd01,
            physical_address_bits: 39,
        },
        tsc_hz: NonZeroU64::new(1_000_000_000).unwrap(),
        is_tsc_stable: true,
        memory_kib: 1024,
        memory: MemoryConfig {
            pages: 264,
            max_pages: 512,
            max_gfn: 0xf_efff,
            host_pages: 0x10_0000,
            memory_map: Vec::new(),
        },
        may_log: true,
        xen: pvh_hypercall::XenVersion::V4_17,
    }
}

fn at(system_ns: u64) -> Now {
    Now {
        system_ns,
        tsc: system_ns - START_NS,
        wall_ns: 1_700_000_000_000_000_000 + system_ns,
    }
}

struct Guest {
    memory: VecMemory,
    domain: Domain,
    effects: Vec<Effect>,
    now: Now,
}

impl Guest {
    fn new(recorder: Option<Recorder>) -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), RAM_BYTES)]).unwrap();
        let memory = memory.with_spare_frames(64);
        let now = at(START_NS);
        let domain = Domain::recorded(config(), &memory, now, recorder).unwrap();
        Self {
            memory,
            domain,
            effects: Vec::new(),
            now,
        }
    }

    fn put(&self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.write(Gpa(at), &bytes).unwrap();
    }

    /// Makes a call of a 64-bit vCPU, to its end.
    fn call(&mut self, vcpu: u32, number: u64, args: &[u64]) -> i64 {
        let mut all = [0; 5];
        all[..args.len()].copy_from_slice(args);
        let mut call = Call::new(Width::Native, number, all);
        loop {
            let io = LinearMemory::new(&self.memory, &PagingState::UNPAGED, &POLICY);
            let origin = Origin {
                vcpu,
                io: &io,
                takes_interrupts: true,
                now: self.now,
            };
            let (domain, effects) = (&mut self.domain, &mut self.effects);
            match domain
                .hypercall(&self.memory, &origin, call, effects)
                .outcome
            {
                Outcome::Return(result) => return result,
                Outcome::Again(rest) => call = rest,
            }
        }
    }

    /// Does one of everything that can happen to a domain.
    fn live(&mut self) {
        let Self {
            memory,
            domain,
            effects,
            now,
        } = self;
        domain.entered(memory, 0, *now, effects);
        domain.hypercall_page_written(memory, Width::Native, *now);
        domain.update_time(memory, 0);
        domain.state_changed(memory, 0, RunState::Running, *now);
        // add_to_physmap of shared info into a hole, where a frame has to be made.
        self.put(ARG, &[0x7ff0, 0, 0, 0, 0x200, 0]);
        assert_eq!(self.call(0, 12, &[7, ARG]), 0);
        // bind_virq of the timer, and a timer 1 ms ahead.
        self.put(ARG, &[0, 0, 0]);
        assert_eq!(self.call(0, 32, &[1, ARG]), 0);
        assert_eq!(self.call(0, 15, &[self.now.system_ns + 1_000_000]), 0);
        // A pointer that leads nowhere, and a call that there is not.
        assert_eq!(self.call(0, 12, &[7, 0x4000_0000]), -14);
        assert_eq!(self.call(0, 63, &[]), -38);
        // A line on the console: the ring's output, its producer index, and the event.
        self.memory.write(Gpa(CONSOLE_PAGE + 1024), TEXT).unwrap();
        let written = u32::try_from(TEXT.len()).unwrap();
        self.put(CONSOLE_PAGE + 3084, &[written]);
        let [_, console] = self.domain.service_ports();
        self.put(ARG, &[console.unwrap().0]);
        assert_eq!(self.call(0, 32, &[4, ARG]), 0);
        // The second vCPU starts.
        self.put(ARG, &[0; 32]);
        self.put(ARG + 40, &[0x1_0000, 0, 1, 0, 0]);
        self.put(ARG + 92, &[u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0x67]);
        self.put(ARG + 112, &[0xc93_0c9b, 0xc93_0c93, 0x8b]);
        assert_eq!(self.call(0, 24, &[0, 1, ARG]), 0);
        assert_eq!(self.call(0, 24, &[1, 1, 0]), 0);
        let Self {
            memory,
            domain,
            effects,
            ..
        } = self;
        let _ = (domain.orders(0), domain.orders(1));
        let later = at(START_NS + 2_000_000);
        domain.tick(memory, later, effects);
        domain.init(memory, 1, later, effects);
        domain.sipi(memory, 1, 0x10, later, effects);
        domain.halted(memory, 1, later, effects);
        domain.found_running(memory, 1, later);
        assert_eq!(domain.console_input(memory, later, b"typed\n", effects), 6);
        for byte in *b"log\n" {
            domain.debug_port(byte, effects);
        }
        domain.request_shutdown(memory, later, Shutdown::PowerOff, effects);
        domain.end(memory, ShutdownReason::CRASH, later, effects);
    }
}

fn recorded() -> Vec<u8> {
    let sink = Sink::default();
    let recorder = Recorder::new(Box::new(sink.clone()), u64::MAX).unwrap();
    Guest::new(Some(recorder.clone())).live();
    let told = recorder.finish().unwrap();
    assert_eq!(told.len_bytes, sink.bytes().len() as u64);
    sink.bytes()
}

/// Where each record begins, and the end.
fn borders(trace: &[u8]) -> Vec<usize> {
    let mut borders = vec![10];
    while let Some(length) = trace
        .get(borders[borders.len() - 1]..)
        .filter(|rest| !rest.is_empty())
    {
        let length = u32::from_le_bytes(length[..4].try_into().unwrap());
        borders.push(borders[borders.len() - 1] + 4 + length as usize);
    }
    borders
}

fn find(trace: &[u8], text: &[u8]) -> Vec<usize> {
    let windows = trace.windows(text.len()).enumerate();
    windows
        .filter(|(_, at)| *at == text)
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn a_trace_of_everything_is_played_to_the_same_answers() {
    let replayed = replay(&recorded()[..]).unwrap();
    assert!(
        replayed.records > 25 && replayed.hypercalls >= 8,
        "{replayed:?}"
    );
    assert!(
        replayed.accesses > 50 && replayed.effects > 3,
        "{replayed:?}"
    );
}

#[test]
fn a_domain_does_the_same_recorded_or_not() {
    let sink = Sink::default();
    let recorder = Recorder::new(Box::new(sink), u64::MAX).unwrap();
    let (mut with, mut without) = (Guest::new(Some(recorder)), Guest::new(None));
    with.live();
    without.live();
    assert_eq!(with.effects, without.effects);
    assert!(with.effects.contains(&Effect::Output(TEXT.to_vec())));
    // Where shared info was put, what the store and the console share with the guest, and one more
    // of the special pages.
    for at in [0x20_0000, 0xFEFF_C000, CONSOLE_PAGE - 0x1000, CONSOLE_PAGE] {
        let [with, without] = [&with, &without].map(|guest| {
            let mut bytes = vec![0; 4096];
            guest.memory.read(Gpa(at), &mut bytes).unwrap();
            bytes
        });
        assert!(with == without, "{at:#x}");
    }
}

#[test]
fn what_a_domain_read_decides_and_a_changed_read_is_noticed() {
    let trace = recorded();
    let found = find(&trace, TEXT);
    assert_eq!(found.len(), 2, "what was read, and the effect");
    for at in found {
        let mut changed = trace.clone();
        changed[at] ^= 1;
        let error = replay(&changed[..]).unwrap_err();
        let ReplayError::Divergence(divergence) = &error else {
            panic!("{error}")
        };
        let begun = borders(&trace)
            .iter()
            .filter(|border| **border <= at)
            .count();
        assert_eq!(divergence.record(), begun as u64 - 1);
        let text = divergence.to_string();
        assert!(
            text.contains("Hypercall") && text.contains("Output"),
            "{text}"
        );
    }
}

#[test]
fn a_domain_that_writes_something_else_is_noticed() {
    let trace = recorded();
    // What was typed: once as it came, once as it was written into the ring.
    let [input, written] = find(&trace, b"typed\n")[..] else {
        panic!()
    };
    for at in [input, written] {
        let mut changed = trace.clone();
        changed[at] ^= 1;
        let error = replay(&changed[..]).unwrap_err();
        assert!(
            error.source().unwrap().to_string().contains("Write"),
            "{error:?}"
        );
    }
}

#[test]
fn a_machine_that_is_built_anew_goes_on_in_the_same_trace() {
    let sink = Sink::default();
    let recorder = Recorder::new(Box::new(sink.clone()), u64::MAX).unwrap();
    Guest::new(Some(recorder.clone())).live();
    let once = recorder.finish().unwrap().records;
    Guest::new(Some(recorder.clone())).live();
    assert_eq!(recorder.finish().unwrap().records, 2 * once);
    assert_eq!(replay(&sink.bytes()[..]).unwrap().records, 2 * once);
}

#[test]
fn a_trace_ends_at_its_limit_and_the_domain_runs_on() {
    let whole = recorded();
    let exact = Recorder::new(Box::new(Sink::default()), whole.len() as u64).unwrap();
    Guest::new(Some(exact.clone())).live();
    assert_eq!(exact.finish().unwrap().len_bytes, whole.len() as u64);
    for limit in [200, whole.len() / 2, whole.len() - 1] {
        let sink = Sink::default();
        let recorder = Recorder::new(Box::new(sink.clone()), limit as u64).unwrap();
        let mut guest = Guest::new(Some(recorder.clone()));
        guest.live();
        let error = recorder.finish().unwrap_err();
        // Nothing follows the gap, small as it may be.
        guest.domain.debug_port(b'.', &mut guest.effects);
        assert!(recorder.finish().is_ok(), "it is told once");
        assert!(
            matches!(error, RecordError::TooLong { limit_bytes } if limit_bytes == limit as u64)
        );
        let cut = sink.bytes();
        assert!(cut.len() <= limit && whole.starts_with(&cut));
        assert!(replay(&sink.bytes()[..]).is_ok());
    }
}

#[test]
fn a_disk_that_is_full_ends_the_trace_and_the_domain_runs_on() {
    let recorder = Recorder::new(Box::new(Full(2000)), u64::MAX).unwrap();
    let mut guest = Guest::new(Some(recorder.clone()));
    guest.live();
    assert!(guest.domain.is_over());
    assert!(matches!(recorder.finish(), Err(RecordError::Io(_))));
    assert!(matches!(
        Recorder::new(Box::new(Full(5)), u64::MAX),
        Err(RecordError::Io(_))
    ));
}

#[test]
fn other_files_are_no_traces() {
    let trace = recorded();
    for len in 0..10 {
        let cut = replay(&trace[..len]);
        assert!(matches!(
            cut,
            Err(ReplayError::Trace(TraceError::NotATrace))
        ));
    }
    let mut other = trace.clone();
    other[0] ^= 1;
    assert!(matches!(
        replay(&other[..]),
        Err(ReplayError::Trace(TraceError::NotATrace))
    ));
    for version in [0, 6] {
        let mut other = trace.clone();
        other[8] = version;
        let Err(ReplayError::Trace(TraceError::Version { found })) = replay(&other[..]) else {
            panic!("version {version} is played");
        };
        assert_eq!(found, u16::from(version));
    }
}

#[test]
fn in_a_trace_of_version_1_no_call_waits_for_vcpus_to_be_observed() {
    let mut trace = recorded();
    assert_eq!(trace[8..10], [5, 0], "what is written");
    replay(&trace[..]).unwrap();
    trace[8] = 1;
    let refused = replay(&trace[..]).unwrap_err();
    assert!(matches!(refused, ReplayError::Divergence(_)), "{refused}");
}

#[test]
fn in_a_trace_of_version_2_the_time_is_not_written_every_second() {
    let sink = Sink::default();
    let recorder = Recorder::new(Box::new(sink.clone()), u64::MAX).unwrap();
    let mut guest = Guest::new(Some(recorder));
    guest.put(ARG, &[0x7ff0, 0, 0, 0, 0x20, 0]);
    assert_eq!(guest.call(0, 12, &[7, ARG]), 0);
    let tick = sink.bytes().len();
    let later = at(START_NS + 1_000_000_000);
    guest.domain.tick(&guest.memory, later, &mut guest.effects);
    let trace = sink.bytes();
    assert_eq!(replay(&trace[..]).unwrap().records, 3);
    let mut other = trace.clone();
    other[8] = 2;
    assert!(replay(&other[..tick]).is_ok());
    let refused = replay(&other[..]).unwrap_err();
    assert!(matches!(refused, ReplayError::Divergence(_)), "{refused}");
}

#[test]
fn in_a_trace_of_version_3_a_call_has_no_budget() {
    let sink = Sink::default();
    let recorder = Recorder::new(Box::new(sink.clone()), u64::MAX).unwrap();
    let mut guest = Guest::new(Some(recorder));
    let begun = sink.bytes().len();
    // populate_physmap of two pages in a hole, in one go each.
    guest.put(ARG, &[0x8100, 0, 1, 0, 1, 0, 0x7ff0, 0]);
    guest.put(0x8100, &[0x200, 0]);
    assert_eq!(guest.call(0, 12, &[6, ARG]), 1);
    let trace = sink.bytes();
    assert_eq!(replay(&trace[..]).unwrap().hypercalls, 2);
    let mut other = trace.clone();
    other[8] = 3;
    assert!(replay(&other[..begun]).is_ok());
    let refused = replay(&other[..]).unwrap_err();
    assert!(matches!(refused, ReplayError::Divergence(_)), "{refused}");
}

#[test]
fn a_trace_cut_between_records_is_shorter_and_inside_one_is_refused() {
    let trace = recorded();
    let borders = borders(&trace);
    for (number, &border) in borders.iter().enumerate() {
        assert_eq!(replay(&trace[..border]).unwrap().records, number as u64);
    }
    for len in (10..trace.len())
        .step_by(7)
        .filter(|len| !borders.contains(len))
    {
        let cut = replay(&trace[..len]);
        assert!(matches!(
            cut,
            Err(ReplayError::Trace(TraceError::Truncated { .. }))
        ));
    }
}

#[test]
fn a_record_is_as_long_as_it_says_and_no_longer_than_4_mib() {
    let trace = recorded();
    let mut long = trace[..10].to_vec();
    long.extend(u32::MAX.to_le_bytes());
    let refused = replay(&long[..]);
    assert!(matches!(
        refused,
        Err(ReplayError::Trace(TraceError::RecordTooLong {
            record: 0,
            len_bytes: u32::MAX
        }))
    ));
    // A byte too many in the last record.
    let last = borders(&trace).iter().rev().nth(1).copied().unwrap();
    let mut padded = trace.clone();
    padded[last] += 1;
    padded.push(0);
    let refused = replay(&padded[..]);
    assert!(matches!(
        refused,
        Err(ReplayError::Trace(TraceError::Malformed { .. }))
    ));
}

#[test]
fn a_call_without_a_domain_is_refused() {
    let trace = recorded();
    let second = borders(&trace)[1];
    let headless = [&trace[..10], &trace[second..]].concat();
    let refused = replay(&headless[..]);
    assert!(matches!(refused, Err(ReplayError::NoDomain { record: 0 })));
}

#[test]
fn a_domain_that_there_cannot_be_is_refused() {
    let trace = recorded();
    let name = find(&trace, b"guest")[0];
    // After the name: the number of vCPUs, in one byte.
    let mut many = trace.clone();
    many[name + 5] = 0;
    let refused = replay(&many[..]);
    assert!(
        matches!(refused, Err(ReplayError::Domain { record: 0, .. })),
        "{refused:?}"
    );
    // Before it: input 0, the domain's id, its UUID, the length of the name.
    let mut zero = trace;
    zero[name - 18] = 0;
    assert!(matches!(
        replay(&zero[..]),
        Err(ReplayError::Config { record: 0 })
    ));
}

#[test]
fn a_domain_that_leaves_the_trace_before_it_is_made_is_a_divergence() {
    let trace = recorded();
    let end = borders(&trace)[1];
    let mut left = 0;
    // Behind the configuration: what the new domain asks of memory.
    for at in find(&trace, b"guest")[0] + 64..end {
        let mut changed = trace.clone();
        changed[at] ^= 1;
        match replay(&changed[..]) {
            Err(ReplayError::Divergence(_)) => left += 1,
            Err(error @ ReplayError::Domain { .. }) => panic!("{at}: {error:?}"),
            // No record at all any more, or something that a new domain does not care for.
            Err(_) | Ok(_) => {}
        }
    }
    assert!(left > 8, "{left}");
}

proptest! {
    #[test]
    fn no_trace_makes_the_replay_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut trace = recorded();
        for (at, byte) in changes {
            let at = at.index(trace.len());
            trace[at] = byte;
        }
        if let Err(error) = replay(&trace[..]) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}

/// What real guests did to a domain, as `pvh-vmm run --record` wrote it; tests/data/README.md says
/// which.
#[test]
fn recorded_guests_get_the_same_answers_again() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let mut count = 0;
    for file in std::fs::read_dir(data).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        let packed = std::fs::File::open(&path).unwrap();
        let unpacked = flate2::read::GzDecoder::new(io::BufReader::new(packed));
        match replay(unpacked) {
            Ok(replayed) => assert!(replayed.hypercalls > 100, "{}", path.display()),
            Err(ReplayError::Divergence(divergence)) => panic!("{}: {divergence}", path.display()),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        count += 1;
    }
    assert!(count > 0, "no trace in {data}");
}
