//! Runs the example of the README, and compares it with the README.

#[expect(dead_code, reason = "its main function prints")]
#[path = "../examples/xen_machine.rs"]
mod xen_machine;

#[cfg(test)]
mod tests {
    use pvh_xen::EndReason;

    use super::xen_machine;

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_demo_guest_is_a_xen_domain_and_switches_off() {
        let mut output = Vec::new();
        let reason = xen_machine::run(&mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(reason, EndReason::PowerOff, "{text}");
        assert!(
            text.contains("PVH demo: ok") && text.contains("SCHEDOP_shutdown"),
            "{text}"
        );
    }

    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/xen_machine.rs");
        let code: Vec<&str> = example
            .lines()
            .filter(|line| !line.starts_with("//!") && !line.starts_with("#!["))
            .collect();
        let code = code.join("\n");
        assert!(include_str!("../README.md").contains(code.trim()));
    }

    #[test]
    fn an_embedder_needs_at_most_120_lines() {
        let example = include_str!("../examples/xen_machine.rs");
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let body = example
            .lines()
            .skip_while(|line| !line.starts_with("/// What"));
        assert!(body.filter(is_code).count() <= 120);
    }
}
