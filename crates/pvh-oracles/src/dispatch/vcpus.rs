//! The part of the model about vCPUs.

use pvh_abi::Errno;
use pvh_hypercall::{Call, Outcome, Width};

use super::model::{Answer, FAULT, INVALID, Model, NO_CALL};

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
}
