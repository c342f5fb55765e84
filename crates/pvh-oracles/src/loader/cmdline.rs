//! Command lines, from what a user says to what a guest reads.

use pvh_abi::Gpa;
use pvh_start_info::{
    BuildError, Builder, Generation, Module, Part, ReadError, read, read_cmdline,
};

use crate::{
    bytes::{is_printable, slice},
    start_info::NotThere,
    tape::Tape,
};

const AT: u64 = 0x8000;

/// Writes command lines of a kernel and its modules, and reads them with any limit, RAM ending
/// anywhere.
///
/// # Panics
///
/// If a line comes back longer, shorter or otherwise changed, a NUL inside one is not found where
/// it is, a byte is read behind a line's NUL or behind the limit, or an error does not show in
/// printable lines.
pub fn cmdline(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let limit = usize::from(tape.half()) & 0x7ff;
    let cut = u64::from(tape.byte());
    let counts = tape.byte();
    let lens = [(); 3].map(|()| usize::from(tape.byte()));
    let lines = lens.map(|len| tape.bytes(len));
    let kernel = tape.rest();
    let modules: Vec<Module<'_>> = lines
        .iter()
        .take(usize::from(counts & 3))
        .map(|line| Module {
            paddr: Gpa(0x1000),
            size_bytes: 1,
            cmdline: Some(line),
        })
        .collect();
    let builder = Builder::new(Generation::V1)
        .cmdline(kernel)
        .modules(&modules);
    let mut block = vec![0; 8192];
    let written = builder.write(Gpa(AT), &mut block);
    let nul_in = |line: &[u8]| line.iter().position(|&byte| byte == 0);
    let nuls = modules.iter().enumerate().filter_map(|(index, module)| {
        let offset = nul_in(module.cmdline?)?;
        Some((Part::ModuleCommandLine(index), offset))
    });
    let first = nul_in(kernel).map(|offset| (Part::CommandLine, offset));
    let nul = first.into_iter().chain(nuls).next();
    if let Err(error) = &written {
        is_printable(error);
    }
    let size = match (written, nul) {
        (Ok(size), None) => size,
        (Err(BuildError::Nul { part, offset }), Some(wanted)) => {
            return assert_eq!((part, offset), wanted);
        }
        (Err(BuildError::BufferTooSmall { .. }), None) => {
            return assert!(kernel.len() > 8192 - 4 * 264);
        }
        (other, nul) => panic!("{other:?}, where the first NUL is {nul:?}"),
    };
    block.truncate(size);
    check(&block, kernel, &modules, limit, cut);
}

fn check(block: &[u8], kernel: &[u8], modules: &[Module<'_>], limit: usize, cut: u64) {
    let fetch = |at: Gpa, buf: &mut [u8]| -> Result<(), NotThere> {
        let offset = at.0.checked_sub(AT).ok_or(NotThere)?;
        let found = slice(block, offset, buf.len() as u64);
        buf.copy_from_slice(found.ok_or(NotThere)?);
        Ok(())
    };
    let info = read(Generation::V1, Gpa(AT), fetch).expect("it was just written");
    let records = info.modules(4, fetch).expect("few");
    let places = records.map(|record| record.expect("it was just written").cmdline);
    let lines = modules
        .iter()
        .map(|module| module.cmdline.unwrap_or_default());
    for (place, line) in places.chain([info.cmdline]).zip(lines.chain([kernel])) {
        let place = place.expect("a line that is there has an address");
        assert!(place.0.is_multiple_of(8), "{place}");
        // RAM ends `cut` bytes into the line.
        let end = place.0 + cut;
        let fetch = |at: Gpa, buf: &mut [u8]| {
            assert!(at.0 <= place.0 + limit as u64, "behind the limit");
            let is_there = at.0 + buf.len() as u64 <= end;
            if is_there {
                fetch(at, buf)
            } else {
                Err(NotThere)
            }
        };
        let mut buf = vec![0xee; limit];
        let found = read_cmdline(place, &mut buf, fetch);
        if let Err(error) = &found {
            is_printable(error);
        }
        // Bytes looked at: the line and its NUL, or one more than fit.
        let needed = (line.len() + 1).min(limit + 1) as u64;
        match found {
            _ if needed > cut => {
                assert!(matches!(found, Err(ReadError::Fetch { .. })), "{found:?}")
            }
            Ok(found) => assert_eq!(found, line),
            Err(ReadError::LineTooLong { at, limit_bytes }) => {
                assert!(line.len() > limit);
                assert_eq!((at, limit_bytes), (place, limit));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}
