//! The part of the model about memory: reservations, the physical map, the memory map.

use pvh_abi::Errno;
use pvh_hypercall::{Call, Outcome, Width};

use super::{
    model::{Answer, FAULT, INVALID, Model, NO_CALL},
    script::{code, extents_done},
    tables,
};

impl Model {
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
