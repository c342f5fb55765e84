//! The value of `--cpus`.

/// The most vCPUs of any machine.
pub const MAX_CPUS: u32 = pvh_layout::Platform::Plain.max_vcpus();

/// A number of vCPUs that no machine has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a machine has 1 to {MAX_CPUS} CPUs")]
pub(crate) struct CpusError;

/// Reads a number of vCPUs.
///
/// # Errors
///
/// [`CpusError`]: it is no number, or no machine has that many.
pub(crate) fn parse(text: &str) -> Result<u32, CpusError> {
    let cpus = text.parse().ok();
    cpus.filter(|cpus| (1..=MAX_CPUS).contains(cpus))
        .ok_or(CpusError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_1_to_255_cpus() {
        assert_eq!((parse("1"), parse("255")), (Ok(1), Ok(255)));
        for text in [
            "",
            "0",
            "256",
            "two",
            "-1",
            "1.5",
            "99999999999",
            "4294967297",
        ] {
            assert_eq!(parse(text), Err(CpusError), "{text:?}");
        }
        assert_eq!(CpusError.to_string(), "a machine has 1 to 255 CPUs");
    }
}
