//! Compares pvh-memory's page walker with the CPU: a guest reads and writes through random page
//! tables.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

mod kvm {
    use std::sync::Arc;

    use pvh_abi::Gpa;
    use pvh_entry::{EntryState, Segment};
    use pvh_kvm::{GuestRam, InterruptControllers, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit};
    use pvh_memory::{
        Access, GuestMemory, LinearAddress, LinearFault, LinearMemory, PagingMode, PagingPolicy,
        PagingState, VecMemory,
    };

    use crate::support::{CODE, START_INFO, kick_after_a_minute, out, resume};

    /// mov al, [ebx]; out 0xF4, al. The same bytes are code of 32 and of 64 bits.
    const READ: &[u8] = &[0x8A, 0x03, 0xE6, 0xF4];

    /// mov [ebx], al; out 0xF4, al
    const WRITE: &[u8] = &[0x88, 0x03, 0xE6, 0xF4];

    const WRITE_AT: u32 = CODE + 0x10;

    /// The tables that map the code. Their accessed and dirty bits are set already.
    const ROOT: u64 = 0x20_0000;

    /// Four tables of each level, from level 1 on.
    const TABLES: u64 = 0x40_0000;

    /// 4 MiB of RAM, to which the tables map.
    const DATA: u64 = 0x80_0000;

    const RAM_BYTES: u64 = 0xC0_0000;

    /// An address without RAM, a multiple of 1 GiB.
    const HOLE: u64 = 0x4000_0000;

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Met {
        /// RAM; this byte was read or written.
        Ram(u8),
        /// A guest-physical address that is not RAM.
        Outside(u64),
        /// A page fault.
        Nothing,
    }

    /// Pseudo-random numbers (xorshift64), the same in every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        /// Returns a number below `end`.
        fn below(&mut self, end: u64) -> u64 {
            (self.next() >> 16) % end
        }

        fn percent(&mut self, chance: u64) -> bool {
            self.below(100) < chance
        }

