//! What each hypercall reads, asks, answers and writes, as Xen's headers say it.

use pvh_abi::Errno;
use pvh_hypercall::{Call, Outcome, Width};

use super::{
    model::{Answer, FAULT, INVALID, Model, NO_CALL},
    tables,
};

impl Model {
    pub(super) fn dispatch(&self, call: Call) -> Outcome {
        match call.number.0 {
            13 => self.multicall(call).unwrap_or_else(returned),
            _ => self.single(call).unwrap_or_else(returned),
        }
    }

    fn single(&self, call: Call) -> Result<Outcome, Errno> {
        let group = match call.number.0 {
            12 => 0,
            15 => 1,
            17 => 2,
            18 => 3,
            20 => 4,
            21 => 5,
            24 => 6,
            29 => 7,
            32 => 8,
            34 => 9,
            _ => return Ok(self.foreign(call)),
        };
        if self.offered >> group & 1 == 0 {
            return Err(if group == 3 { Errno(1) } else { NO_CALL });
        }
        let [op, arg, ..] = call.args;
        let low_op = op & 0xffff_ffff;
        let answer = match group {
            0 => return self.memory(call),
            1 => self.set_timer(call),
            2 => self.version(call.width, low_op, arg),
            3 => return self.console(call),
            4 => return self.grants(call),
            5 => self.assist(low_op, arg & 0xffff_ffff),
            6 => return self.vcpu(call),
            7 => self.sched(call.width, low_op, arg),
            8 => self.event(low_op, arg),
            _ => self.hvm(op, arg),
        };
        answer.map(Outcome::Return)
    }

    fn event(&self, op: u64, arg: u64) -> Answer {
        let row = tables::event(op).ok_or(NO_CALL)?;
        self.simple(&row, arg, |args| op != 1 || args[0] < 24)?;
        Ok(0)
    }

    fn hvm(&self, op: u64, arg: u64) -> Answer {
        match op {
            5 | 24 if arg != 0 => return Err(INVALID),
            5 => self.script.tell("flush_tlbs", &[]),
            24 => {}
            10 => {
                let now = self.script.ask("time", &[]).unwrap_or(u64::MAX);
                self.pages.put(arg, now, 8)?;
            }
            11 => {
                let record = self.read(arg, 32, &[(0, 2), (2, 2)])?;
                if record[0] > 0xfff || record[1] > 28 {
                    return Err(INVALID);
                }
            }
            25 => return Err(Errno(95)),
            _ => {
                let row = tables::hvm(op).ok_or(NO_CALL)?;
                self.simple(&row, arg, |args| match op {
                    0 | 1 => args[1] < 39,
                    23 => args[1] >= 16,
                    _ => true,
                })?;
            }
        }
        Ok(0)
    }

    fn sched(&self, width: Width, op: u64, arg: u64) -> Answer {
        match op {
            0 => self.script.tell("yield", &[]),
            1 => self.script.tell("block", &[]),
            3 => self.poll(width, arg)?,
            7 => return Err(Errno(1)),
            _ => {
                let row = tables::sched(op).ok_or(NO_CALL)?;
                let is_read = self.pages.read(arg, row.size).is_ok();
                let answer = self.simple(&row, arg, |_| true);
                return match (op, answer) {
                    // a reason is taken whatever is answered
                    (2 | 5, Err(_)) if is_read => Ok(0),
                    (6, Err(Errno(28))) => Ok(0xffff_ffe4),
                    (6, Ok(id)) => Ok(id.cast_signed()),
                    (_, answer) => answer.map(|_| 0),
                };
            }
        }
        Ok(0)
    }

    fn poll(&self, width: Width, arg: u64) -> Result<(), Errno> {
        let native = (24, [(0, 8), (8, 4), (16, 8)]);
        let compat = (16, [(0, 4), (4, 4), (8, 8)]);
        let [list, count, until] = self.read_either(width, arg, native, compat)?;
        if count > 128 {
            return Err(INVALID);
        }
        let port = |index| self.listed(list, count, index, 4);
        let ends = [port(0), port(count.saturating_sub(1))];
        self.script
            .ask("poll", &[count, until, ends[0], ends[1]])
            .map(|_| ())
    }

