//! The part of the model about vCPUs, memory and grants: structures by width, and lists.

use pvh_abi::Errno;
use pvh_hypercall::{Call, Outcome, Width};

use super::{
    model::{Answer, FAULT, INVALID, Model, NO_CALL},
    recorder::{code, extents_done, status},
    tables::{self, Element},
};

const SELF: u64 = 0x7ff0;

impl Model {
    pub(super) fn vcpu(&self, call: Call) -> Result<Outcome, Errno> {
        let [op, vcpu, ..] = call.args;
        let (op, vcpu) = (op & 0xffff_ffff, vcpu & 0xffff_ffff);
        if vcpu >= 4 {
            return Err(Errno(2));
        }
        // What depends on the state of vCPUs waits until that is known.
        if op <= 3 && self.script.ask("knows_state", &[op, vcpu]).is_err() {
            return Ok(Outcome::Again(call));
        }
        self.known_vcpu(call, op, vcpu).map(Outcome::Return)
    }

    fn known_vcpu(&self, call: Call, op: u64, vcpu: u64) -> Answer {
        let arg = call.args[2];
        let ask = |name, args: &[u64]| self.script.ask(name, args).map(|_| 0);
        let is_native = call.width == Width::Native;
        match op {
            0 => {
                ask("may_initialise", &[vcpu])?;
                let fields: Vec<_> = (0..16).map(|index| (index * 8, 8)).collect();
                let context = self.read(arg, 128, &fields)?;
                ask("initialise", &[&[vcpu][..], &context].concat())
            }
            1 => ask("up", &[vcpu]),
            2 => ask("down", &[vcpu]),
            3 => Ok((vcpu % 2).cast_signed()),
            4 => self.runstate(is_native, vcpu, arg),
            kind @ (5 | 13) => {
                let area = self.read(arg, 8, &[(0, 8)])?[0];
                match kind {
                    _ if !is_native && area > 0xffff_ffff => Err(FAULT),
                    5 => ask("runstate_area", &[vcpu, area, is_native.into()]),
                    _ => ask("time_area", &[vcpu, area]),
                }
            }
            6 => {
                let period = self.read(arg, 8, &[(0, 8)])?[0];
                if !(1_000_000..1 << 62).contains(&period) {
                    return Err(INVALID);
                }
                self.script.tell("periodic", &[vcpu, period]);
                Ok(0)
            }
            7 => {
                self.script.tell("periodic", &[vcpu, 0]);
                Ok(0)
            }
            8 => self.singleshot(is_native, vcpu, arg),
            9 if vcpu == 1 => {
                self.script.tell("stop_singleshot", &[]);
                Ok(0)
            }
            10 => {
                let place = self.read(arg, 16, &[(0, 8), (8, 4)])?;
                ask("vcpu_info", &[vcpu, place[0], place[1]])
            }
            11 if arg == 0 => {
                self.script.tell("nmi", &[vcpu]);
                Ok(0)
            }
            9 | 11 | 12 => Err(INVALID),
            _ => Err(NO_CALL),
        }
    }

    fn singleshot(&self, is_native: bool, vcpu: u64, arg: u64) -> Answer {
        if is_native && vcpu != 1 {
            return Err(INVALID);
        }
        let size = if is_native { 16 } else { 12 };
        let set = self.read(arg, size, &[(0, 8), (8, 4)])?;
        if vcpu != 1 {
            return Err(INVALID);
        }
        let args = [set[0], set[1] & 1];
        self.script.ask("singleshot", &args).map(|_| 0)
    }

    fn runstate(&self, is_native: bool, vcpu: u64, arg: u64) -> Answer {
        // the state, padding that is 0, when it began, a time for each
        let since = vcpu << 40;
        let mut words = vec![(vcpu, 4)];
        if is_native {
            words.push((0, 4));
        }
        words.extend([(since, 8), (1, 8), (2, 8), (3, 8), (since, 8)]);
        let mut at = arg;
        for (value, size) in words {
            self.pages.put(at, value, size)?;
            at = at.checked_add(size as u64).ok_or(FAULT)?;
        }
        Ok(0)
    }

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

