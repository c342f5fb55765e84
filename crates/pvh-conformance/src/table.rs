//! One table of many reports: a row for each clause, a column for each VMM. And the check that each
//! clause of docs/abi-coverage.md has a check, or a reason why it has none.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    peers::{PEERS, Peer},
    tap::{Check, Outcome, Tap, TapError},
};

/// The report of a VMM.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Column {
    /// The VMM.
    pub peer: &'static Peer,
    /// Its name and version, and the machine, as the file says.
    pub vmm: String,
    /// The report.
    pub tap: Tap,
}

/// Why a file has no column.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file is not a report.
    #[error("results/plain/{id}.tap is no report")]
    Report {
        /// The name of the file.
        id: &'static str,
        /// The reason.
        source: TapError,
    },
    /// The file does not say which VMM wrote it, or the report is not complete.
    #[error("results/plain/{id}.tap {what}")]
    Unusable {
        /// The name of the file.
        id: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// A row of docs/abi-coverage.md names a clause that no check has.
    #[error("docs/abi-coverage.md: no check of the plain guest has the clause \"{clause}\"")]
    UnknownClause {
        /// The clause.
        clause: String,
    },
    /// A row has neither a check nor a gap.
    #[error("docs/abi-coverage.md: the row \"{row}\" has no check, and is no gap with a reason")]
    NoCheck {
        /// The first cell of the row.
        row: String,
    },
    /// The guest checks a clause of the ABI's text that no row names.
    #[error("docs/abi-coverage.md: no row names the plain guest's clause \"{clause}\"")]
    NoRow {
        /// The clause.
        clause: String,
    },
}

impl Column {
    /// Reads the stored report of a VMM.
    ///
    /// # Errors
    ///
    /// [`TableError::Report`] and [`TableError::Unusable`].
    pub fn read(peer: &'static Peer, text: &str) -> Result<Self, TableError> {
        let id = peer.id;
        let tap = Tap::parse(text).map_err(|source| TableError::Report { id, source })?;
        let unusable = |what| TableError::Unusable { id, what };
        let vmm = tap.note("vmm").map(str::to_owned);
        let vmm = vmm.ok_or_else(|| unusable("does not name its VMM"))?;
        if tap.checks.iter().any(|check| check.clause.is_empty()) {
            return Err(unusable("has a check without a clause"));
        }
        if !tap.is_complete() {
            return Err(unusable("is not complete"));
        }
        Ok(Self { peer, vmm, tap })
    }

    fn checks<'a>(&'a self, clause: &'a str) -> impl Iterator<Item = &'a Check> {
        self.tap
            .checks
            .iter()
            .filter(move |check| *check.clause == *clause)
    }

    /// The cell of some checks: how many passed, or how many of how many.
    fn cell<'a>(checks: impl Iterator<Item = &'a Check>) -> String {
        let (mut ok, mut failed, mut skipped) = (0_usize, 0_usize, 0_usize);
        for check in checks {
            let count = match check.outcome {
                Outcome::Ok => &mut ok,
                Outcome::Failed => &mut failed,
                Outcome::Skipped => &mut skipped,
            };
            *count = count.saturating_add(1);
        }
        match (ok, failed, skipped) {
            (0, 0, 0) => "–".to_owned(),
            (0, 0, _) => "skipped".to_owned(),
            (_, 0, _) => ok.to_string(),
            _ => format!("**{ok} of {}**", ok.saturating_add(failed)),
        }
    }
}

/// The clauses of all reports, in their order.
fn clauses(columns: &[Column]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let checks = columns.iter().flat_map(|column| &column.tap.checks);
    let clauses = checks.map(|check| &*check.clause);
    clauses.filter(|&clause| seen.insert(clause)).collect()
}

