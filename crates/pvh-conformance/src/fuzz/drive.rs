//! Runs a VMM with the fuzz guest, and watches it.

use std::{
    fs,
    io::{self, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::Program;

/// How a VMM is started: words, in which `{image}` and `{cmdline}` are replaced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<String>);

/// Why a VMM could not be started, or watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// The template has no words.
    #[error("--vmm: the command is empty; give a program and its arguments")]
    Empty,
    /// The template does not name the image.
    #[error("--vmm: the command has no {{image}}; put it where the kernel's file belongs")]
    NoImage,
    /// The program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host refused to wait for the program.
    #[error("cannot wait for the VMM")]
    Wait(#[source] io::Error),
}

impl Template {
    /// Splits a command at spaces. There is no quoting: a script serves for more.
    ///
    /// # Errors
    ///
    /// [`DriveError::Empty`], [`DriveError::NoImage`].
    pub fn parse(text: &str) -> Result<Self, DriveError> {
        Self::new(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Takes the words as they are.
    ///
    /// # Errors
    ///
    /// [`DriveError::Empty`], [`DriveError::NoImage`].
    pub fn new(words: Vec<String>) -> Result<Self, DriveError> {
        if words.is_empty() {
            return Err(DriveError::Empty);
        }
        if !words.iter().any(|word| word.contains("{image}")) {
            return Err(DriveError::NoImage);
        }
        Ok(Self(words))
    }

    /// Returns the command for a program of the guest.
    #[must_use]
    pub fn words(&self, image: &Path, program: &Program) -> Vec<String> {
        let Self(words) = self;
        let image = image.to_string_lossy();
        let cmdline = program.cmdline();
        let fill = |word: &String| {
            word.replace("{image}", &image)
                .replace("{cmdline}", &cmdline)
        };
        words.iter().map(fill).collect()
    }
}

/// What one run may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Bounds {
    /// The longest time without output.
    pub silence: Duration,
    /// The longest time of a run.
    pub total: Duration,
    /// The most output, in bytes. The driver keeps this much in memory.
    pub output_bytes: usize,
    /// The most memory of the VMM's process, resident, in bytes.
    pub memory_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(10),
            total: Duration::from_secs(600),
            output_bytes: 64 << 20,
            memory_bytes: 512 << 20,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a process ends or is ended by these"
)]
pub enum End {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It printed nothing for too long, or took too long as a whole, and was killed.
    Silent,
    /// It printed too much, and was killed.
    Endless,
    /// It used too much memory, and was killed.
    Grew,
}

/// A run.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// Its standard output, with other bytes replaced.
    pub output: String,
}

/// Runs a VMM once, and ends it if it exceeds a bound. Its standard error is this process's.
///
/// # Errors
///
/// [`DriveError::Start`], [`DriveError::Wait`].
pub fn drive(
    template: &Template,
    image: &Path,
    program: &Program,
    bounds: &Bounds,
) -> Result<Ran, DriveError> {
    let words = template.words(image, program);
    let (name, arguments) = words.split_first().ok_or(DriveError::Empty)?;
    let started = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|source| DriveError::Start {
        program: name.clone(),
        source,
    })?;
    let chunks = child.stdout.take().map(reader);
    let mut output = Vec::new();
    let killed = chunks.and_then(|chunks| watch(&child, &chunks, bounds, &mut output));
    if killed.is_some() {
        // It fails if the process has ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(DriveError::Wait)?;
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    };
    Ok(Ran {
        end: killed.unwrap_or(ended),
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

/// Reads in a thread of its own, which ends with the pipe. At most [`QUEUE`] chunks wait.
#[expect(
    clippy::disallowed_methods,
    reason = "no guest runs in this process, so signals and panics need no care"
)]
fn reader(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (to, chunks) = mpsc::sync_channel(QUEUE);
    thread::spawn(move || {
        let mut chunk = [0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let read = chunk.get(..count).unwrap_or_default().to_vec();
            if to.send(read).is_err() {
                break;
            }
        }
    });
    chunks
}

/// Collects the output until it ends; tells the bound that was exceeded.
fn watch(
    child: &Child,
    chunks: &Receiver<Vec<u8>>,
    bounds: &Bounds,
    output: &mut Vec<u8>,
) -> Option<End> {
    let began = Instant::now();
    let mut last = began;
    loop {
        match chunks.recv_timeout(LOOK_EVERY) {
            Ok(chunk) => {
                last = Instant::now();
                output.extend(chunk);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        if last.elapsed() > bounds.silence || began.elapsed() > bounds.total {
            return Some(End::Silent);
        }
        if output.len() > bounds.output_bytes {
            return Some(End::Endless);
        }
        if resident_bytes(child.id()).is_some_and(|bytes| bytes > bounds.memory_bytes) {
            return Some(End::Grew);
        }
    }
}

/// The resident memory of a process, by Linux; `None` if it is gone.
fn resident_bytes(id: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(PAGE_BYTES)
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 16 << 10;
const QUEUE: usize = 16;
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, bounds: &Bounds) -> Ran {
        let words = ["sh", "-c", script, "{image}"].map(str::to_owned);
        let template = Template::new(words.to_vec()).expect("a template");
        drive(&template, Path::new("none"), &Program::new(1, 2), bounds).expect("a shell")
    }

    #[test]
    fn a_template_names_its_program_and_the_image() {
        let template = Template::parse("vmm --kernel={image} -a {cmdline}").expect("sound");
        assert_eq!(
            template.words(Path::new("/x"), &Program::new(1, 2)),
            ["vmm", "--kernel=/x", "-a", "seed=1 steps=2"]
        );
        assert!(matches!(Template::parse(" "), Err(DriveError::Empty)));
        assert!(matches!(Template::parse("vmm"), Err(DriveError::NoImage)));
    }

    #[test]
    fn each_bound_ends_a_run() {
        let bounds = Bounds {
            silence: Duration::from_millis(300),
            total: Duration::from_secs(20),
            output_bytes: 10_000,
            memory_bytes: 1 << 40,
        };
        let hung = run("echo one; exec sleep 30", &bounds);
        assert_eq!((hung.end, hung.output.as_str()), (End::Silent, "one\n"));
        assert_eq!(run("exec yes", &bounds).end, End::Endless);
        let small = Bounds {
            memory_bytes: 1,
            ..bounds
        };
        assert_eq!(run("echo; exec sleep 30", &small).end, End::Grew);
        assert_eq!(run("exit 5", &bounds).end, End::Code(5));
        assert_eq!(run("kill -9 $$", &bounds).end, End::Signal(9));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let template = Template::parse("/nowhere/vmm {image}").expect("a template");
        let ran = drive(
            &template,
            Path::new("x"),
            &Program::new(1, 1),
            &Bounds::default(),
        );
        let error = ran.expect_err("not there");
        assert_eq!(error.to_string(), "cannot start /nowhere/vmm");
    }
}
