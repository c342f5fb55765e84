//! Any call with any arguments.

use proptest::prelude::*;
use pvh_hypercall::{Call, Caller, Outcome, Registers, Width, dispatch};

use crate::domain::{Domain, FlatGuest};

/// Mostly small numbers and addresses inside memory, so that calls get past their first checks.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_u64, 0..0x1_0000_u64, any::<u64>()]
}

proptest! {
    #[test]
    fn no_call_panics_or_works_without_bound(
        compat: bool,
        number in prop_oneof![0..64_u64, any::<u64>()],
        first in argument(), second in argument(), third in argument(),
        memory in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0x200),
        at in 0..0x100_usize,
    ) {
        let guest = FlatGuest::new();
        for page in 0..0x80 {
            guest.put(page * 0x200, &memory);
        }
        let mut domain = Domain { map: vec![crate::domain::e820(0, 1); at], ..Domain::default() };
        let width = if compat { Width::Compat } else { Width::Native };
        let mut call = Call::new(width, number, [first, second, third, 0, 0]);
        for _ in 0..4 {
            match dispatch(&mut domain, &guest, call) {
                Outcome::Return(_) => break,
                Outcome::Again(rest) => call = rest,
            }
        }
        prop_assert!(domain.asked.len() <= 4 * 1000, "{}", domain.asked.len());
    }

    #[test]
    fn a_caller_that_is_not_64_bit_shows_no_high_half(
        registers: [u64; 8], cr0: u64, efer: u64, rflags: u64, bits: (bool, bool), cpl in 0..4_u8,
    ) {
        let [rax, rbx, rcx, rdx, rsi, rdi, r8, r10] = registers;
        let registers = Registers { rax, rbx, rcx, rdx, rsi, rdi, r8, r10 };
        let caller = Caller { cr0, efer, rflags, cs_long: bits.0, cs_big: bits.1, cpl };
        if let Ok(call) = Call::decode(&registers, &caller) {
            let is_64 = cr0 & 1 == 1 && rflags >> 17 & 1 == 0 && efer >> 10 & 1 == 1 && bits.0;
            prop_assert_eq!(call.width == Width::Native, is_64);
            if !is_64 {
                prop_assert!(call.number.0 >> 32 == 0 && call.args.iter().all(|arg| arg >> 32 == 0));
            }
        }
    }
}
