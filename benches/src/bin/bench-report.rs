//! Measures all numbers of docs/benchmarks.md: `bench-report [DOCS] [PERCENT]`.
//!
//! Prints markdown. With DOCS, a folder with benchmarks.md, it also writes the numbers between the
//! marks there, and the plots beside it. It makes PERCENT of the runs: 100 for numbers, few for a
//! trial. If something cannot be measured, the page says so in place of the table.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use pvh_bench::{
    compare, host, peers,
    report::{
        Bench, curves::curves, loading, memory, parts, replace_block, second_start::second_start,
        starts, timeline::timeline,
    },
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let docs = arguments.next().map(PathBuf::from);
    let percent = arguments.next().map_or(Ok(100), |percent| percent.parse());
    let Ok(percent) = percent else {
        return complain("bench-report [DOCS] [PERCENT]: PERCENT must be a number");
    };
    match report(docs.as_deref(), percent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("bench-report: {error}")),
    }
}

fn complain(line: &str) -> ExitCode {
    tell(line);
    ExitCode::from(2)
}

/// Prints the progress.
fn tell(line: &str) {
    // If standard error is gone, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// The text of the page, and the start of the measurements.
struct Page {
    text: String,
    begin: Instant,
}

impl Page {
    /// Writes a section, or the reason why it is missing.
    fn section(&mut self, title: &str, found: io::Result<String>) {
        let body = found.unwrap_or_else(|error| format!("Not measured: {error}.\n"));
        tell(&format!("{:4} s  {title}", self.begin.elapsed().as_secs()));
        self.text.push_str(&format!("\n## {title}\n\n{body}"));
    }
}

fn report(docs: Option<&Path>, percent: usize) -> io::Result<()> {
    let pages = docs.map(|docs| docs.join("benchmarks.md"));
    let old = pages.as_ref().map(fs::read_to_string).transpose()?;
    if old
        .as_deref()
        .is_some_and(|old| replace_block(old, "").is_none())
    {
        return Err(io::Error::other(
            "benchmarks.md has no marks for the numbers",
        ));
    }
    let bench = Bench::new(env::temp_dir().join("pvh-bench"), percent)?;
    let mut page = Page {
        text: String::new(),
        begin: Instant::now(),
    };
    // Before anything is written, because new plots would make the commit a changed one.
    let facts = host::facts();
    let before = (host::load(), noise());
    measure_starts(&bench, &mut page, docs)?;
    measure_parts(&mut page);
    let machine = machine(&facts, &before, &(host::load(), noise()), &page);
    let text = format!("## The machine\n\n{machine}{}", page.text);
    io::stdout().write_all(text.as_bytes())?;
    if let (Some(path), Some(old)) = (pages, old)
        && let Some(new) = replace_block(&old, &text)
    {
        fs::write(path, new)?;
    }
    Ok(())
}

fn measure_starts(bench: &Bench, page: &mut Page, docs: Option<&Path>) -> io::Result<()> {
    let write = |name: &str, svg: &str| docs.map_or(Ok(()), |docs| fs::write(docs.join(name), svg));
    page.section("A tiny guest beside the floor", starts::pairs(bench));
    page.section("Flat in the size of the kernel", starts::flat(bench));
    page.section(
        "A guest that touches all of its 40 MiB",
        starts::touched(bench),
    );
    page.section("Huge pages", starts::huge(bench));
    page.section("The second start of a stock kernel", second_start(bench));
    page.section("The VMM's own memory", memory::own(bench));
    page.section("Guests beside each other", memory::crowd(bench));
    let drawn = curves(bench).and_then(|(text, svg)| {
        write("benchmarks-curves.svg", &svg)?;
        Ok(format!("{text}\n![Curves](benchmarks-curves.svg)\n"))
    });
    page.section("Curves", drawn);
    let peers = peers::peers();
    let rows = compare::compare(bench.runs(PEER_RUNS), &bench.guests, &peers, &bench.dir);
    let drawn = rows.and_then(|rows| {
        write("benchmarks-peers.svg", &compare::plot(&rows))?;
        let runs = bench.runs(PEER_RUNS);
        let table = compare::markdown(&rows);
        Ok(format!("{runs} runs each, in turn, exec to the guest's first byte; the ratio is of medians.\n{table}\n![Peers](benchmarks-peers.svg)\n"))
    });
    page.section("Other VMMs", drawn);
    if docs.is_some()
        && let Err(error) = timeline(bench).and_then(|svg| write("boot-timeline.svg", &svg))
    {
        tell(&format!("cannot draw boot-timeline.svg: {error}"));
    }
    Ok(())
}

fn measure_parts(page: &mut Page) {
    let estimates = parts::run_criterion();
    let named = |error: &io::Error| io::Error::other(error.to_string());
    let loading = estimates.as_ref().map(|found| loading::table(found));
    page.section("A stock kernel into memory", loading.map_err(named));
    let table = estimates.as_ref().map(|found| parts::table(found));
    page.section("Parts", table.map_err(named));
    page.section("Budgets of the parts", parts::budgets());
}

/// The times of the same sum.
fn noise() -> String {
    host::noise().map_or(String::new(), |noise| {
        format!(
            "{:.2}, {:.2}, {:.2}",
            noise.lowest_tenth, noise.median, noise.highest_tenth
        )
    })
}

/// The machine, and its load before and after.
fn machine(
    facts: &[(&str, String)],
    before: &(String, String),
    after: &(String, String),
    page: &Page,
) -> String {
    let mut text = "| | |\n|---|---|\n".to_owned();
    for (name, value) in facts {
        text.push_str(&format!("| {name} | {value} |\n"));
    }
    let minutes = page.begin.elapsed().as_secs().div_ceil(60);
    for (name, value) in [
        ("load before (1, 5, 15 minutes)", &before.0),
        ("load after", &after.0),
        (
            "the same sum, ms: lowest tenth, median, highest tenth, before",
            &before.1,
        ),
        ("the same sum, after", &after.1),
        ("duration, minutes", &minutes.to_string()),
    ] {
        text.push_str(&format!("| {name} | {value} |\n"));
    }
    text
}

const PEER_RUNS: usize = 25;
