//! Runs the plain guest on each VMM on PATH and keeps the reports; makes the table of them.
//!
//! `conform-peers run [ID...]` runs it on these VMMs, or on all. `conform-peers store ID VERSION
//! [MACHINE]` keeps a report that something else has made, from standard input. `conform-peers
//! table` writes the table into docs/conformance.md. It runs in the folder of the repository.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use pvh_conformance::{
    peers::{Files, PEERS, Peer},
    plain_image, plain_image_64,
    table::{Column, coverage, insert, table},
};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["run", ids @ ..] => run(ids),
        ["store", id, version] => store_input(id, version, MACHINE),
        ["store", id, version, machine] => store_input(id, version, machine),
        ["table"] => write_table(),
        _ => {
            eprintln!("usage: conform-peers run [ID...] | store ID VERSION [MACHINE] | table");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conform-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(ids: &[&str]) -> Outcome {
    let dir = env::temp_dir().join(format!("conform-peers-{}", std::process::id()));
    let files = write_files(&dir)?;
    for peer in PEERS {
        let Some(program) = peer.program else {
            continue;
        };
        if !ids.is_empty() && !ids.contains(&peer.id) {
            continue;
        }
        match on_path(program) {
            None => println!("{}: {program} is not on PATH: not measured", peer.name),
            Some(program) => measure(peer, &program, &files)?,
        }
    }
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// Writes the guest, a module and a configuration into a folder.
fn write_files(dir: &Path) -> io::Result<Files> {
    fs::create_dir_all(dir)?;
    let path = |name: &str| dir.join(name).display().to_string();
    let files = Files {
        kernel32: path("plain32.elf"),
        kernel64: path("plain64.elf"),
        module: path("module"),
        sha256: MODULE_SHA256.to_owned(),
        config: path("firecracker.json"),
    };
    fs::write(&files.kernel32, plain_image())?;
    fs::write(&files.kernel64, plain_image_64())?;
    fs::write(&files.module, MODULE)?;
    fs::write(&files.config, files.firecracker_config())?;
    Ok(files)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let files = env::split_paths(&path).map(|dir| dir.join(name));
    files.into_iter().find(|file| file.is_file())
}

/// Runs one VMM, for [`LIMIT_SECONDS`] at most, and keeps its report if that is complete.
fn measure(peer: &'static Peer, program: &Path, files: &Files) -> Outcome {
    let mut child = Command::new("timeout")
        .args(["-k", "5", LIMIT_SECONDS])
        .arg(program)
        .args(peer.arguments_for(files))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LIMIT_BYTES).read_to_end(&mut output)?;
    }
    child.wait()?;
    let vmm = format!("{} ({})", peer.name, version(program)?);
    match store(peer, (&vmm, MACHINE), &String::from_utf8_lossy(&output)) {
        Ok(()) => println!("{vmm}: kept"),
        Err(error) => println!("{vmm}: not measured: {error}"),
    }
    Ok(())
}

/// The first word with a digit and a dot of what the program says about itself.
fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_version =
        |word: &&str| word.contains('.') && word.contains(|letter: char| letter.is_ascii_digit());
    let word = text.split_whitespace().find(is_version);
    Ok(word.unwrap_or("unknown version").to_owned())
}

fn store_input(id: &str, version: &str, machine: &str) -> Outcome {
    let peer = PEERS.iter().find(|peer| peer.id == id);
    let peer = peer.ok_or_else(|| format!("{id} is no id of a VMM"))?;
    let mut text = String::new();
    io::stdin().take(LIMIT_BYTES).read_to_string(&mut text)?;
    let vmm = format!("{} ({version})", peer.name);
    store(peer, (&vmm, machine), &text)
}

/// Keeps a report: from its first line on, with the lines that belong to it.
fn store(peer: &'static Peer, (vmm, machine): (&str, &str), output: &str) -> Outcome {
    let (_, report) = output.rsplit_once(BEGIN).ok_or("there is no report")?;
    let is_kept = |line: &&str| KEPT.iter().any(|start| line.starts_with(start));
    let lines = report.lines().map(str::trim_end).filter(is_kept);
    let lines: String = lines.flat_map(|line| [line, "\n"]).collect();
    let text = format!("{BEGIN}\n# vmm: {vmm}\n# machine: {machine}\n{lines}");
    Column::read(peer, &text)?;
    fs::write(file_of(peer), text)?;
    Ok(())
}

fn file_of(peer: &Peer) -> PathBuf {
    Path::new(RESULTS).join(format!("{}.tap", peer.id))
}

fn write_table() -> Outcome {
    let mut columns = Vec::new();
    for peer in PEERS {
        match fs::read_to_string(file_of(peer)) {
            Ok(text) => columns.push(Column::read(peer, &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    coverage(&fs::read_to_string(COVERAGE)?, &columns)?;
    let page = fs::read_to_string(PAGE)?;
    let page = insert(&page, &table(&columns)).ok_or("the page has no markers of the table")?;
    fs::write(PAGE, page)?;
    Ok(())
}

const RESULTS: &str = "crates/pvh-conformance/results/plain";
const PAGE: &str = "docs/conformance.md";
const COVERAGE: &str = "docs/abi-coverage.md";
const BEGIN: &str = "TAP version 14";
/// How the lines of a report begin.
const KEPT: [&str; 6] = ["ok ", "not ok ", "# ", "1..", "Bail out!", "  "];
const MACHINE: &str = "2 processors, 512 MiB, a module of 3 bytes";
const MODULE: &[u8] = b"abc";
/// SHA-256 of "abc" (FIPS 180-4).
const MODULE_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const LIMIT_SECONDS: &str = "120";
/// A report has about 20 KiB.
const LIMIT_BYTES: u64 = 8 << 20;
