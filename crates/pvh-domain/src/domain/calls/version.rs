//! `xen_version`.

use pvh_abi::version::CompileInfo;
use pvh_hypercall::group::Version;

use super::super::session::Session;

/// The texts of a Xen whose build texts are made up.
impl Version for Session<'_> {
    fn extra_version(&self) -> [u8; 16] {
        text(self.domain.config.xen.answers().extra_version.as_bytes())
    }

    fn compile_info(&self) -> CompileInfo {
        CompileInfo {
            compiler: text(b"rustc"),
            compile_by: text(b"pvh"),
            compile_domain: text(b"localdomain"),
            compile_date: text(b"unknown"),
        }
    }

    fn capabilities(&self) -> &[u8] {
        self.domain.config.xen.answers().capabilities.as_bytes()
    }

    fn changeset(&self) -> [u8; 64] {
        text(self.domain.config.xen.answers().changeset.as_bytes())
    }

    fn uuid(&self) -> [u8; 16] {
        self.domain.config.uuid
    }
}

/// A text in its field, cut so that a NUL ends it.
fn text<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let room = N.saturating_sub(1);
    for (byte, text) in bytes.iter_mut().take(room).zip(text) {
        *byte = *text;
    }
    bytes
}
