//! Tests of `vcpu_info`.

use pvh_memory::VecMemory;
use zerocopy::little_endian::{U32, U64};

use super::*;

const ENOENT: Errno = Errno(2);
const ENXIO: Errno = Errno(6);
const EINVAL: Errno = Errno(22);

struct Guest {
    memory: VecMemory,
    shared_info: SharedInfo,
    infos: VcpuInfos,
}

impl Guest {
    fn new() -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x8000)]).unwrap();
        let mut shared_info = SharedInfo::new();
        shared_info.map(&memory, 1).unwrap();
        let infos = VcpuInfos::new(40);
        Self {
            memory,
            shared_info,
            infos,
        }
    }

    fn register(&mut self, vcpu: u32, frame: u64, offset: u32) -> Result<bool, Errno> {
        self.register_if(vcpu, (frame, offset), true)
    }

    fn register_if(
        &mut self,
        vcpu: u32,
        (frame, offset): (u64, u32),
        may: bool,
    ) -> Result<bool, Errno> {
        let request = RegisterVcpuInfo {
            mfn: U64::new(frame),
            offset: U32::new(offset),
            rsvd: U32::new(7),
        };
        let infos = &mut self.infos;
        infos.register(&self.memory, &self.shared_info, vcpu, &request, may)
    }

    fn word(&self, at: u64) -> u32 {
        self.memory.atomic_u32(Gpa(at), WordOp::Load).unwrap()
    }
}

#[test]
fn what_it_held_is_copied_and_everything_is_marked_pending() {
    let mut guest = Guest::new();
    let old: Vec<u8> = (0..64).map(|byte| byte & 0xfe).collect();
    guest.memory.write(Gpa(0x1000 + 64), &old).unwrap();
    assert_eq!(guest.register(1, 3, 64), Ok(true), "an upcall follows");
    assert_eq!(guest.word(0x3040), 0x0202_0001, "evtchn_upcall_pending");
    assert_eq!(guest.word(0x3044), 0x0606_0404);
    assert_eq!(
        [guest.word(0x3048), guest.word(0x304c)],
        [u32::MAX; 2],
        "the selector"
    );
    let mut rest = [0; 48];
    guest.memory.read(Gpa(0x3050), &mut rest).unwrap();
    assert_eq!(rest, old[16..]);
    assert!(
        guest
            .infos
            .is_upcall_pending(&guest.memory, &guest.shared_info, 1)
    );
}

#[test]
fn with_32_bit_shared_info_the_selector_is_one_word_at_4() {
    let mut guest = Guest::new();
    guest.shared_info.latch(&guest.memory, Width::Compat);
    assert_eq!(guest.register(0, 3, 4), Ok(true), "aligned to 4");
    assert_eq!([guest.word(0x3008), guest.word(0x300c)], [u32::MAX, 0]);
}

#[test]
fn an_upcall_that_was_pending_already_is_no_new_one() {
    let mut guest = Guest::new();
    guest.memory.write(Gpa(0x1000), &[1]).unwrap();
    assert_eq!(guest.register(0, 3, 0), Ok(false));
    assert_eq!(guest.word(0x3000), 1);
}

#[test]
fn a_vcpu_past_the_32nd_begins_with_zeros() {
    let mut guest = Guest::new();
    guest.memory.write(Gpa(0x3000), &[0xff; 64]).unwrap();
    assert!(!guest.infos.is_usable(32) && guest.infos.is_usable(31));
    assert_eq!(guest.register(32, 3, 0), Ok(true));
    assert!(guest.infos.is_usable(32) && !guest.infos.is_usable(40));
    let words = [0, 4, 8, 12, 16, 60].map(|at| guest.word(0x3000 + at));
    assert_eq!(words, [1, 0, u32::MAX, u32::MAX, 0, 0]);
}

#[test]
fn the_errors_come_in_xens_order() {
    let mut guest = Guest::new();
    assert_eq!(guest.register_if(40, (9, 4033), false), Err(ENOENT));
    assert_eq!(
        guest.register_if(0, (9, 4033), false),
        Err(ENXIO),
        "it crosses its page"
    );
    assert_eq!(guest.register_if(0, (9, 4040), false), Err(ENXIO));
    assert_eq!(guest.register_if(0, (9, u32::MAX), false), Err(ENXIO));
    assert_eq!(
        guest.register_if(0, (9, 4), false),
        Err(ENXIO),
        "aligned to 8"
    );
    assert_eq!(
        guest.register_if(0, (3, 0), false),
        Err(EINVAL),
        "up, and not the caller"
    );
    for frame in [8, 1 << 52, u64::MAX] {
        assert_eq!(guest.register(0, frame, 0), Err(EINVAL), "{frame:#x}");
    }
    assert_eq!(guest.register(0, 3, 4032), Ok(true));
    assert_eq!(guest.register(0, 3, 0), Err(EINVAL), "4.17; EBUSY later");
}

#[test]
fn a_soft_reset_goes_back_to_shared_info() {
    let mut guest = Guest::new();
    guest.register(0, 3, 0).unwrap();
    guest.infos.unregister_all();
    assert!(
        !guest
            .infos
            .is_upcall_pending(&guest.memory, &guest.shared_info, 0)
    );
    assert_eq!(guest.register(0, 3, 0), Ok(true));
}

#[test]
fn block_clears_the_upcall_mask_and_nothing_else() {
    let guest = Guest::new();
    guest.memory.write(Gpa(0x1000), &[0xff; 8]).unwrap();
    let infos = &guest.infos;
    infos.clear_upcall_mask(&guest.memory, &guest.shared_info, 0);
    assert_eq!(
        [guest.word(0x1000), guest.word(0x1004)],
        [0xffff_00ff, u32::MAX]
    );
}

#[test]
fn a_place_aligned_to_4_still_works_after_the_layout_becomes_64_bit() {
    let mut guest = Guest::new();
    guest.shared_info.latch(&guest.memory, Width::Compat);
    guest.register(0, 3, 4).unwrap();
    guest.shared_info.latch(&guest.memory, Width::Native);
    guest.memory.zero(Gpa(0x3000), 0x1000).unwrap();
    assert!(guest.infos.select(&guest.memory, &guest.shared_info, 0, 33));
    assert_eq!(guest.word(0x3004 + 8 + 4), 2);
}
