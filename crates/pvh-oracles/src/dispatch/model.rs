//! The model of a domain that is called: how its questions, answers and memory accesses work.

use pvh_abi::Errno;
use pvh_hypercall::{Budget, Call, Outcome, Width, dispatch_within};

use super::{
    pages::Pages,
    recorder::Recorder,
    script::{self, Script, map_len},
    tables::{Field, Row},
};
use crate::bytes::field;

pub(super) const FAULT: Errno = Errno(14);
pub(super) const INVALID: Errno = Errno(22);
pub(super) const NO_CALL: Errno = Errno(38);

pub(super) type Answer = Result<i64, Errno>;

pub(super) struct Model {
    pub(super) offered: u16,
    pub(super) answers: [u8; 8],
    pub(super) pages: Pages,
    pub(super) script: Script,
}

impl Model {
    pub(super) const fn new(offered: u16, answers: [u8; 8], pages: Pages) -> Self {
        Self {
            offered,
            answers,
            pages,
            script: Script::new(answers),
        }
    }

    /// A call that is none of ours asks nobody, and writes nothing but the count of device ranges:
    /// 0.
    pub(super) fn foreign(&self, call: Call) -> Outcome {
        const ERRORS: [i64; 9] = [-1, -3, -7, -13, -14, -22, -38, -61, -95];
        let mut recorder = Recorder::new(u16::MAX, self.answers);
        let before = self.pages.clone();
        let budget = Budget::unlimited();
        let outcome = dispatch_within(&mut recorder, &self.pages, call, &budget);
        assert!(recorder.script.log.borrow().is_empty(), "{call:x?}");
        let is_device_map = call.number.0 == 12 && call.args[0] & 0x3f == 27;
        if is_device_map && outcome == Outcome::Return(0) {
            let count = call.args[1] + 4;
            assert_eq!(self.pages.read(count, 4), Ok(vec![0; 4]));
            before.put(count, 0, 4).expect("it was written");
        }
        assert!(before == self.pages, "{call:x?} writes");
        let is_known =
            matches!(outcome, Outcome::Return(result) if result == 0 || ERRORS.contains(&result));
        assert!(is_known, "{call:x?}: {outcome:x?}");
        outcome
    }

    /// The fields of a structure that is read whole.
    pub(super) fn read(&self, at: u64, size: usize, fields: &[Field]) -> Result<Vec<u64>, Errno> {
        let bytes = self.pages.read(at, size)?;
        let fields = fields.iter();
        Ok(fields
            .map(|&(at, size)| field(&bytes, at, size).expect("it is in the structure"))
            .collect())
    }

    /// A structure that differs by the caller's width.
    pub(super) fn read_either<const N: usize>(
        &self,
        width: Width,
        at: u64,
        native: (usize, [Field; N]),
        compat: (usize, [Field; N]),
    ) -> Result<[u64; N], Errno> {
        let (size, fields) = match width {
            Width::Native => native,
            Width::Compat => compat,
        };
        let fields = self.read(at, size, &fields)?;
        Ok(fields.try_into().expect("as many as were asked for"))
    }

    /// Asks the question of a row, and writes its answers.
    pub(super) fn simple(
        &self,
        row: &Row,
        at: u64,
        is_sound: impl Fn(&[u64]) -> bool,
    ) -> Result<u64, Errno> {
        let args = self.read(at, row.size, row.fields)?;
        if !is_sound(&args) {
            return Err(INVALID);
        }
        let answer = self.script.ask(row.name, &args)?;
        for ((offset, size), more) in row.answers.iter().zip(0..) {
            self.pages.put(at + offset, answer + more, *size)?;
        }
        Ok(answer)
    }

    /// An element's first bytes, or why there is none.
    pub(super) fn listed(&self, list: u64, count: u64, index: u64, size: usize) -> u64 {
        let element = list.checked_add(index * size as u64).ok_or(FAULT);
        let element = match index < count {
            true => element.and_then(|at| self.read(at, size, &[(0, size.min(8))])),
            false => Err(INVALID),
        };
        script::code(element.map(|fields| fields[0]))
    }

    /// How many entries the domain's memory map has.
    pub(super) fn map_len(&self) -> u64 {
        map_len(self.answers).into()
    }
}