        fn pick(&mut self, from: &[u64]) -> u64 {
            from[usize::try_from(self.below(from.len() as u64)).unwrap()]
        }
    }

    /// The machine, and a second copy of its memory for the walker.
    struct Pair {
        vm: Vm,
        vcpu: Vcpu,
        twin: VecMemory,
        policy: PagingPolicy,
        has_smap: bool,
        /// CR4.PSE. It stays what it is: an entry with bit 7 must not become a pointer to a table
        /// of data.
        has_pse: bool,
        /// EFER.NXE, and RFLAGS.AC below. They stay too: KVM's shadow tables do not tell them
        /// apart, and a page that was met with the one is found there with the other. (With AC, a
        /// read-only user page that was written while WP was off, which shadow tables can only show
        /// as the kernel's.)
        has_nxe: bool,
        has_ac: bool,
        mode: PagingMode,
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_cpu_agrees_about_4_level_tables() {
        agree_about(PagingMode::FourLevel);
    }

    #[test]
    #[ignore = "needs 32-bit paging in KVM"]
    fn the_cpu_agrees_about_pae_tables_in_32_bit_paging() {
        agree_about(PagingMode::Pae);
    }

    #[test]
    #[ignore = "needs 32-bit paging in KVM"]
    fn the_cpu_agrees_about_2_level_tables_in_32_bit_paging() {
        agree_about(PagingMode::TwoLevel);
    }

    fn agree_about(mode: PagingMode) {
        let (mut granted, mut outside, mut refused) = (0, 0, 0);
        for seed in 1..=MACHINES {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut pair = Pair::new(mode, &mut random);
            assert!(pair.can_run(), "{mode:?}: this KVM cannot turn it on");
            for nth in 0..ACCESSES {
                let (access, at) = (pair.access(&mut random), pair.address(&mut random));
                let state = pair.state(&mut random);
                let walker = pair.walk(&state, access, at);
                let cpu = pair.run(&state, access, at);
                assert_eq!(
                    walker,
                    cpu,
                    "{seed}.{nth}: {access:?} {at:#x} {state:x?} {:?}",
                    pair.fault(&state, access, at)
                );
                match cpu {
                    Met::Ram(_) => granted += 1,
                    Met::Outside(_) => outside += 1,
                    Met::Nothing => refused += 1,
                }
            }
            pair.compare_memory();
        }
        println!("{mode:?}: {granted} granted, {outside} outside RAM, {refused} refused");
        assert!(granted >= 100 && outside >= 10 && refused >= 100);
    }

    const MACHINES: u64 = 8;
    const ACCESSES: u64 = 100;

    impl Pair {
        fn new(mode: PagingMode, random: &mut Random) -> Self {
            let kvm = Kvm::open().unwrap();
            let mut config = VmConfig::new(1);
            config.interrupt_controllers = InterruptControllers::None;
            let ram = Arc::new(GuestRam::new(RAM_BYTES).unwrap());
            let vm = Vm::new(&kvm, &config, ram).unwrap();
            let vcpu = vm.create_vcpu(0).unwrap();
            kick_after_a_minute(&vcpu);
            let mut pair = Self {
                policy: policy(&vcpu),
                has_smap: leaf(&vcpu, 7).is_some_and(|[_, ebx, ..]| ebx & 1 << 20 != 0),
                vm,
                vcpu,
                twin: VecMemory::zeroed(&[]).unwrap(),
                has_pse: random.percent(50),
                has_nxe: random.percent(60),
                has_ac: random.percent(50),
                mode,
            };
            pair.fill(random);
            let mut bytes = vec![0; usize::try_from(RAM_BYTES).unwrap()];
            pair.vm.ram().read(Gpa(0), &mut bytes).unwrap();
            pair.twin = VecMemory::from(bytes);
            pair
        }

        /// Writes code, tables and data.
        fn fill(&self, random: &mut Random) {
            let ram = self.vm.ram();
            ram.write(Gpa(CODE.into()), READ).unwrap();
            ram.write(Gpa(WRITE_AT.into()), WRITE).unwrap();
            let data: Vec<u8> = (0..RAM_BYTES - DATA)
                .map(|_| random.next().to_le_bytes()[7])
                .collect();
            ram.write(Gpa(DATA), &data).unwrap();
            let top = self.levels();
            for level in 1..top {
                for table in 0..4 {
                    self.fill_table(level, table_at(level, table), random);
                }
            }
            // The root: its first entry leads to the code, the others into the tables.
            for index in 1..if top == 3 { 4 } else { 512 } {
                self.put(ROOT, index, self.entry(top, random));
            }
            let flags = if self.mode == PagingMode::Pae {
                1
            } else {
                0x63
            };
            self.put(ROOT, 0, (ROOT + 0x1000) | flags);
            let code = u64::from(CODE) | 0x63;
            match self.mode {
                PagingMode::TwoLevel => self.put(ROOT + 0x1000, 0x100, code),
                PagingMode::Pae => self.put(ROOT + 0x1000, 0, 0xE3),
                _ => {
                    self.put(ROOT + 0x1000, 0, (ROOT + 0x2000) | 0x63);
                    self.put(ROOT + 0x2000, 0, 0xE3);
                }
            }
        }

        fn fill_table(&self, level: u64, table: u64, random: &mut Random) {
            let few: Vec<u64> = (0..24).map(|_| self.entry(level, random)).collect();
            for index in 0..self.entries() {
                self.put(table, index, random.pick(&few));
            }
        }

        /// Returns an entry that is mostly present, and sometimes has a reserved bit set.
        fn entry(&self, level: u64, random: &mut Random) -> u64 {
            let is_pdpte = self.mode == PagingMode::Pae && level == 3;
            if is_pdpte {
                // With reserved bits here, the CPU would not load CR3.
                return table_at(2, random.below(4)) | u64::from(random.percent(90));
            }
            let is_wide = self.mode != PagingMode::TwoLevel;
            let mut entry = u64::from(random.percent(92));
            for (bit, chance) in [(1, 70), (2, 50), (5, 30), (6, 30), (9, 50), (11, 50)] {
                entry |= u64::from(random.percent(chance)) << bit;
            }
            if is_wide {
                entry |= u64::from(random.percent(15)) << 63;
            }
            let spoil = random.percent(8);
            if matches!(level, 2 | 3) && random.percent(30) {
                entry |= 0x80 | self.large_page(level, random);
            } else if level == 1 {
                let page = random.below((RAM_BYTES - DATA) >> 12) << 12;
                let base = if random.percent(90) { DATA } else { HOLE };
                entry |= base | page;
            } else {
                entry |= table_at(level - 1, random.below(4));
                let bad = if self.policy.is_amd {
                    7 + random.below(2)
                } else {
                    7
                };
                entry |= u64::from(spoil && level == 4) << bad;
            }
            let beyond = u64::from(self.policy.address_bits);
            if spoil && is_wide && beyond < 52 {
                entry |= 1 << (beyond + random.below(52 - beyond));
            } else if random.percent(8) && self.mode == PagingMode::Pae {
                entry |= 1 << (52 + random.below(11));
            }
            entry
        }

        /// Returns the address bits of a large page, sometimes with reserved bits between.
        fn large_page(&self, level: u64, random: &mut Random) -> u64 {
            let spoil = u64::from(random.percent(10));
            match (self.mode, level) {
                // The offset of an address here selects the data or the hole.
                (_, 3) => random.pick(&[0, 0, HOLE]) | spoil << (13 + random.below(17)),
                (PagingMode::TwoLevel, _) if !self.has_pse => table_at(1, random.below(4)),
                (PagingMode::TwoLevel, _) => {
                    random.pick(&[DATA, DATA, HOLE, HOLE | 1 << 13]) | spoil << 21
                }
                _ => {
                    let page = random.pick(&[DATA, DATA + 0x20_0000, HOLE]);
                    page | spoil << (13 + random.below(8))
                }
            }
        }

        fn put(&self, table: u64, index: u64, entry: u64) {
            let bytes = entry.to_le_bytes();
            let size = if self.mode == PagingMode::TwoLevel {
                4
            } else {
                8
            };
            let at = Gpa(table + index * size);
            let bytes = &bytes[..usize::try_from(size).unwrap()];
            self.vm.ram().write(at, bytes).unwrap();
        }

        fn levels(&self) -> u64 {
            match self.mode {
                PagingMode::TwoLevel => 2,
                PagingMode::Pae => 3,
                _ => 4,
            }
        }

        fn entries(&self) -> u64 {
            if self.mode == PagingMode::TwoLevel {
                1024
            } else {
                512
            }
        }

        fn access(&self, random: &mut Random) -> Access {
            if random.percent(50) {
                Access::Read
            } else {
                Access::Write
            }
        }

        /// Returns an address that the root's first entry does not map.
        fn address(&self, random: &mut Random) -> u64 {
            let offset = random.below(0x1000);
            let l1 = random.below(512) << 12;
            match self.mode {
                PagingMode::TwoLevel => {
                    (1 + random.below(511)) << 22 | random.below(1024) << 12 | offset
                }
                mode => {
                    // In a page of 1 GiB, bits 29:21 select the data or an address without RAM.
                    let l2 = random.pick(&[4, 5, 4, 5, 200]) << 21;
                    let l3 = if mode == PagingMode::Pae {
                        1 + random.below(3)
                    } else {
                        random.below(512)
                    };
                    let l4 = if mode == PagingMode::Pae {
                        0
                    } else {
                        1 + random.below(255)
                    };
                    l4 << 39 | l3 << 30 | l2 | l1 | offset
                }
            }
        }

        /// Returns registers; the bits that access rights depend on are random.
        fn state(&self, random: &mut Random) -> PagingState {
            let mut bit = |at: u32| u64::from(random.percent(50)) << at;
            let wp = bit(16);
            let ac = u64::from(self.has_ac) << 18;
            let pse = u64::from(self.has_pse) << 4;
            let nxe = u64::from(self.has_nxe) << 11;
            let smap = if self.has_smap { bit(21) } else { 0 };
            let (pae, efer) = match self.mode {
                PagingMode::TwoLevel => (0, 0),
                PagingMode::Pae => (0x20, nxe),
                _ => (0x20, 0x500 | nxe),
            };
            PagingState {
                cr0: 0x8000_0011 | wp,
                cr3: ROOT,
                cr4: pae | pse | smap,
                efer,
                rflags: 2 | ac,
                pkru: 0,
            }
        }

        /// Returns what the walker finds in its memory.
        fn walk(&self, state: &PagingState, access: Access, at: u64) -> Met {
            let view = LinearMemory::new(&self.twin, state, &self.policy);
            let Ok(target) = view.translate(LinearAddress(at), access) else {
                return Met::Nothing;
            };
            let mut byte = [WRITTEN];
            let moved = match access {
                Access::Read => self.twin.read(target, &mut byte),
                Access::Write => self.twin.write(target, &byte),
            };
            match moved {
                Ok(()) => Met::Ram(byte[0]),
                Err(_) => Met::Outside(target.0),
            }
        }

        /// Returns the walker's fault, if any.
        fn fault(&self, state: &PagingState, access: Access, at: u64) -> Option<LinearFault> {
            let view = LinearMemory::new(&self.twin, state, &self.policy);
            view.translate(LinearAddress(at), access).err()
        }

        /// Tells whether KVM keeps CR0.PG. A KVM that emulates its guests may do so only in long
        /// mode.
        fn can_run(&mut self) -> bool {
            let state = self.state(&mut Random(1));
            self.set_entry(&state, Access::Read, 0);
            self.vcpu.registers().unwrap().state.cr0 == state.cr0
        }

        fn set_entry(&mut self, state: &PagingState, access: Access, at: u64) {
            let entry = match access {
                Access::Read => CODE,
                Access::Write => WRITE_AT,
            };
            let mut registers = EntryState::pvh(entry, START_INFO).unwrap();
            registers.rax = WRITTEN.into();
            registers.rbx = at;
            registers.rflags = state.rflags;
            (registers.cr0, registers.cr3) = (state.cr0, state.cr3);
            (registers.cr4, registers.efer) = (state.cr4, state.efer);
            if self.mode == PagingMode::FourLevel {
                registers.cs = Segment::FLAT_CODE_64;
            }
            self.vcpu.set_entry(&registers).unwrap();
        }

        /// Returns what the CPU finds in its memory.
        fn run(&mut self, state: &PagingState, access: Access, at: u64) -> Met {
            self.set_entry(state, access, at);
            match resume(&mut self.vcpu) {
                VmExit::Shutdown => Met::Nothing,
                VmExit::MmioRead { at, len_bytes: 1 } => {
                    let exit = self.vcpu.run(VmEntry::Read(&[0])).unwrap();
                    assert_eq!(exit, out(0xF4, 0));
                    Met::Outside(at.0)
                }
                VmExit::MmioWrite { at, .. } => {
                    assert_eq!(resume(&mut self.vcpu), out(0xF4, WRITTEN));
                    Met::Outside(at.0)
                }
                VmExit::PortOut {
                    port: 0xF4, data, ..
                } => Met::Ram(data[0]),
                exit => panic!("{exit:?} at {at:#x}, {access:?}, {state:x?}"),
            }
        }

        /// Compares both memories. A CPU may set accessed bits in a walk that fails at a lower
        /// level, so it may have set more of them. Everything else must be equal.
        fn compare_memory(&self) {
            for page in (0..RAM_BYTES).step_by(0x1000).map(Gpa) {
                let (mut cpu, mut walker) = ([0; 0x1000], [0; 0x1000]);
                self.vm.ram().read(page, &mut cpu).unwrap();
                self.twin.read(page, &mut walker).unwrap();
                let is_table = (ROOT..DATA).contains(&page.0);
                let size = if self.mode == PagingMode::TwoLevel {
                    4
                } else {
                    8
                };
                for (at, (cpu, walker)) in cpu.into_iter().zip(walker).enumerate() {
                    let may_be_more = if is_table && at % size == 0 { 0x20 } else { 0 };
                    assert_eq!(cpu, walker | cpu & may_be_more, "{at:#x} of {page}");
                }
            }
        }
    }

    fn table_at(level: u64, table: u64) -> u64 {
        TABLES + (level * 4 + table) * 0x1000
    }

    fn policy(vcpu: &Vcpu) -> PagingPolicy {
        let [eax, ..] = leaf(vcpu, 0x8000_0008).unwrap();
        let [_, ebx, ..] = leaf(vcpu, 0).unwrap();
        let [.., edx] = leaf(vcpu, 1).unwrap();
        let [.., edx_extended] = leaf(vcpu, 0x8000_0001).unwrap();
        PagingPolicy {
            address_bits: eax.to_le_bytes()[0],
            is_amd: ebx.to_le_bytes() == *b"Auth",
            has_gib_pages: edx_extended & 1 << 26 != 0,
            has_pse36: edx & 1 << 17 != 0,
        }
    }

    /// Returns eax, ebx, ecx and edx of a CPUID leaf.
    fn leaf(vcpu: &Vcpu, function: u32) -> Option<[u32; 4]> {
        let leaves = vcpu.cpuid();
        let leaf = leaves.iter().find(|leaf| leaf.function == function)?;
        Some([leaf.eax, leaf.ebx, leaf.ecx, leaf.edx])
    }

    /// The byte that a write stores.
    const WRITTEN: u8 = 0x5A;
}
