//! How the time to the first byte grows with vCPUs, memory and modules, and what guests cost beside each other.
//!
//! `bench-curves [RUNS]` prints tables in markdown. pvh-vmm is the one beside this program, or the one `PVH_VMM` names.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use pvh_bench::{
    guest::{HELLO, LARGE, STAY, write_noise_once, write_once},
    measure,
    stats::Summary,
};

fn main() -> ExitCode {
    let runs = env::args().nth(1).map_or(Ok(15), |runs| runs.parse());
    let done = match runs {
        Ok(runs) => Bench::new(runs).and_then(|bench| bench.all()),
        Err(_) => Err(io::Error::other("RUNS is a number")),
    };
    if let Err(error) = done {
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(io::stderr(), "bench-curves: {error}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

struct Bench {
    runs: usize,
    vmm: PathBuf,
    dir: PathBuf,
}

impl Bench {
    fn new(runs: usize) -> io::Result<Self> {
        let named = env::var_os("PVH_VMM").map(PathBuf::from);
        let vmm = named.map_or_else(
            || Ok(env::current_exe()?.with_file_name("pvh-vmm")),
            Ok::<_, io::Error>,
        )?;
        let dir = env::temp_dir().join("pvh-bench");
        fs::create_dir_all(&dir)?;
        write_once(&dir.join("tiny.elf"), HELLO, 0x1000)?;
        write_once(&dir.join("stay-40.elf"), STAY, LARGE)?;
        write_noise_once(&dir.join("module"), b"", 1 << 20)?;
        Ok(Self { runs, vmm, dir })
    }

    fn all(&self) -> io::Result<()> {
        let none = ["--platform", "none"].map(str::to_owned).to_vec();
        let with = |more: &[String]| [&none[..], more].concat();
        let option = |name: &str, value: String| with(&[name.to_owned(), value]);
        let cpus = [1, 2, 4, 8, 16, 32, 64];
        self.curve(
            "vCPUs",
            &cpus.map(|n| (n.to_string(), option("--cpus", n.to_string()))),
        )?;
        let memory = ["128M", "512M", "2G", "8G", "32G", "64G"];
        self.curve(
            "memory",
            &memory.map(|size| (size.to_owned(), option("--memory", size.to_owned()))),
        )?;
        let module = self.dir.join("module").display().to_string();
        let modules = [0, 1, 4, 16, 64].map(|n: usize| {
            let one = ["--module".to_owned(), module.clone()];
            (n.to_string(), with(&vec![one; n].concat()))
        });
        self.curve("modules of 1 MiB", &modules)?;
        let pages = ["small", "huge"];
        let backing = pages.map(|pages| {
            (
                pages.to_owned(),
                option("--memory-backing", pages.to_owned()),
            )
        });
        self.curve("memory backing", &backing)?;
        self.many(16)
    }

    /// Runs each set of options in turn, and prints the times to the first byte.
    fn curve(&self, what: &str, points: &[(String, Vec<String>)]) -> io::Result<()> {
        let mut samples: Vec<Vec<f64>> = points.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.runs {
            for ((_, options), samples) in points.iter().zip(&mut samples) {
                let mut command = self.command("tiny.elf", options);
                samples.push(measure::run(command.stdin(Stdio::null()))?.first_byte_ms);
            }
        }
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "\n| {what} | first byte, ms: median (least) |\n|---|---|"
        )?;
        for ((name, _), samples) in points.iter().zip(samples) {
            let summary = Summary::of(samples);
            let (median, min) = summary.map_or((f64::NAN, f64::NAN), |s| (s.median, s.min));
            writeln!(out, "| {name} | {median:.2} ({min:.2}) |")?;
        }
        Ok(())
    }

    fn command(&self, kernel: &str, options: &[String]) -> Command {
        let mut command = Command::new(&self.vmm);
        command.arg("run").arg(self.dir.join(kernel)).args(options);
        command
    }

    /// Has guests of one 40 MiB kernel stand beside each other, and adds up what each has of memory, shared pages divided.
    fn many(&self, count: usize) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "\n| {count} guests of one 40 MiB kernel | PSS of all, MiB | RSS of all, MiB | private of one, MiB |\n|---|---|---|---|"
        )?;
        for way in ["map", "copy"] {
            let options = ["--platform", "none", "--load", way].map(str::to_owned);
            let mut guests = Vec::new();
            for _ in 0..count {
                guests.push(Guest::start(self.command("stay-40.elf", &options))?);
            }
            let rollups: io::Result<Vec<Rollup>> = guests.iter().map(Guest::rollup).collect();
            let rollups = rollups?;
            let sum = |value: fn(&Rollup) -> f64| rollups.iter().map(value).sum::<f64>();
            let private = rollups.first().map_or(f64::NAN, |one| one.private_mib);
            writeln!(
                out,
                "| {way} | {:.1} | {:.1} | {private:.1} |",
                sum(|one| one.pss_mib),
                sum(|one| one.rss_mib)
            )?;
        }
        Ok(())
    }
}

/// A guest that stays; it ends with this.
struct Guest(Child);

impl Guest {
    /// Starts it and waits for its first byte.
    fn start(mut command: Command) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut guest = Self(command.spawn()?);
        let stdout = guest.0.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdout.read_exact(&mut [0])?;
        Ok(guest)
    }

    fn rollup(&self) -> io::Result<Rollup> {
        let path = Path::new("/proc")
            .join(self.0.id().to_string())
            .join("smaps_rollup");
        let text = fs::read_to_string(path)?;
        let mib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib =
                line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
            kib.map_or(0.0, |kib| kib / 1024.0)
        };
        Ok(Rollup {
            pss_mib: mib("Pss:"),
            rss_mib: mib("Rss:"),
            private_mib: mib("Private_Clean:") + mib("Private_Dirty:"),
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Rollup {
    pss_mib: f64,
    rss_mib: f64,
    private_mib: f64,
}
