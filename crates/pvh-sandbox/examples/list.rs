//! Prints the allow-lists as they stand in docs/sandbox.md: each call, who makes it, and why.

use std::collections::BTreeMap;

use pvh_sandbox::{Role, Rule, Verdict};

fn main() {
    print!("{}", table());
}

/// A row for each call, with the roles that have it.
fn table() -> String {
    let mut rows: BTreeMap<(&str, &str), (Vec<&str>, &Rule)> = BTreeMap::new();
    for role in Role::ALL {
        for rule in role.rules() {
            let row = rows.entry((rule.call, rule.detail));
            let (roles, _) = row.or_insert_with(|| (Vec::new(), rule));
            if !roles.contains(&role.name()) {
                roles.push(role.name());
            }
        }
    }
    let mut table = String::from("| call | roles | why |\n|---|---|---|\n");
    for ((call, detail), (roles, rule)) in rows {
        let who = match roles.len() == Role::ALL.len() {
            true => "all".to_owned(),
            false => roles.join(", "),
        };
        let refused = match rule.verdict {
            Verdict::Allow => "",
            _ => "; it fails with an error",
        };
        let detail = match detail.is_empty() {
            true => String::new(),
            false => format!(" ({})", detail.replace('|', "\\|")),
        };
        table.push_str(&format!(
            "| {call}{detail} | {who} | {}{refused} |\n",
            rule.reason
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_call() {
        let page = include_str!("../../../docs/sandbox.md");
        assert!(
            page.contains(&table()),
            "put what `cargo run -p pvh-sandbox --example list` prints into docs/sandbox.md"
        );
    }
}