/// Makes the table, the failed checks under it, and the list of those that were not measured.
///
/// A cell is the number of checks that passed; in bold, and with the number of all that were made,
/// if one failed. The table of `n` reports has at most as many cells as `n` times their clauses.
#[must_use]
pub fn table(columns: &[Column]) -> String {
    let mut page = String::new();
    let names = columns.iter().map(|column| format!(" {} |", column.vmm));
    // Writing to a string cannot fail.
    let _ = writeln!(page, "| clause |{}", names.collect::<String>());
    let _ = writeln!(page, "|---|{}", "---|".repeat(columns.len()));
    let all = columns
        .iter()
        .map(|column| Column::cell(column.tap.checks.iter()));
    let _ = writeln!(
        page,
        "| all checks | {} |",
        all.collect::<Vec<_>>().join(" | ")
    );
    for clause in clauses(columns) {
        let cells = columns
            .iter()
            .map(|column| Column::cell(column.checks(clause)));
        let cells: Vec<_> = cells.collect();
        let _ = writeln!(
            page,
            "| {} | {} |",
            clause.replace('|', "/"),
            cells.join(" | ")
        );
    }
    for column in columns {
        failed(&mut page, column);
    }
    let missing = PEERS
        .iter()
        .filter(|peer| columns.iter().all(|column| column.peer != *peer));
    let missing: Vec<_> = missing.map(|peer| peer.name).collect();
    if !missing.is_empty() {
        let _ = writeln!(page, "\nNot measured: {}.", missing.join("; "));
    }
    page
}

fn failed(page: &mut String, column: &Column) {
    let failed = column
        .tap
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Failed);
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{}:\n", column.vmm);
    for check in failed {
        let _ = writeln!(page, "- {}; {}: {}", check.clause, check.name, check.note);
    }
}

/// Checks docs/abi-coverage.md: each row has a check or is a gap with a reason; each clause that a
/// row names in `plain: "..."` has a check of the plain guest; each clause of the ABI's own texts
/// that the guest checks is named by a row.
///
/// # Errors
///
/// [`TableError::NoCheck`], [`TableError::UnknownClause`] and [`TableError::NoRow`].
pub fn coverage(page: &str, columns: &[Column]) -> Result<(), TableError> {
    let known: BTreeSet<&str> = clauses(columns).into_iter().collect();
    let mut named = BTreeSet::new();
    let mut is_in_table = false;
    for line in page.lines() {
        if !line.starts_with('|') {
            is_in_table = false;
            continue;
        }
        if line.starts_with("|---") {
            is_in_table = true;
            continue;
        }
        if is_in_table {
            named.extend(row(line, &known)?);
        }
    }
    let texts = ["pvh.pandoc", "start_info.h", "xen.h"];
    let demanded = known
        .iter()
        .filter(|clause| texts.iter().any(|text| clause.starts_with(text)));
    match demanded
        .into_iter()
        .find(|&&clause| !named.contains(clause))
    {
        Some(clause) => Err(TableError::NoRow {
            clause: (*clause).to_owned(),
        }),
        None => Ok(()),
    }
}

/// The clauses that a row names.
fn row<'a>(line: &'a str, known: &BTreeSet<&str>) -> Result<Vec<&'a str>, TableError> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let has_gap = line
        .split_once("gap:")
        .is_some_and(|(_, reason)| reason.contains(char::is_alphabetic));
    let has_check = cells.iter().skip(2).any(|cell| !cell.is_empty());
    if !has_gap && !has_check {
        return Err(TableError::NoCheck {
            row: cells.first().copied().unwrap_or_default().to_owned(),
        });
    }
    let quoted = line.split("plain: \"").skip(1);
    let named = quoted.filter_map(|rest| rest.split_once('"'));
    let named: Vec<&str> = named.map(|(clause, _)| clause).collect();
    match named.iter().find(|&&clause| !known.contains(clause)) {
        Some(clause) => Err(TableError::UnknownClause {
            clause: (*clause).to_owned(),
        }),
        None => Ok(named),
    }
}

