use pvh_hypercall::group::{Assist, Console, Timer};

use super::super::session::Session;

impl Timer for Session<'_> {
    fn set_timer(&mut self, at_ns: i64) {
        self.domain.set_timer(&mut self.scene, self.vcpu, at_ns);
    }
}

/// What is read is what was typed at the hypervisor, which is nothing.
impl Console for Session<'_> {
    fn write(&mut self, text: &[u8]) {
        self.domain.log.write(text, self.scene.effects);
    }
}

impl Assist for Session<'_> {
    fn runstate_update_flag(&mut self, enable: bool) {
        self.domain.marks_runstate = enable;
    }
}
