//! The line for a guest that prints nothing: only ways out that this run's options leave open.

use pvh_config::RunConfig;
use pvh_loader::linux_cmdline::{Console, last_console};
use pvh_xen::TransportError;

use super::xen_options;
use crate::platform::{Choice, Obstacle, Platform, Reason};

/// The line that says what to try with a silent guest.
pub(super) fn silence_hint(config: &RunConfig, choice: &Choice) -> String {
    let platform = match choice.platform {
        Platform::Xen(_) => Some(to_plain(config)),
        Platform::Plain => to_xen(choice).map(str::to_owned),
    };
    let wants_serial = choice.platform == Platform::Plain
        && last_console(&config.cmdline) != Some(Console::Serial);
    let what = match (wants_serial, config.cmdline.is_empty(), platform) {
        (true, true, Some(other)) => format!(", try --cmdline console=ttyS0 or {other}"),
        (true, true, None) => ", try --cmdline console=ttyS0".to_owned(),
        (true, false, Some(other)) => {
            format!(", add console=ttyS0 to --cmdline or try {other}")
        }
        (true, false, None) => ", add console=ttyS0 to --cmdline".to_owned(),
        (false, _, Some(other)) => format!(", try {other}"),
        (false, _, None) => String::new(),
    };
    format!("no output yet; Ctrl-A X ends{what}")
}

/// From the Xen platform to the plain one, which refuses some options.
fn to_plain(config: &RunConfig) -> String {
    let given = xen_options(config).filter(|(is_given, _)| *is_given);
    let options: Vec<_> = given.map(|(_, option)| option).collect();
    match options.is_empty() {
        true => "--platform none".to_owned(),
        false => format!("--platform none without {}", options.join(" and ")),
    }
}

/// From the plain platform to Xen's, if this host can run the image there.
fn to_xen(choice: &Choice) -> Option<&'static str> {
    match choice.obstacle {
        None => Some("--platform xen"),
        Some(Obstacle(TransportError::BareCalls { .. })) => Some(match choice.reason {
            // Only for want of patched stubs did `auto` not take it.
            Some(Reason::Obstacle(_)) => "--patch-hypercalls",
            _ => "--platform xen --patch-hypercalls",
        }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use pvh_config::{Command, CommandLine};
    use pvh_kvm::HypercallTransport;

    use super::*;

    const BARE: Obstacle = Obstacle(TransportError::BareCalls {
        capability: "KVM_CAP_XEN_HVM",
    });
    const HOST: Obstacle = Obstacle(TransportError::Host {
        capability: "KVM_CAP_X86_USER_SPACE_MSR",
    });

    fn config(options: &[&str]) -> RunConfig {
        let words = ["pvh-vmm", "run"].iter().chain(options);
        match CommandLine::read(words, |_| false) {
            CommandLine::Command(command) => match *command {
                Command::Run(arguments) => RunConfig::from(arguments),
                _ => unreachable!("the words say run"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The line's end on the plain platform.
    fn plain(options: &[&str], reason: Option<Reason>, obstacle: Option<Obstacle>) -> String {
        end(options, Platform::Plain, reason, obstacle)
    }

    fn end(
        options: &[&str],
        platform: Platform,
        reason: Option<Reason>,
        obstacle: Option<Obstacle>,
    ) -> String {
        let choice = Choice {
            platform,
            reason,
            obstacle,
        };
        let line = silence_hint(&config(options), &choice);
        let end = line.strip_prefix("no output yet; Ctrl-A X ends").unwrap();
        end.trim_start_matches(", ").to_owned()
    }

    #[test]
    fn the_xen_platform_is_named_only_where_it_can_be_had() {
        let none = &["--platform", "none"];
        assert_eq!(
            plain(none, None, None),
            "try --cmdline console=ttyS0 or --platform xen"
        );
        assert_eq!(
            plain(none, None, Some(BARE)),
            "try --cmdline console=ttyS0 or --platform xen --patch-hypercalls"
        );
        assert_eq!(
            plain(&[], Some(Reason::Obstacle(BARE)), Some(BARE)),
            "try --cmdline console=ttyS0 or --patch-hypercalls"
        );
        assert_eq!(
            plain(&[], Some(Reason::Obstacle(HOST)), Some(HOST)),
            "try --cmdline console=ttyS0"
        );
    }

    #[test]
    fn a_command_line_that_was_given_is_added_to() {
        let given = |cmdline, obstacle| plain(&["--cmdline", cmdline], None, obstacle);
        assert_eq!(
            given("quiet", None),
            "add console=ttyS0 to --cmdline or try --platform xen"
        );
        assert_eq!(given("quiet", Some(HOST)), "add console=ttyS0 to --cmdline");
        assert_eq!(given("console=ttyS0", None), "try --platform xen");
        assert_eq!(given("console=ttyS0", Some(HOST)), "");
        let serial = Some(Reason::SerialConsole);
        assert_eq!(
            plain(&["--cmdline", "console=ttyS0"], serial, Some(BARE)),
            "try --platform xen --patch-hypercalls"
        );
    }

    #[test]
    fn the_plain_platform_is_named_without_the_options_it_refuses() {
        let xen = |options: &[&str]| {
            let platform = Platform::Xen(HypercallTransport::Intercept);
            end(options, platform, None, None)
        };
        assert_eq!(xen(&[]), "try --platform none");
        assert_eq!(
            xen(&["--patch-hypercalls", "--record", "file"]),
            "try --platform none without --patch-hypercalls and --record"
        );
        assert_eq!(
            xen(&["--disk", "file"]),
            "try --platform none without --disk"
        );
    }
}
