use pvh_hypercall::group::{Assist, Console, Timer};
use pvh_memory::Frames;

use super::super::session::Session;

impl<M: Frames + ?Sized> Timer for Session<'_, M> {
    fn set_timer(&mut self, at_ns: i64) {
        self.domain.set_timer(&mut self.scene, self.vcpu, at_ns);
    }
}

/// What is read is what was typed at the hypervisor, which is nothing.
impl<M: Frames + ?Sized> Console for Session<'_, M> {
    fn write(&mut self, text: &[u8]) {
        self.domain.log.write(text, self.scene.effects);
    }
}

impl<M: ?Sized> Assist for Session<'_, M> {
    fn runstate_update_flag(&mut self, enable: bool) {
        self.domain.marks_runstate = enable;
    }
}