/// Replaces what stands between the two markers of a page; `None` if it does not have both.
#[must_use]
pub fn insert(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// The line of a page before the table.
pub const BEGIN: &str = "<!-- table of results/plain: begin; `make conform-table` writes it -->";
/// The line after it.
pub const END: &str = "<!-- table of results/plain: end -->";

#[cfg(test)]
mod tests {
    use super::*;

    fn column(id: usize, lines: &str) -> Column {
        let count = lines.matches(" - ").count();
        let text = format!("TAP version 14\n# vmm: VMM {id}\n{lines}1..{count}\n");
        Column::read(&PEERS[id], &text).unwrap()
    }

    const FIRST: &str = "# clause pvh.pandoc: cr4\nok 1 - entry: a\nok 2 - entry: b\n\
        # clause Xen: dr6\nok 3 - entry: c # SKIP no\n";
    const SECOND: &str = "# clause pvh.pandoc: cr4\nok 1 - entry: a\n\
        not ok 2 - entry: b\n  wanted: \"0\"\n  seen: \"1\"\n# clause ACPI: HPET\nok 3 - devices: d\n";

    #[test]
    fn a_cell_is_the_number_of_checks_that_passed() {
        let page = table(&[column(0, FIRST), column(1, SECOND)]);
        for line in [
            "| clause | VMM 0 | VMM 1 |",
            "| all checks | 2 | **2 of 3** |",
            "| pvh.pandoc: cr4 | 2 | **1 of 2** |",
            "| Xen: dr6 | skipped | – |",
            "| ACPI: HPET | – | 1 |",
            "- pvh.pandoc: cr4; entry: b: got 1 want 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        assert!(page.contains("; Xen 4.17; Xen 4.20; QEMU "), "{page}");
        assert!(!page.contains("VMM 0:\n"), "{page}");
    }

    #[test]
    fn a_file_without_its_vmm_or_its_end_is_refused() {
        let read = |text: &str| Column::read(&PEERS[0], text).unwrap_err().to_string();
        let clause = "# clause a: b\n";
        assert!(
            read(&format!("TAP version 14\n{clause}ok 1 - a: b\n1..1\n"))
                .ends_with("does not name its VMM")
        );
        assert!(
            read(&format!("TAP version 14\n# vmm: x\n{clause}ok 1 - a: b\n"))
                .ends_with("is not complete")
        );
        assert!(
            read("TAP version 14\n# vmm: x\nok 1 - a: b\n1..1\n")
                .ends_with("a check without a clause")
        );
        assert_eq!(read("x"), "results/plain/pvh-vmm.tap is no report");
    }

    #[test]
    fn a_clause_without_a_check_is_refused_unless_it_is_a_gap_with_a_reason() {
        let columns = [column(0, "# clause pvh.pandoc: cr4\nok 1 - entry: a\n")];
        let page = |row: &str| format!("| clause | code | test |\n|---|---|---|\n{row}\n");
        let covered = |row: &str| coverage(&page(row), &columns);
        assert_eq!(
            covered("| cr4 | code | plain: \"pvh.pandoc: cr4\" |"),
            Ok(())
        );
        let cr4 = "| cr4 | code | plain: \"pvh.pandoc: cr4\" |\n";
        let clause = "pvh.pandoc: cr5".to_owned();
        assert_eq!(
            covered("| cr5 | code | plain: \"pvh.pandoc: cr5\" |"),
            Err(TableError::UnknownClause { clause })
        );
        let row = "tr".to_owned();
        assert_eq!(
            covered(&format!("{cr4}| tr | code | |")),
            Err(TableError::NoCheck { row })
        );
        assert_eq!(
            covered(&format!("{cr4}| tr | gap: no guest can see it | |")),
            Ok(())
        );
        let row = "tr".to_owned();
        assert_eq!(
            covered(&format!("{cr4}| tr | gap: | |")),
            Err(TableError::NoCheck { row })
        );
        let clause = "pvh.pandoc: cr4".to_owned();
        assert_eq!(
            covered("| tr | code | a test |"),
            Err(TableError::NoRow { clause })
        );
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_markers() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(
            insert(&page, "new\n").unwrap(),
            format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n")
        );
        assert_eq!(insert("a", "new"), None);
    }
}
