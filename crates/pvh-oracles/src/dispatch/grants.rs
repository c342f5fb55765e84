//! The part of the model about grant tables: lists of elements, each with a status.

use pvh_abi::Errno;
use pvh_hypercall::{Call, Outcome, Width};

use super::{
    model::{Answer, FAULT, INVALID, Model, NO_CALL},
    script::{code, status},
    tables::{self, Element},
};

const SELF: u64 = 0x7ff0;

impl Model {
    pub(super) fn grants(&self, call: Call) -> Result<Outcome, Errno> {
        let [op, arg, count, d, e] = call.args;
        let (kind, count) = (op & 0xffff_ffff, count & 0xffff_ffff);
        let element = tables::grant(kind, call.width);
        if element.is_none() && !matches!(kind, 8 | 10) {
            return Err(NO_CALL);
        }
        if count > 0x7fff_ffff {
            return Err(INVALID);
        }
        let Some(element) = element else {
            return self.grant_version(kind, arg).map(Outcome::Return);
        };
        if matches!(kind, 2 | 6) {
            if count != 1 {
                return Err(INVALID);
            }
            self.grant(&element, call.width, arg)?;
            return Ok(Outcome::Return(0));
        }
        let (mut at, mut left) = (arg, count);
        for _ in 0..count.min(256) {
            self.grant(&element, call.width, at)?;
            at = at.checked_add(element.row.size as u64).ok_or(FAULT)?;
            left -= 1;
        }
        Ok(match left {
            0 => Outcome::Return(0),
            _ => Outcome::Again(Call::new(call.width, 20, [op, at, left, d, e])),
        })
    }

    fn grant(&self, element: &Element, width: Width, at: u64) -> Result<(), Errno> {
        let row = &element.row;
        let whole = self.pages.read(at, row.size)?;
        let mut args = self.read(at, row.size, row.fields)?;
        match row.name {
            "copy" => {
                let flags = args.remove(0);
                args.insert(0, flags & 1);
                args.insert(4, flags >> 1 & 1);
            }
            "setup_table" => {
                let size = if width == Width::Native { 8 } else { 4 };
                let second = args[2].checked_add(size).ok_or(FAULT);
                let size = usize::try_from(size).unwrap_or(0);
                let listed = second.and_then(|at| self.pages.put(at, 0x1234, size));
                args[2] = code(listed.map(|()| 0));
            }
            _ => {}
        }
        let answer = self.script.ask(row.name, &args);
        // The structure goes back whole, over frames that were listed in it.
        for (byte, at) in whole.into_iter().zip(at..) {
            self.pages.put(at, byte.into(), 1)?;
        }
        self.pages.put(
            at + element.status,
            u64::from(status(answer).cast_unsigned()),
            2,
        )?;
        let Ok(answer) = answer else { return Ok(()) };
        if row.name == "map" {
            self.pages.put(at + 20, answer, 4)?;
            self.pages.put(at + 24, answer << 12, 8)?;
        }
        for ((offset, size), more) in row.answers.iter().zip(0..) {
            self.pages.put(at + offset, answer + more, *size)?;
        }
        Ok(())
    }

    fn grant_version(&self, kind: u64, arg: u64) -> Answer {
        if kind == 10 {
            let domain = self.read(arg, 8, &[(0, 2)])?[0];
            let version = self.script.ask("version", &[domain])?;
            self.pages.put(arg + 4, version, 4)?;
            return Ok(0);
        }
        let asked = self.read(arg, 4, &[(0, 4)])?[0];
        if !matches!(asked, 1 | 2) {
            return Err(INVALID);
        }
        let answer = self.script.ask("set_version", &[asked]);
        let in_use = answer.or_else(|_| self.script.ask("version", &[SELF]));
        if let Ok(version) = in_use {
            self.pages.put(arg, version, 4)?;
        }
        answer.map(|_| 0)
    }
}
