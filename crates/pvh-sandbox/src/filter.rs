//! Compiles the allow-list of a role to BPF.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::{
    Role,
    rule::{ArgTest, Rule, Verdict},
};

/// What happens to a call that is not on the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unlisted {
    /// The thread gets SIGSYS in place of the call.
    Trap,
    /// The kernel makes the call and logs it.
    Log,
}

/// The programs of a role. The kernel runs all, and the strictest answer counts.
#[derive(Clone, Debug)]
pub(crate) struct Programs(Vec<BpfProgram>);

impl Programs {
    /// Compiles them for the process with this id.
    ///
    /// # Errors
    ///
    /// None with the lists of this crate; seccompiler checks what it is given.
    pub(crate) fn compile(
        role: Role,
        process: u32,
        unlisted: Unlisted,
    ) -> Result<Self, BackendError> {
        let mut allowed = Chains::default();
        let mut refused: BTreeMap<i32, Chains> = BTreeMap::new();
        for rule in role.rules() {
            match rule.verdict {
                Verdict::Allow => allowed.add(rule, process)?,
                // What a user asks a log for are the calls that are no routine.
                Verdict::Refuse {
                    is_routine: false, ..
                } if unlisted == Unlisted::Log => {}
                Verdict::Refuse { errno, .. } => {
                    // Only an unconditional rule of another group allows what one refuses.
                    if !is_allowed(role, rule) {
                        allowed.add(rule, process)?;
                        refused.entry(errno).or_default().add(rule, process)?;
                    }
                }
            }
        }
        let mut programs = Vec::new();
        if unlisted == Unlisted::Trap {
            for (errno, chains) in refused {
                let action = SeccompAction::Errno(errno.cast_unsigned());
                programs.push(chains.compile(SeccompAction::Allow, action)?);
            }
        }
        let action = match unlisted {
            Unlisted::Trap => SeccompAction::Trap,
            Unlisted::Log => SeccompAction::Log,
        };
        // Last: the other programs are installed by calls that it may not allow.
        programs.push(allowed.compile(action, SeccompAction::Allow)?);
        Ok(Self(programs))
    }

    /// The programs, in the order in which they are installed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &BpfProgram> {
        self.0.iter()
    }
}

/// Whether another rule allows all calls of the number of `rule`.
fn is_allowed(role: Role, rule: &Rule) -> bool {
    role.rules().any(|other| {
        other.number == rule.number
            && other.verdict == Verdict::Allow
            && other.tests().next().is_none()
    })
}

/// The rules of each system call; without a rule, any arguments will do.
#[derive(Debug, Default)]
struct Chains(BTreeMap<i64, Vec<SeccompRule>>);

impl Chains {
    fn add(&mut self, rule: &Rule, process: u32) -> Result<(), BackendError> {
        let mut tests = Vec::new();
        for test in rule.tests() {
            if let Some(condition) = condition(test, process) {
                tests.push(condition?);
            }
        }
        let is_new = !self.0.contains_key(&rule.number);
        let chain = self.0.entry(rule.number).or_default();
        if tests.is_empty() {
            chain.clear();
        } else if is_new || !chain.is_empty() {
            let rule = SeccompRule::new(tests)?;
            if !chain.contains(&rule) {
                chain.push(rule);
            }
        }
        Ok(())
    }

    fn compile(
        self,
        other: SeccompAction,
        listed: SeccompAction,
    ) -> Result<BpfProgram, BackendError> {
        SeccompFilter::new(self.0, other, listed, TargetArch::x86_64)?.try_into()
    }
}

fn condition(test: ArgTest, process: u32) -> Option<Result<SeccompCondition, BackendError>> {
    let (arg, operator, value) = match test {
        ArgTest::Any => return None,
        ArgTest::Equals { arg, value } => (arg, SeccompCmpOp::Eq, value),
        ArgTest::Masked { arg, mask, value } => {
            (arg, SeccompCmpOp::MaskedEq(u64::from(mask)), value)
        }
        ArgTest::OwnProcess { arg } => (arg, SeccompCmpOp::Eq, process),
    };
    Some(SeccompCondition::new(
        arg,
        Dword,
        operator,
        u64::from(value),
    ))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "indices of short programs")]
mod tests {
    use super::*;

