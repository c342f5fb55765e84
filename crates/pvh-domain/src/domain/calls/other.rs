//! `set_timer_op`, `console_io` and `vm_assist`.

use pvh_hypercall::group::{Assist, Console, Timer};

use super::super::session::Session;

impl Timer for Session<'_> {
    fn set_timer(&mut self, at_ns: i64) {
        self.domain.set_timer(&mut self.env, self.vcpu, at_ns);
    }
}

/// A `console_io` read always returns 0 bytes: nobody types at the hypervisor.
impl Console for Session<'_> {
    fn write(&mut self, text: &[u8]) {
        self.domain.log.write(text, self.env.effects);
    }
}

impl Assist for Session<'_> {
    fn runstate_update_flag(&mut self, enable: bool) {
        self.domain.has_runstate_flag = enable;
    }
}