    pub(super) fn memory(&self, call: Call) -> Result<Outcome, Errno> {
        let [command, arg, ..] = call.args;
        let (op, start) = (command & 0x3f, command >> 6);
        let done = |answer: Answer| answer.map(Outcome::Return);
        match op {
            0 | 1 | 6 => Ok(self.reservation(call)),
            7 => self.add(call),
            23 => self.add_batch(call),
            9 if start == 0 => done(self.memory_map(call.width, arg)),
            13 if start == 0 => done(self.set_memory_map(call.width, arg)),
            2 | 3 | 4 | 14 | 15 if start != 0 => Err(INVALID),
            2 => {
                let page = self.script.ask("maximum_ram_page", &[]);
                Ok(Outcome::Return(result(page.unwrap_or(u64::MAX))))
            }
            3 | 4 | 14 => {
                let row = tables::memory(op).ok_or(NO_CALL)?;
                done(self.simple(&row, arg, |_| true).map(result))
            }
            15 => {
                let native = (16, [(0, 2), (8, 8)]);
                let compat = (8, [(0, 2), (4, 4)]);
                let args = self.read_either(call.width, arg, native, compat)?;
                done(self.script.ask("remove", &args).map(|_| 0))
            }
            _ => Ok(self.foreign(call)),
        }
    }

    fn reservation(&self, call: Call) -> Outcome {
        let [command, arg, ..] = call.args;
        let (op, start) = (command & 0x3f, command >> 6);
        let native = (32, [(0, 8), (8, 8), (16, 4), (20, 4), (24, 2)]);
        let compat = (20, [(0, 4), (4, 4), (8, 4), (12, 4), (16, 2)]);
        let read = self.read_either(call.width, arg, native, compat);
        let so_far = Outcome::Return(result(start));
        let Ok([list, count, order, flags, domain]) = read else {
            return so_far;
        };
        if count >= 1 << 26 || start >= count {
            return so_far;
        }
        let size = if call.width == Width::Native { 8 } else { 4 };
        let now = (count - start).min(256);
        let end = start + now;
        let frame = |index| self.listed(list, end, index, size);
        let (first, last) = (frame(start), frame(end - 1));
        let chosen = list.checked_add((end - 1) * size as u64).ok_or(FAULT);
        let chosen = chosen.and_then(|at| self.pages.put(at, 0x77, size));
        let chosen = code(chosen.map(|()| 0));
        let name = match op {
            0 => "increase",
            1 => "decrease",
            _ => "populate",
        };
        let args = [domain, order, flags, now, first, last, chosen];
        let done = extents_done(now, self.script.ask(name, &args)).min(now);
        if done < now || start + done == count {
            return Outcome::Return(result(start + done));
        }
        again(call, start + done)
    }

    fn add(&self, call: Call) -> Result<Outcome, Errno> {
        let [command, arg, ..] = call.args;
        let start = command >> 6;
        if start > 0xffff {
            return Err(Errno(33));
        }
        let native = (24, [(0, 2), (2, 2), (4, 4), (8, 8), (16, 8)]);
        let compat = (16, [(0, 2), (2, 2), (4, 4), (8, 4), (12, 4)]);
        let [domain, size, space, idx, gpfn] = self.read_either(call.width, arg, native, compat)?;
        if space == 4 {
            return Err(NO_CALL);
        }
        self.script.ask("may_add", &[domain, space])?;
        if gpfn == u64::MAX {
            return Err(INVALID);
        }
        if space != 3 {
            self.script
                .ask("add", &[domain, space, u64::MAX, idx, gpfn])?;
            return Ok(Outcome::Return(0));
        }
        if size < start {
            return Err(Errno(84));
        }
        if u64::MAX - idx < size || u64::MAX - gpfn < size {
            return Err(Errno(75));
        }
        let end = size.min(start + 256);
        for index in start..end {
            let page = [domain, 2, u64::MAX, idx + index, gpfn + index];
            self.script.ask("add", &page)?;
        }
        Ok(match end == size {
            true => Outcome::Return(0),
            false => again(call, end),
        })
    }

