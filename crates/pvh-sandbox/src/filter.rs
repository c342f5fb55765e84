//! Compiles the allow-list of a role to BPF.
//!
//! The program finds the number of a call by binary search. seccompiler's own compiler compares one
//! number after the other, and the kernel, which runs a new program for every number there is to
//! learn which calls it always allows, takes ten times as long to install that: 0.3 ms for each
//! thread.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

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

/// The program of a role in the process with this id.
pub(crate) fn compile(role: Role, process: u32, unlisted: Unlisted) -> BpfProgram {
    let other = match unlisted {
        Unlisted::Trap => SECCOMP_RET_TRAP,
        Unlisted::Log => SECCOMP_RET_LOG,
    };
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in role.rules() {
        // What a user asks a log for are the calls that are no routine.
        let is_logged = matches!(rule.verdict, Verdict::Refuse { is_routine, .. } if !is_routine);
        let number = u32::try_from(rule.number);
        if let Ok(number) = number
            && !(is_logged && unlisted == Unlisted::Log)
        {
            calls.entry(number).or_default().push(rule);
        }
    }
    let mut program = vec![
        step(LOAD, ARCHITECTURE_AT),
        jump(IF_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        step(RETURN, SECCOMP_RET_KILL_PROCESS),
        step(LOAD, NUMBER_AT),
    ];
    let blocks = calls.into_iter().map(|(number, rules)| {
        let block = block_of(rules, process, unlisted, other);
        (number, block)
    });
    program.extend(search(&ranges(blocks, other)));
    program
}

/// The block of one call; all ways through it end the program.
fn block_of(mut rules: Vec<&Rule>, process: u32, unlisted: Unlisted, other: u32) -> BpfProgram {
    // An allowed call is not refused by the rule of another group.
    rules.sort_by_key(|rule| rule.verdict != Verdict::Allow);
    let mut block = Vec::new();
    for similar in rules.chunk_by(|one, next| {
        one_value(one)
            .is_some_and(|arg| one_value(next) == Some(arg) && one.verdict == next.verdict)
    }) {
        match similar {
            [rule] if rule.tests().next().is_none() => {
                // What comes behind it is never reached.
                block.extend(check(rule, process, unlisted));
                return block;
            }
            [rule] => block.extend(check(rule, process, unlisted)),
            several => several
                .chunks(MOST_VALUES)
                .for_each(|some| block.extend(check_values(some, unlisted))),
        }
    }
    block.push(step(RETURN, other));
    block
}

/// The argument that a rule compares with a value, if that is all it tests.
fn one_value(rule: &Rule) -> Option<u8> {
    let mut tests = rule.tests();
    match (tests.next(), tests.next()) {
        (Some(ArgTest::Equals { arg, .. }), None) => Some(arg),
        _ => None,
    }
}

/// Loads an argument once, compares it with the value of each rule, and goes on behind if it is
/// none of them. All rules test this argument alone and have one verdict.
fn check_values(rules: &[&Rule], unlisted: Unlisted) -> BpfProgram {
    let values: Vec<_> = rules
        .iter()
        .flat_map(|rule| rule.tests())
        .filter_map(|test| match test {
            ArgTest::Equals { arg, value } => Some((arg, value)),
            _ => None,
        })
        .collect();
    let mut program = BpfProgram::new();
    let mut left = values.len();
    for (arg, value) in values {
        if program.is_empty() {
            program.push(step(LOAD, argument_at(arg)));
        }
        left = left.saturating_sub(1);
        // At most `MOST_VALUES` steps to the answer; the last comparison steps over it.
        let to_answer = u8::try_from(left).unwrap_or(u8::MAX);
        program.push(jump(IF_EQUAL, value, to_answer, u8::from(left == 0)));
    }
    program.extend(
        rules
            .first()
            .map(|rule| step(RETURN, answer_of(rule, unlisted))),
    );
    program
}

/// A range of call numbers with one block: from `first` to the first number of the next range.
struct Range {
    first: u32,
    block: BpfProgram,
}

/// All call numbers as ranges: neighbours with the same block share one, and gaps get `other`.
fn ranges(blocks: impl Iterator<Item = (u32, BpfProgram)>, other: u32) -> Vec<Range> {
    let unlisted = vec![step(RETURN, other)];
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |first: u32, block: &BpfProgram| {
        if ranges.last().is_none_or(|last| last.block != *block) {
            let block = block.clone();
            ranges.push(Range { first, block });
        }
    };
    let mut next = 0;
    for (number, block) in blocks {
        if next < number {
            add(next, &unlisted);
        }
        add(number, &block);
        next = number.saturating_add(1);
    }
    add(next, &unlisted);
    ranges
}

/// Finds the range of the call's number and runs its block; all ways through it end the program.
fn search(ranges: &[Range]) -> BpfProgram {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    match (left, right) {
        ([], [only]) => only.block.clone(),
        (_, [first, ..]) => {
            let (left, right) = (search(left), search(right));
            let mut program = match u8::try_from(left.len()) {
                Ok(len) => vec![jump(IF_AT_LEAST, first.first, len, 0)],
                // A far jump: a conditional one reaches 255 steps.
                Err(_) => vec![
                    jump(IF_AT_LEAST, first.first, 0, 1),
                    step(JUMP, u32::try_from(left.len()).unwrap_or(u32::MAX)),
                ],
            };
            program.extend(left);
            program.extend(right);
            program
        }
        // There is at least one range.
        (_, []) => BpfProgram::new(),
    }
}

/// What the kernel is told when a rule holds.
fn answer_of(rule: &Rule, unlisted: Unlisted) -> u32 {
    match rule.verdict {
        // A log refuses nothing.
        Verdict::Refuse { errno, .. } if unlisted == Unlisted::Trap => {
            SECCOMP_RET_ERRNO | errno.cast_unsigned()
        }
        _ => SECCOMP_RET_ALLOW,
    }
}

/// Where the low half of an argument is.
fn argument_at(arg: u8) -> u32 {
    u32::from(arg)
        .saturating_mul(8)
        .saturating_add(ARGUMENTS_AT)
}

/// Returns what the rule says if its tests hold, and goes on behind it if not.
fn check(rule: &Rule, process: u32, unlisted: Unlisted) -> BpfProgram {
    let mut program = vec![step(RETURN, answer_of(rule, unlisted))];
    let tests: Vec<_> = rule.tests().collect();
    // From the last one: each skips all that comes behind it.
    for test in tests.into_iter().rev() {
        let (arg, mask, value) = match test {
            ArgTest::Any => continue,
            ArgTest::Equals { arg, value } => (arg, None, value),
            ArgTest::Masked { arg, mask, value } => (arg, Some(mask), value),
            ArgTest::OwnProcess { arg } => (arg, None, process),
        };
        let mut tested = vec![step(LOAD, argument_at(arg))];
        tested.extend(mask.map(|mask| step(AND, mask)));
        // At most ten steps, by the number of tests of a rule.
        let skipped = u8::try_from(program.len()).unwrap_or(u8::MAX);
        tested.push(jump(IF_EQUAL, value, 0, skipped));
        tested.append(&mut program);
        program = tested;
    }
    program
}

/// The most values that one load is compared with: a jump reaches 255 steps.
const MOST_VALUES: usize = 128;

const fn step(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

// Instructions (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
// Answers, and offsets in `seccomp_data` (linux/seccomp.h).
const SECCOMP_RET_KILL_PROCESS: u32 = 0x8000_0000;
const SECCOMP_RET_TRAP: u32 = 0x0003_0000;
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
const SECCOMP_RET_LOG: u32 = 0x7FFC_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7FFF_0000;
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// The low half of the first argument.
const ARGUMENTS_AT: u32 = 16;
/// linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "indices of short program")]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_program_of_every_role() {
        for role in Role::ALL {
            for unlisted in [Unlisted::Trap, Unlisted::Log] {
                let program = compile(role, 1, unlisted);
                // The kernel takes 4096 instructions, and jumps forward to another one. Each of them
                // costs a thread that enters some time.
                assert!(program.len() < 400, "{role:?}: {}", program.len());
                for (at, step) in program.iter().enumerate() {
                    let far = match step.code {
                        JUMP => step.k as usize,
                        _ => usize::from(step.jt.max(step.jf)),
                    };
                    assert!(at + 1 + far < program.len() || step.code == RETURN);
                }
            }
        }
    }

    #[test]
    fn every_call_is_answered_as_its_rules_say() {
        for role in Role::ALL {
            let program = compile(role, 7, Unlisted::Trap);
            for number in 0..1000 {
                let of_number = || role.rules().filter(|rule| rule.number == number);
                let is_free = |rule: &Rule| rule.tests().next().is_none();
                let allows = |rule: &Rule| rule.verdict == Verdict::Allow;
                let answered = answer(&program, number, [0xAAAA_AAAA; 6]);
                let expected = match of_number().find(|rule| is_free(rule) && allows(rule)) {
                    Some(_) => ALLOW,
                    // No test of an allowed call holds with these arguments.
                    None => match of_number()
                        .find(|rule| is_free(rule))
                        .map(|rule| rule.verdict)
                    {
                        Some(Verdict::Refuse { errno, .. }) => REFUSE | errno.cast_unsigned(),
                        _ => TRAP,
                    },
                };
                if ![16, 9, 10].contains(&number) {
                    assert_eq!(answered, expected, "{role:?}: call {number}");
                }
            }
            // The x32 interface.
            assert_eq!(answer(&program, 0x4000_0001, [0; 6]), TRAP);
        }
    }

    #[test]
    fn each_allowed_call_is_allowed_with_the_arguments_of_its_rule() {
        for role in Role::ALL {
            let program = compile(role, 7, Unlisted::Trap);
            for rule in role.rules().filter(|rule| rule.verdict == Verdict::Allow) {
                let mut args = [0; 6];
                for test in rule.tests() {
                    let (arg, value) = match test {
                        ArgTest::Equals { arg, value } | ArgTest::Masked { arg, value, .. } => {
                            (arg, value)
                        }
                        ArgTest::OwnProcess { arg } => (arg, 7),
                        ArgTest::Any => unreachable!("the tests that can fail"),
                    };
                    args[usize::from(arg)] = value;
                }
                let name = (rule.call, rule.detail);
                assert_eq!(
                    answer(&program, rule.number, args),
                    ALLOW,
                    "{role:?}: {name:?}"
                );
            }
        }
    }

    /// What the kernel would do.
    fn answer(program: &BpfProgram, number: i64, args: [u32; 6]) -> u32 {
        // struct seccomp_data: number, architecture, instruction pointer, arguments of 64 bits.
        let mut data = vec![u32::try_from(number).unwrap(), 0xC000_003E, 0, 0];
        data.extend(args.into_iter().flat_map(|arg| [arg, 0]));
        run(program, &data)
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
            let program = compile(role, 7, Unlisted::Trap);
            // PROT_READ | PROT_WRITE is 3, PROT_EXEC 4; mmap, mprotect, pkey_mprotect.
            for number in [9, 10] {
                let protect = |bits| answer(&program, number, [0, 4096, bits, 0x22, 0, 0]);
                assert_eq!(protect(3), ALLOW, "{role:?}");
                for bits in [4, 5, 6, 7, 0x0100_0004] {
                    assert_eq!(protect(bits), TRAP, "{role:?}");
                }
            }
            assert_eq!(answer(&program, 329, [0, 4096, 7, 0, 0, 0]), TRAP);
        }
    }

    #[test]
    fn ioctls_that_are_not_listed_are_trapped() {
        for role in Role::ALL {
            let program = compile(role, 7, Unlisted::Trap);
            let ioctl = |fd, request| answer(&program, 16, [fd, request, 0, 0, 0, 0]);
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
            let program = compile(role, 7, Unlisted::Trap);
            assert_eq!(answer(&program, 234, [7, 8, 9, 0, 0, 0]), ALLOW);
            assert_eq!(answer(&program, 234, [8, 8, 9, 0, 0, 0]), TRAP);
            assert_eq!(answer(&program, 62, [7, 9, 0, 0, 0, 0]), TRAP, "kill");
        }
    }

    #[test]
    fn only_threads_are_started_and_only_by_the_builder() {
        for role in Role::ALL {
            let program = compile(role, 7, Unlisted::Trap);
            let starts = role == Role::Builder;
            // The flags of glibc for a thread; for fork; for a thread in a new user namespace.
            let clone = |flags| answer(&program, 56, [flags, 0, 0, 0, 0, 0]);
            assert_eq!(clone(0x003D_0F00) == ALLOW, starts, "{role:?}");
            for flags in [0x0120_0011, 0x003D_0F00 | 0x1000_0000] {
                assert_eq!(clone(flags), TRAP, "{role:?}");
            }
            // clone3: ENOSYS is 38.
            let clone3 = answer(&program, 435, [0; 6]);
            assert_eq!(clone3, if starts { REFUSE | 38 } else { TRAP }, "{role:?}");
        }
    }

    #[test]
    fn an_open_that_reads_is_refused_and_any_other_is_trapped() {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Cache) {
            let program = compile(role, 7, Unlisted::Trap);
            let openat = |flags| answer(&program, 257, [0xFFFF_FF9C, 0, flags, 0, 0, 0]);
            // O_RDONLY | O_CLOEXEC, and musl's O_LARGEFILE. EACCES is 13.
            for flags in [0x8_0000, 0x8_8000] {
                assert_eq!(openat(flags), REFUSE | 13, "{role:?}");
            }
            // O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_DIRECTORY, O_PATH, O_TMPFILE.
            for flags in [1, 2, 0o100, 0o1000, 0o20_0000, 0o1000_0000, 0o2020_0000] {
                assert_eq!(openat(0x8_0000 | flags), TRAP, "{role:?}");
            }
            assert_eq!(answer(&program, 437, [0; 6]), TRAP, "openat2");
        }
    }

    #[test]
    fn another_architecture_is_ended_in_every_mode() {
        for unlisted in [Unlisted::Trap, Unlisted::Log] {
            let program = compile(Role::Vcpu, 7, unlisted);
            // AUDIT_ARCH_I386; SECCOMP_RET_KILL_PROCESS.
            let data = [11, 0x4000_0003, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(run(&program, &data), 0x8000_0000);
        }
    }

    #[test]
    fn a_log_lets_everything_pass_and_names_what_is_not_listed() {
        for role in Role::ALL {
            let program = compile(role, 7, Unlisted::Log);
            // socket, execve; write.
            assert_eq!(answer(&program, 41, [0; 6]), LOG);
            assert_eq!(answer(&program, 59, [0; 6]), LOG);
            assert_eq!(answer(&program, 1, [0; 6]), ALLOW);
            // An open is logged too; clone3, which the builder is refused as a routine, is not.
            let is_cache = role == Role::Cache;
            assert_eq!(
                answer(&program, 257, [0, 0, 0x8_0000, 0, 0, 0]) == LOG,
                !is_cache
            );
            assert_eq!(
                answer(&program, 435, [0; 6]) == ALLOW,
                role == Role::Builder
            );
        }
    }

    #[test]
    fn the_first_ioctl_of_a_vcpu_s_filter_is_the_one_that_enters_the_guest() {
        let first = Role::Vcpu.rules().find(|rule| rule.call == "ioctl");
        assert_eq!(first.unwrap().detail, "KVM_RUN");
    }
}