    fn version(&self, width: Width, op: u64, arg: u64) -> Answer {
        let is_native = width == Width::Native;
        let padded = |text: &[u8]| [text, &vec![0; 1024 - text.len()]].concat();
        let bytes = match op {
            0 => return Ok(0x4_0011),
            1 => vec![b'x'; 16],
            2 => vec![b'c'; 144],
            3 => padded(b"hvm"),
            4 => vec![b's'; 64],
            5 if is_native => 0xffff_8000_0000_0000_u64.to_le_bytes().to_vec(),
            5 => vec![0; 4],
            6 => {
                if self.read(arg, 8, &[(0, 4)])?[0] != 0 {
                    return Err(INVALID);
                }
                (0x1_2305_u64 << 32).to_le_bytes().to_vec()
            }
            7 if arg == 0 => return Ok(4096),
            7 => return Err(INVALID),
            8 => vec![b'u'; 16],
            9 => b"<denied>\0".to_vec(),
            10 => return Err(Errno(1)),
            _ => return Err(NO_CALL),
        };
        for (at, byte) in bytes.iter().enumerate() {
            let at = arg.checked_add(at as u64).ok_or(FAULT)?;
            self.pages.put(at, u64::from(*byte), 1)?;
        }
        Ok(0)
    }

    fn set_timer(&self, call: Call) -> Answer {
        let at = match call.width {
            Width::Native => call.args[0],
            Width::Compat => call.args[0] + (call.args[1] << 32),
        };
        self.script.tell("set_timer", &[at]);
        Ok(0)
    }

    fn assist(&self, command: u64, kind: u64) -> Answer {
        match (kind, command) {
            (5, 0 | 1) => {
                self.script.tell("runstate_update_flag", &[1 - command]);
                Ok(0)
            }
            (5, _) => Err(NO_CALL),
            _ => Err(INVALID),
        }
    }

    fn console(&self, call: Call) -> Result<Outcome, Errno> {
        let [command, count, buffer, d, e] = call.args;
        let count = count & 0xffff_ffff;
        let piece = count.min(256);
        match command & 0xffff_ffff {
            0 => {
                let text = self
                    .pages
                    .read(buffer, usize::try_from(piece).unwrap_or(0))?;
                let text: Vec<u64> = text.into_iter().map(u64::from).collect();
                self.script.tell("write", &text);
                if count == piece {
                    return Ok(Outcome::Return(0));
                }
                let next = buffer.checked_add(piece).ok_or(FAULT)?;
                let left = [command, count - piece, next, d, e];
                Ok(Outcome::Again(Call::new(call.width, 18, left)))
            }
            1 if count > 0x7fff_ffff => Err(Errno(7)),
            1 => {
                let len = self.script.ask("read", &[piece]).unwrap_or(0).min(piece);
                for at in 0..len {
                    let at = buffer.checked_add(at).ok_or(FAULT)?;
                    self.pages.put(at, b'r'.into(), 1)?;
                }
                Ok(Outcome::Return(len.cast_signed()))
            }
            _ => Err(NO_CALL),
        }
    }

    /// Up to 32 entries: number, result, six arguments, each as wide as the caller's words.
    fn multicall(&self, call: Call) -> Result<Outcome, Errno> {
        let [list, count, c, d, e] = call.args;
        let word = match call.width {
            Width::Native => 8_usize,
            Width::Compat => 4,
        };
        let (size, step) = (8 * word, word as u64);
        let mut left = count & 0xffff_ffff;
        let mut at = list;
        for _ in 0..left.min(32) {
            let fields = [0, 2, 3, 4, 5, 6].map(|index| (index * step, word));
            let words = self.read(at, size, &fields)?;
            let args = [words[1], words[2], words[3], words[4], words[5]];
            let outcome = match words[0] {
                13 => Outcome::Return(-22),
                number => self
                    .single(Call::new(call.width, number, args))
                    .unwrap_or_else(returned),
            };
            match outcome {
                Outcome::Return(result) => {
                    let result = result.cast_unsigned();
                    self.pages
                        .put(at.checked_add(step).ok_or(FAULT)?, result, word)?;
                }
                Outcome::Again(rest) => {
                    for (arg, index) in rest.args.into_iter().zip(2..) {
                        self.pages.put(at + index * step, arg, word)?;
                    }
                    let args = [at, left, c, d, e];
                    return Ok(Outcome::Again(Call::new(call.width, 13, args)));
                }
            }
            at = at.checked_add(size as u64).ok_or(FAULT)?;
            left -= 1;
        }
        Ok(match left {
            0 => Outcome::Return(0),
            _ => Outcome::Again(Call::new(call.width, 13, [at, left, c, d, e])),
        })
    }
}

fn returned(errno: Errno) -> Outcome {
    Outcome::Return(-i64::from(errno.0))
}