    fn add_batch(&self, call: Call) -> Result<Outcome, Errno> {
        let [command, arg, ..] = call.args;
        let start = command >> 6;
        if start > 0xffff {
            return Err(Errno(33));
        }
        let native = (
            32,
            [(0, 2), (2, 2), (4, 2), (6, 2), (8, 8), (16, 8), (24, 8)],
        );
        let compat = (
            20,
            [(0, 2), (2, 2), (4, 2), (6, 2), (8, 4), (12, 4), (16, 4)],
        );
        let [domain, space, size, extra, idxs, gpfns, errs] =
            self.read_either(call.width, arg, native, compat)?;
        if space == 3 {
            return Err(Errno(95));
        }
        self.script.ask("may_add", &[domain, space])?;
        if size < start || (size == start && start > 0) {
            return Err(Errno(84));
        }
        let word = if call.width == Width::Native { 8 } else { 4 };
        let listed = |list: u64, index: u64| -> Result<u64, Errno> {
            let at = list.checked_add(index * word as u64).ok_or(FAULT)?;
            Ok(self.read(at, word, &[(0, word)])?[0])
        };
        let foreign = if space == 4 { extra } else { u64::MAX };
        let end = size.min(start + 256);
        for index in start..end {
            let (idx, gpfn) = (listed(idxs, index)?, listed(gpfns, index)?);
            if gpfn == u64::MAX {
                return Err(INVALID);
            }
            let added = self.script.ask("add", &[domain, space, foreign, idx, gpfn]);
            let error = added.map_or_else(|errno| -i64::from(errno.0), |_| 0);
            let at = errs.checked_add(index * 4).ok_or(FAULT)?;
            self.pages.put(at, error.cast_unsigned(), 4)?;
        }
        Ok(match end == size {
            true => Outcome::Return(0),
            false => again(call, end),
        })
    }

    fn memory_map(&self, width: Width, arg: u64) -> Answer {
        let (native, compat) = ((16, [(0, 4), (8, 8)]), (8, [(0, 4), (4, 4)]));
        let [room, list] = self.read_either(width, arg, native, compat)?;
        if self.map_len() == 0 {
            return Err(NO_CALL);
        }
        let count = room.min(self.map_len());
        for index in 0..count {
            let at = list.checked_add(index * 20).ok_or(FAULT)?;
            let words = [(index << 32, 8), (0x1000, 8), (index + 1, 4)];
            let bytes = words.map(|(value, size)| value.to_le_bytes()[..size].to_vec());
            for (offset, byte) in bytes.concat().into_iter().enumerate() {
                let at = at.checked_add(offset as u64).ok_or(FAULT)?;
                self.pages.put(at, byte.into(), 1)?;
            }
        }
        self.pages.put(arg, count, 4)?;
        Ok(0)
    }

    fn set_memory_map(&self, width: Width, arg: u64) -> Answer {
        let native = (24, [(0, 2), (8, 4), (16, 8)]);
        let compat = (12, [(0, 2), (4, 4), (8, 4)]);
        let [domain, count, list] = self.read_either(width, arg, native, compat)?;
        if count > 1024 {
            return Err(INVALID);
        }
        let entry = |index| self.listed(list, count, index, 20);
        let args = [domain, count, entry(0), entry(count.saturating_sub(1))];
        self.script.ask("set_memory_map", &args).map(|_| 0)
    }
}

/// The rest of a call, of which so much is done.
fn again(call: Call, done: u64) -> Outcome {
    let [command, arg, c, d, e] = call.args;
    let args = [command % 64 + done * 64, arg, c, d, e];
    Outcome::Again(Call::new(call.width, 12, args))
}

fn result(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
