//! Each role for real: this program runs itself again, enters the role on a thread, and does there
//! what must end it, and what must not.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        env,
        ffi::CString,
        fs::{self, File},
        io::{self, Write},
        net::TcpListener,
        os::unix::{net::UnixStream, process::ExitStatusExt},
        process::{Command, ExitStatus},
        sync::{Arc, Condvar, Mutex, mpsc},
        thread,
        time::{Duration, Instant},
    };

    use memmap2::MmapMut;
    use nix::{sys::ptrace, sys::signal::kill, unistd::Pid};
    use pvh_sandbox::{Files, Mode, Role, Sandbox};

    const ROLE: &str = "PVH_SANDBOX_TEST_ROLE";
    const ACTION: &str = "PVH_SANDBOX_TEST_ACTION";
    /// SIGSYS.
    const TRAPPED: i32 = 31;

    /// Runs the test `child` of this program again, which does `action` in `role`.
    fn run(role: Role, action: &str) -> ExitStatus {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "tests::child", "--nocapture"]);
        command.env(ROLE, role.name()).env(ACTION, action);
        command.output().unwrap().status
    }

    /// Does nothing, unless it was started by another test.
    #[test]
    fn child() {
        let Some(name) = env::var_os(ROLE) else {
            return;
        };
        let role = Role::ALL.into_iter().find(|role| name == role.name());
        let (role, action) = (role.unwrap(), env::var(ACTION).unwrap());
        let sandbox = Sandbox::new(Mode::On).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixStream::pair().unwrap().0;
        let memory = MmapMut::map_anon(4096).unwrap();
        let program = CString::new("/bin/true").unwrap();
        // Without `Landlock`: here the filters alone are tried.
        sandbox.enter(role).unwrap();
        match action.as_str() {
            "nothing" => {}
            "create" => drop(File::create(dir.path().join("new"))),
            "list" => drop(fs::read_dir("/")),
            "read" => {
                let refused = File::open("/proc/self/status").unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            }
            "execve" => drop(nix::unistd::execv(&program, &[&program])),
            "socket" => drop(TcpListener::bind("127.0.0.1:0")),
            "socketpair" => drop(UnixStream::pair()),
            "ptrace" => drop(ptrace::traceme()),
            "mprotect" => drop(memory.make_exec()),
            // FIONBIO
            "ioctl" => drop(socket.set_nonblocking(true)),
            "kill" => drop(kill(Pid::from_raw(1), None)),
            "live" => live(),
            "threads" => threads(&sandbox),
            other => panic!("{other}"),
        }
        // Not by returning: the test's own end is no part of any role.
        std::process::exit(if action == "nothing" || survives(&action) {
            0
        } else {
            1
        });
    }

    fn survives(action: &str) -> bool {
        matches!(action, "live" | "threads" | "read")
    }

    /// What a thread of any role does: locks, time, memory, output, a panic that is caught.
    fn live() {
        let pair = (Mutex::new(()), Condvar::new());
        let _ = pair
            .1
            .wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(1));
        thread::sleep(Duration::from_millis(1));
        let began = Instant::now();
        let mut kept = HashMap::new();
        for round in 0..200_usize {
            // Sizes on both sides of the allocator's limits, given back in another order, so that
            // its heap grows, shrinks, and asks the kernel's settings.
            kept.insert(round, vec![1_u8; 1 << (round % 22)]);
            if round % 3 == 2 {
                kept.remove(&(round / 2));
            }
        }
        kept.clear();
        let mut grown = Vec::new();
        for _ in 0..1 << 20 {
            grown.push(began.elapsed());
        }
        drop(grown);
        writeln!(io::stderr(), "alive").unwrap();
        assert!(std::panic::catch_unwind(|| panic!("on purpose")).is_err());
    }

    /// A builder's thread, which enters a narrower role and ends.
    fn threads(sandbox: &Sandbox) {
        let (sender, receiver) = mpsc::channel();
        let started: Vec<_> = [Role::Vcpu, Role::Time, Role::Disk, Role::Events]
            .into_iter()
            .map(|role| {
                let (sandbox, sender) = (sandbox.clone(), sender.clone());
                thread::Builder::new()
                    .name(role.name().to_owned())
                    .spawn(move || {
                        sandbox.enter(role).unwrap();
                        live();
                        sender.send(role).unwrap();
                    })
                    .unwrap()
            })
            .collect();
        started
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(receiver.try_iter().count(), 4);
    }

    #[test]
    fn what_an_attacker_wants_ends_every_role() {
        let wanted = [
            "create",
            "list",
            "execve",
            "socket",
            "socketpair",
            "ptrace",
            "mprotect",
            "ioctl",
            "kill",
        ];
        for role in Role::ALL {
            for action in wanted {
                // The cache's thread opens files; Landlock keeps it in its folder.
                let is_its_work = role == Role::Cache && ["create", "list"].contains(&action);
                let status = run(role, action);
                match is_its_work {
                    true => assert_eq!(status.code(), Some(1), "{role:?} {action}: {status}"),
                    false => {
                        assert_eq!(
                            status.signal(),
                            Some(TRAPPED),
                            "{role:?} {action}: {status}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_any_thread_does_ends_no_role() {
        for role in Role::ALL {
            for action in ["nothing", "live"] {
                let status = run(role, action);
                assert!(status.success(), "{role:?} {action}: {status}");
            }
        }
    }

    #[test]
    fn an_open_of_the_c_library_is_refused_and_survived() {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Cache) {
            let status = run(role, "read");
            assert!(status.success(), "{role:?}: {status}");
        }
    }

    #[test]
    fn the_builder_starts_threads_and_no_other_role_does() {
        for role in Role::ALL {
            let status = run(role, "threads");
            match role {
                Role::Builder => assert!(status.success(), "{status}"),
                _ => assert_eq!(status.signal(), Some(TRAPPED), "{role:?}: {status}"),
            }
        }
    }

    #[test]
    fn a_folder_is_all_that_a_confined_thread_reaches() {
        let sandbox = Sandbox::new(Mode::On).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("entries");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("old"), b"old").unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, b"secret").unwrap();
        let has_landlock = Arc::new(Mutex::new(None));
        thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let landlock = sandbox.confine(Files::Folder(&inside)).unwrap();
                *has_landlock.lock().unwrap() = landlock;
                fs::write(inside.join("new"), b"new").unwrap();
                fs::rename(inside.join("new"), inside.join("named")).unwrap();
                fs::remove_file(inside.join("old")).unwrap();
                assert_eq!(fs::read_dir(&inside).unwrap().count(), 1);
                let refused = File::open(&outside).map_err(|why| why.kind());
                (refused.err(), TcpListener::bind("127.0.0.1:0").is_err())
            });
            let (refused, _) = confined.join().unwrap();
            match *has_landlock.lock().unwrap() {
                Some(pvh_sandbox::LandlockSupport::Version(1..)) => {
                    assert_eq!(refused, Some(io::ErrorKind::PermissionDenied));
                }
                // This host has none; the filters are what is left.
                other => assert_eq!(other, Some(pvh_sandbox::LandlockSupport::None)),
            }
        });
        // The other threads are as they were.
        assert_eq!(fs::read(&outside).unwrap(), b"secret");
    }

    #[test]
    fn a_confined_thread_has_no_capabilities_and_gets_no_new_privileges() {
        let sandbox = Sandbox::new(Mode::On).unwrap();
        let confined = thread::spawn(move || {
            // Opened before: this file is what a thread may no longer open.
            let mut status = File::open("/proc/thread-self/status").unwrap();
            sandbox.confine(Files::None).unwrap();
            io::read_to_string(&mut status).unwrap()
        });
        let status = confined.join().unwrap();
        let line = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap().trim().to_owned()
        };
        for set in ["CapEff:", "CapPrm:", "CapInh:"] {
            assert_eq!(u64::from_str_radix(&line(set), 16), Ok(0), "{set}");
        }
        assert_eq!(line("NoNewPrivs:"), "1");
    }

    #[test]
    fn nothing_is_restricted_when_it_is_off() {
        let sandbox = Sandbox::new(Mode::Off).unwrap();
        assert_eq!(sandbox.confine(Files::None).unwrap(), None);
        sandbox.enter(Role::Vcpu).unwrap();
        assert!(File::open("/proc/self/status").is_ok());
    }
}
