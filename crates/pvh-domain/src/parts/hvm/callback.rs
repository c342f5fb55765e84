//! The value of the HVM parameter `CALLBACK_IRQ`.

/// How events are delivered, by `CALLBACK_IRQ`. A PVH domain delivers by the vector only: the other
/// methods are stored in the parameter and change nothing, `Off` included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "params.h has these")]
pub enum Callback {
    /// Not at all.
    Off,
    /// By a global system interrupt.
    Gsi(u8),
    /// By an interrupt line of a PCI device.
    PciIntx {
        /// The device, 0 to 31.
        device: u8,
        /// INTA to INTD, 0 to 3.
        line: u8,
    },
    /// By a vector, the same on all vCPUs.
    Vector(u8),
}

impl Callback {
    /// Reads the value of the parameter: bits 63:56 say how, the low bits by which.
    #[must_use]
    pub const fn decode(value: u64) -> Self {
        let [low, second, .., method] = value.to_le_bytes();
        match method {
            0 if value == 0 => Self::Off,
            0 => Self::Gsi(low),
            1 => Self::PciIntx {
                device: second >> 3,
                line: low & 3,
            },
            2 => Self::Vector(low),
            _ => Self::Off,
        }
    }
}
