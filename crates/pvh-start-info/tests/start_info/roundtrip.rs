//! What is written is what is read, for every generation.

use proptest::{collection::vec, option, prelude::*};
use pvh_abi::{
    Gpa,
    start_info::{MemmapKind, StartInfoFlags},
};
use pvh_start_info::{Builder, Generation, MemmapRange, Module};

use crate::guest::Guest;

/// A module that owns its command line.
type OwnedModule = (u64, u64, Option<Vec<u8>>);

/// Everything a builder can be given, owned.
#[derive(Clone, Debug)]
struct Spec {
    generation: Generation,
    flags: u32,
    cmdline: Option<Vec<u8>>,
    modules: Vec<OwnedModule>,
    memmap: Vec<MemmapRange>,
    rsdp: Option<u64>,
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8..=255, 0..60)
}

/// A range of addresses from 1 up to `last`, as start and length.
fn range(last: u64) -> impl Strategy<Value = (u64, u64)> {
    (1..=last).prop_flat_map(move |start| (Just(start), 0..=last.saturating_sub(start)))
}

fn draft() -> impl Strategy<Value = Spec> {
    let modules = vec(range(0xffff_ffff), 0..9);
    (any::<u32>(), option::of(line()), modules).prop_map(|(flags, cmdline, modules)| Spec {
        generation: Generation::Draft,
        flags,
        cmdline,
        modules: modules
            .into_iter()
            .map(|(at, len)| (at, len, None))
            .collect(),
        memmap: Vec::new(),
        rsdp: None,
    })
}

fn v0() -> impl Strategy<Value = Spec> {
    let modules = vec((range(u64::MAX), option::of(line())), 0..9);
    let rsdp = option::of(1..=u64::MAX);
    (any::<u32>(), option::of(line()), modules, rsdp).prop_map(|(flags, cmdline, modules, rsdp)| {
        Spec {
            generation: Generation::V0,
            flags,
            cmdline,
            modules: modules
                .into_iter()
                .map(|((at, len), line)| (at, len, line))
                .collect(),
            memmap: Vec::new(),
            rsdp,
        }
    })
}

fn v1() -> impl Strategy<Value = Spec> {
    let memmap = vec((range(u64::MAX), any::<u32>()), 0..200);
    (v0(), memmap).prop_map(|(v0, memmap)| Spec {
        generation: Generation::V1,
        memmap: memmap
            .into_iter()
            .map(|((start, len_bytes), kind)| MemmapRange {
                start: Gpa(start),
                len_bytes,
                kind: MemmapKind(kind),
            })
            .collect(),
        ..v0
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![draft(), v0(), v1()]
}

/// A place that is a multiple of 8, with room above it.
fn place() -> impl Strategy<Value = Gpa> {
    (1_u64..0x1fff_e000).prop_map(|eighths| Gpa(eighths << 3))
}

fn modules_of(spec: &Spec) -> Vec<Module<'_>> {
    let modules = spec.modules.iter();
    modules
        .map(|(paddr, size_bytes, cmdline)| Module {
            paddr: Gpa(*paddr),
            size_bytes: *size_bytes,
            cmdline: cmdline.as_deref(),
        })
        .collect()
}

fn builder_of<'a>(spec: &'a Spec, modules: &'a [Module<'a>]) -> Builder<'a> {
    let mut builder = Builder::new(spec.generation)
        .flags(StartInfoFlags(spec.flags))
        .modules(modules)
        .memmap(&spec.memmap);
    if let Some(line) = &spec.cmdline {
        builder = builder.cmdline(line);
    }
    if let Some(rsdp) = spec.rsdp {
        builder = builder.rsdp(Gpa(rsdp));
    }
    builder
}

/// Reads everything back into a spec.
fn read_back(guest: &Guest, generation: Generation) -> Spec {
    let info = guest.read(generation).expect("a valid structure");
    let modules = info.modules(9, |at, buf| guest.fetch(at, buf)).unwrap();
    let memmap = info.memmap(200, |at, buf| guest.fetch(at, buf)).unwrap();
    Spec {
        generation,
        flags: info.flags.0,
        cmdline: guest.line(info.cmdline),
        modules: modules
            .map(|module| {
                let module = module.unwrap();
                (
                    module.paddr.0,
                    module.size_bytes,
                    guest.line(module.cmdline),
                )
            })
            .collect(),
        memmap: memmap.map(|range| range.unwrap().range).collect(),
        rsdp: info.rsdp.map(|rsdp| rsdp.0),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(spec in spec(), at in place()) {
        let modules = modules_of(&spec);
        let guest = Guest::with(&builder_of(&spec, &modules), at);
        let back = read_back(&guest, spec.generation);
        prop_assert_eq!(back.flags, spec.flags);
        prop_assert_eq!(back.cmdline, spec.cmdline);
        prop_assert_eq!(back.modules, spec.modules);
        prop_assert_eq!(back.memmap, spec.memmap);
        prop_assert_eq!(back.rsdp, spec.rsdp);
        prop_assert!(guest.most_fetches_of_a_byte() <= 1);
    }

    #[test]
    fn every_byte_of_the_block_is_the_builders_own(spec in spec(), at in place(), extra in 0_usize..64) {
        let modules = modules_of(&spec);
        let builder = builder_of(&spec, &modules);
        let size = usize::try_from(builder.size_bytes().unwrap()).unwrap();
        prop_assert_eq!(size % 8, 0);
        let len = size.saturating_add(extra);
        let mut zeros = vec![0x00; len];
        let mut ones = vec![0xff; len];
        prop_assert_eq!(builder.write(at, &mut zeros), Ok(size));
        prop_assert_eq!(builder.write(at, &mut ones), Ok(size));
        prop_assert_eq!(&zeros[..size], &ones[..size]);
        prop_assert!(zeros[size..].iter().all(|&byte| byte == 0x00));
        prop_assert!(ones[size..].iter().all(|&byte| byte == 0xff));
    }
}
