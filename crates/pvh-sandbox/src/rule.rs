//! One entry of an allow-list: a system call, what its arguments must be, and why it is there.

/// A system call that a role makes, and why.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rule {
    /// The number of the call on x86-64.
    pub number: i64,
    /// The name of the call.
    pub call: &'static str,
    /// What the arguments are, where that matters: the name of an ioctl, for example.
    pub detail: &'static str,
    /// What the arguments must be; all of it must hold.
    pub tests: [ArgTest; 2],
    /// What happens.
    pub verdict: Verdict,
    /// Why the role makes it.
    pub reason: &'static str,
}

/// What an argument must be. Arguments are compared as 32 bits: the kernel uses no more of those
/// that are named here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ArgTest {
    /// Anything.
    Any,
    /// Argument `arg` is `value`.
    Equals {
        /// Its index, from 0.
        arg: u8,
        /// Its value.
        value: u32,
    },
    /// The bits `mask` of argument `arg` are `value`.
    Masked {
        /// Its index, from 0.
        arg: u8,
        /// The bits that count.
        mask: u32,
        /// What they are.
        value: u32,
    },
    /// Argument `arg` is the id of this process.
    OwnProcess {
        /// Its index, from 0.
        arg: u8,
    },
}

impl ArgTest {
    /// Argument `arg` is this constant of the C library.
    pub(crate) const fn equals(arg: u8, value: i32) -> Self {
        let value = value.cast_unsigned();
        Self::Equals { arg, value }
    }
}

/// What the kernel does with a call on a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It makes the call.
    Allow,
    /// It makes no call and returns this error. The C library goes on by itself then.
    Refuse {
        /// The error, such as `EACCES`.
        errno: i32,
        /// The C library makes the call on purpose and has another way, so that nobody needs to
        /// hear of it.
        is_routine: bool,
    },
}

impl Rule {
    /// A call with any arguments.
    pub(crate) const fn any(number: i64, call: &'static str, reason: &'static str) -> Self {
        Self {
            number,
            call,
            detail: "",
            tests: [ArgTest::Any; 2],
            verdict: Verdict::Allow,
            reason,
        }
    }

    /// A call with an argument that must be as `test` says.
    pub(crate) const fn when(
        number: i64,
        call: &'static str,
        detail: &'static str,
        test: ArgTest,
        reason: &'static str,
    ) -> Self {
        let mut rule = Self::any(number, call, reason);
        rule.detail = detail;
        rule.tests = [test, ArgTest::Any];
        rule
    }

    /// An ioctl with this request number.
    pub(crate) const fn ioctl(name: &'static str, request: u32, reason: &'static str) -> Self {
        let test = ArgTest::Equals {
            arg: 1,
            value: request,
        };
        Self::when(libc::SYS_ioctl, "ioctl", name, test, reason)
    }

    /// A call of `fcntl` with this command.
    pub(crate) const fn fcntl(command: i32, name: &'static str, reason: &'static str) -> Self {
        let test = ArgTest::equals(1, command);
        Self::when(libc::SYS_fcntl, "fcntl", name, test, reason)
    }

    /// A call of `madvise` with this advice.
    pub(crate) const fn madvise(advice: i32, name: &'static str, reason: &'static str) -> Self {
        let test = ArgTest::equals(2, advice);
        Self::when(libc::SYS_madvise, "madvise", name, test, reason)
    }

    /// The same rule with one more test.
    pub(crate) const fn and(mut self, test: ArgTest) -> Self {
        self.tests = [self.tests[0], test];
        self
    }

    /// The same rule, but the call is refused with `errno`.
    pub(crate) const fn refused(mut self, errno: i32, is_routine: bool) -> Self {
        self.verdict = Verdict::Refuse { errno, is_routine };
        self
    }

    /// The tests that can fail.
    pub(crate) fn tests(&self) -> impl Iterator<Item = ArgTest> {
        let tests = self.tests.into_iter();
        tests.filter(|test| *test != ArgTest::Any)
    }
}

/// The number of an ioctl, as `_IOC` of asm-generic/ioctl.h makes it.
pub(crate) const fn ioc(direction: u32, kind: u8, number: u8, size_bytes: u32) -> u32 {
    (direction << 30) | (size_bytes << 16) | ((kind as u32) << 8) | number as u32
}

/// No data.
pub(crate) const NONE: u32 = 0;
/// Data to the kernel.
pub(crate) const WRITE: u32 = 1;
/// Data from the kernel.
pub(crate) const READ: u32 = 2;
