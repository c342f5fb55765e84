//! The exit codes of `pvh-vmm`.

/// The guest powered off, or the file can be booted.
pub const SUCCESS: u8 = 0;
/// The conformance guest found a difference from Xen that nothing explains, or a report has a result
/// that was not expected.
pub const DIFFERS: u8 = 1;
/// The arguments are wrong.
pub const ARGUMENTS: u8 = 2;
/// A file was refused.
pub const REFUSED: u8 = 3;
/// The host lacks something, or could not write the output, record or trace.
pub const HOST: u8 = 4;
/// The guest crashed.
pub const CRASHED: u8 = 5;
/// The guest asked to reboot or had a triple fault that is no crash, with `--no-reboot`.
pub const REBOOT: u8 = 6;
/// The sandbox ended the run: a thread made a system call that it does not need.
pub const SANDBOX: u8 = 7;
/// The user ended the guest at the terminal: the code of SIGINT.
pub const QUIT: u8 = 130;

/// The exit code for an end by signal `number`.
#[must_use]
pub fn signalled(number: i32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX).saturating_add(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_a_signal_is_128_and_its_number() {
        assert_eq!((signalled(2), signalled(15)), (QUIT, 143));
    }
}