    #[test]
    fn every_role_compiles_and_is_short() {
        for role in Role::ALL {
            for unlisted in [Unlisted::Trap, Unlisted::Log] {
                let programs = Programs::compile(role, 1, unlisted).unwrap();
                let lengths: Vec<_> = programs.iter().map(Vec::len).collect();
                // The kernel takes 4096 instructions.
                assert!(
                    lengths.iter().all(|&len| len < 1000),
                    "{role:?}: {lengths:?}"
                );
            }
        }
    }

    /// What the kernel would do: the strictest answer of all programs.
    fn answer(programs: &Programs, number: i64, args: [u32; 6]) -> u32 {
        // struct seccomp_data: number, architecture, instruction pointer, arguments of 64 bits.
        let mut data = vec![u32::try_from(number).unwrap(), 0xC000_003E, 0, 0];
        data.extend(args.into_iter().flat_map(|arg| [arg, 0]));
        programs
            .iter()
            .map(|program| run(program, &data))
            .min()
            .unwrap()
    }

    /// Runs one program, as the kernel would.
    fn run(program: &BpfProgram, data: &[u32]) -> u32 {
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let step = &program[at];
            let (k, jumps) = (step.k, [step.jt, step.jf].map(usize::from));
            at += 1;
            let holds = match step.code {
                0x20 => {
                    accumulator = data[k as usize / 4];
                    continue;
                }
                0x54 => {
                    accumulator &= k;
                    continue;
                }
                0x05 => {
                    at += k as usize;
                    continue;
                }
                0x06 => return k,
                0x15 => accumulator == k,
                0x25 => accumulator > k,
                0x35 => accumulator >= k,
                other => panic!("instruction {other:#x}"),
            };
            at += if holds { jumps[0] } else { jumps[1] };
        }
    }

    const TRAP: u32 = 0x0003_0000;
    const ALLOW: u32 = 0x7FFF_0000;
    const LOG: u32 = 0x7FFC_0000;
    const REFUSE: u32 = 0x0005_0000;

    #[test]
    fn no_role_makes_memory_executable() {
        for role in Role::ALL {
            let programs = Programs::compile(role, 7, Unlisted::Trap).unwrap();
            // PROT_READ | PROT_WRITE is 3, PROT_EXEC 4; mmap, mprotect, pkey_mprotect.
            for number in [9, 10] {
                let protect = |bits| answer(&programs, number, [0, 4096, bits, 0x22, 0, 0]);
                assert_eq!(protect(3), ALLOW, "{role:?}");
                for bits in [4, 5, 6, 7, 0x0100_0004] {
                    assert_eq!(protect(bits), TRAP, "{role:?}");
                }
            }
            assert_eq!(answer(&programs, 329, [0, 4096, 7, 0, 0, 0]), TRAP);
        }
    }

    #[test]
    fn ioctls_that_are_not_listed_are_trapped() {
        for role in Role::ALL {
            let programs = Programs::compile(role, 7, Unlisted::Trap).unwrap();
            let ioctl = |fd, request| answer(&programs, 16, [fd, request, 0, 0, 0, 0]);
            // TIOCSTI types into the terminal; TCSETS elsewhere than at standard input; FIONBIO;
            // KVM_SET_GSI_ROUTING.
            for (fd, request) in [(0, 0x5412), (1, 0x5402), (5, 0x5421), (5, 0x4008_AE6A)] {
                assert_eq!(ioctl(fd, request), TRAP, "{role:?} {request:#x}");
            }
            assert_eq!(ioctl(0, 0x5402), ALLOW, "{role:?} restores the terminal");
            let enters = matches!(role, Role::Vcpu | Role::Builder);
            assert_eq!(ioctl(9, 0xAE80) == ALLOW, enters, "{role:?}");
            assert_eq!(ioctl(9, 0xAE01) == ALLOW, role == Role::Builder, "{role:?}");
        }
    }

    #[test]
    fn signals_go_to_this_process_alone() {
        for role in Role::ALL {
            let programs = Programs::compile(role, 7, Unlisted::Trap).unwrap();
            assert_eq!(answer(&programs, 234, [7, 8, 9, 0, 0, 0]), ALLOW);
            assert_eq!(answer(&programs, 234, [8, 8, 9, 0, 0, 0]), TRAP);
            assert_eq!(answer(&programs, 62, [7, 9, 0, 0, 0, 0]), TRAP, "kill");
        }
    }

    #[test]
    fn only_threads_are_started_and_only_by_the_builder() {
        for role in Role::ALL {
            let programs = Programs::compile(role, 7, Unlisted::Trap).unwrap();
            let starts = role == Role::Builder;
            // The flags of glibc for a thread; for fork; for a thread in a new user namespace.
            let clone = |flags| answer(&programs, 56, [flags, 0, 0, 0, 0, 0]);
            assert_eq!(clone(0x003D_0F00) == ALLOW, starts, "{role:?}");
            for flags in [0x0120_0011, 0x003D_0F00 | 0x1000_0000] {
                assert_eq!(clone(flags), TRAP, "{role:?}");
            }
            // clone3: ENOSYS is 38.
            let clone3 = answer(&programs, 435, [0; 6]);
            assert_eq!(clone3, if starts { REFUSE | 38 } else { TRAP }, "{role:?}");
        }
    }

    #[test]
    fn an_open_that_reads_is_refused_and_any_other_is_trapped() {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Cache) {
            let programs = Programs::compile(role, 7, Unlisted::Trap).unwrap();
            let openat = |flags| answer(&programs, 257, [0xFFFF_FF9C, 0, flags, 0, 0, 0]);
            // O_RDONLY | O_CLOEXEC, and musl's O_LARGEFILE. EACCES is 13.
            for flags in [0x8_0000, 0x8_8000] {
                assert_eq!(openat(flags), REFUSE | 13, "{role:?}");
            }
            // O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_DIRECTORY, O_PATH, O_TMPFILE.
            for flags in [1, 2, 0o100, 0o1000, 0o20_0000, 0o1000_0000, 0o2020_0000] {
                assert_eq!(openat(0x8_0000 | flags), TRAP, "{role:?}");
            }
            assert_eq!(answer(&programs, 437, [0; 6]), TRAP, "openat2");
        }
    }

    #[test]
    fn another_architecture_is_ended_in_every_mode() {
        for unlisted in [Unlisted::Trap, Unlisted::Log] {
            let programs = Programs::compile(Role::Vcpu, 7, unlisted).unwrap();
            // AUDIT_ARCH_I386; SECCOMP_RET_KILL_PROCESS.
            let data = [11, 0x4000_0003, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let answers = programs.iter().map(|program| run(program, &data));
            assert!(answers.into_iter().all(|answer| answer == 0x8000_0000));
        }
    }

    #[test]
    fn a_log_lets_everything_pass_and_names_what_is_not_listed() {
        for role in Role::ALL {
            let programs = Programs::compile(role, 7, Unlisted::Log).unwrap();
            // socket, execve; write.
            assert_eq!(answer(&programs, 41, [0; 6]), LOG);
            assert_eq!(answer(&programs, 59, [0; 6]), LOG);
            assert_eq!(answer(&programs, 1, [0; 6]), ALLOW);
            // An open is logged too; clone3, which the builder is refused as a routine, is not.
            let is_cache = role == Role::Cache;
            assert_eq!(
                answer(&programs, 257, [0, 0, 0x8_0000, 0, 0, 0]) == LOG,
                !is_cache
            );
            assert_eq!(
                answer(&programs, 435, [0; 6]) == ALLOW,
                role == Role::Builder
            );
        }
    }

    #[test]
    fn a_rule_without_tests_allows_all_arguments_in_any_order() {
        let narrow = Rule::ioctl("X", 1, "a reason");
        let wide = Rule::any(libc::SYS_ioctl, "ioctl", "a reason");
        for rules in [[narrow, wide], [wide, narrow]] {
            let mut chains = Chains::default();
            for rule in rules {
                chains.add(&rule, 1).unwrap();
            }
            assert!(chains.0[&libc::SYS_ioctl].is_empty());
        }
    }

    #[test]
    fn the_first_ioctl_of_a_vcpu_s_filter_is_the_one_that_enters_the_guest() {
        let first = Role::Vcpu.rules().find(|rule| rule.call == "ioctl");
        assert_eq!(first.unwrap().detail, "KVM_RUN");
    }
}
