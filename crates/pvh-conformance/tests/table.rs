//! The stored reports of the plain guest, and the pages that are made of them or name their clauses.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeSet, fs, path::Path};

use pvh_conformance::{
    peers::{PEERS, Peer},
    table::{Column, TableError, coverage, insert, table},
    tap::Outcome,
};

fn columns() -> Vec<Column> {
    let read = |peer: &'static Peer| {
        let path = Path::new("results/plain").join(format!("{}.tap", peer.id));
        let text = fs::read_to_string(path).ok()?;
        Some(Column::read(peer, &text).unwrap())
    };
    PEERS.iter().filter_map(read).collect()
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new("../../docs").join(name)).unwrap()
}

#[test]
fn the_table_of_the_page_is_made_of_the_stored_reports() {
    let page = page("conformance.md");
    let made = insert(&page, &table(&columns())).unwrap();
    assert!(made == page, "run `make conform-table`");
}

#[test]
fn every_stored_report_has_a_vmm() {
    let ids: BTreeSet<String> = PEERS
        .iter()
        .map(|peer| format!("{}.tap", peer.id))
        .collect();
    let stored = fs::read_dir("results/plain").unwrap();
    let stored = stored.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for name in stored {
        assert!(ids.contains(&name), "{name}");
    }
}

/// This project's own VMM keeps every clause, on both platforms.
#[test]
fn pvh_vmm_has_no_red_cell_and_at_least_200_checks() {
    let ours = columns();
    let ours: Vec<_> = ours
        .iter()
        .filter(|column| column.peer.id.starts_with("pvh-vmm"))
        .collect();
    assert_eq!(ours.len(), 4);
    for column in ours {
        let failed = column
            .tap
            .checks
            .iter()
            .find(|check| check.outcome == Outcome::Failed);
        assert_eq!(failed, None, "{}", column.vmm);
        assert!(column.tap.sums().ok >= 200, "{}", column.vmm);
    }
}

#[test]
fn each_clause_of_the_coverage_page_has_a_check_or_is_a_gap() {
    let (page, columns) = (page("abi-coverage.md"), columns());
    assert_eq!(coverage(&page, &columns), Ok(()));
    let without = page.replace("; plain: \"pvh.pandoc: cr4\"", "");
    let clause = "pvh.pandoc: cr4".to_owned();
    assert_eq!(
        coverage(&without, &columns),
        Err(TableError::NoRow { clause })
    );
    let emptied = page.replace(
        "gap: the note is read, but the table is not copied",
        "not yet",
    );
    assert!(matches!(
        coverage(&emptied, &columns),
        Err(TableError::NoCheck { .. })
    ));
}
