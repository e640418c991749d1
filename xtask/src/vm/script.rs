//! What a guest runs, and taking apart what it says.

use std::path::Path;

use super::payload::{PODTRACE, Payload, Suite};

const BEGIN: &str = "@vm begin ";
const END: &str = "@vm end ";

/// Name of the part that traces a ping.
pub(super) const PROBE: &str = "probe";

/// Name of the part that tells the hooks of that trace, and of the tests' program that does.
pub(super) const HOOKS: &str = "hooks";

/// Where that trace is recorded.
const RECORDING: &str = "/tmp/probe.pcapng";

/// How much longer than on a real CPU tests may wait for something.
pub(super) const PATIENCE: u32 = 10;

/// Says what begins and how it ended, around a command.
pub(super) const SECTION: &str = r#"section() {
    name=$1
    shift
    printf '\n@vm begin %s\n' "$name"
    "$@"
    printf '\n@vm end %s %d\n' "$name" $?
}
"#;

/// Which tests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    /// Those that show what may differ from kernel to kernel.
    Guests,
    /// The same, but of those with several rule sets one, which alternates from kernel to kernel. The oldest and the
    /// newest kernel run all of them, and those between share them.
    Alternating,
}

/// The part of the tests that one kernel runs: the `number`th, from 0, of `of` equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    number: usize,
    of: usize,
}

impl Share {
    /// Of the kernel of this number among `kernels`, the oldest first.
    pub(super) fn of(choice: Choice, number: usize, kernels: usize) -> Self {
        let is_between = number > 0 && number + 1 < kernels;
        match choice {
            Choice::Alternating if is_between => Self { number: number - 1, of: kernels - 2 },
            _ => Self { number: 0, of: 1 },
        }
    }
}

/// A script that traces a ping and shows by which hooks, then runs a share of the test suites with `arguments`.
pub(super) fn tests(payload: &Payload, choice: Choice, share: Share, arguments: &[String]) -> String {
    let Share { number, of } = share;
    let chosen = match choice {
        Choice::All => "",
        Choice::Guests => " PODTRACE_TEST_GUESTS=all",
        Choice::Alternating => " PODTRACE_TEST_GUESTS=alternating",
    };
    let mut script = format!(
        "{SECTION}export PODTRACE_BIN={PODTRACE} PODTRACE_TEST_PATIENCE={PATIENCE}{chosen} PODTRACE_TEST_SHARE={number}/{of}\n\
         podtrace lab up --rules none && section {PROBE} podtrace --from pod1 --to pod3 --probe icmp -v -w {RECORDING}\n\
         podtrace lab down\n"
    );
    if let Ok(hooks) = payload.program(HOOKS) {
        script += &format!("section {HOOKS} {} {RECORDING}\n", quoted_path(hooks));
    }
    // Two tracers that begin together on emulated CPUs keep each other from being ready in time.
    let one_at_a_time = (!arguments.iter().any(|argument| argument.starts_with("--test-threads")))
        .then(|| "--test-threads=1".to_owned());
    let arguments = arguments.iter().chain(&one_at_a_time);
    let arguments: String = arguments.map(|argument| format!(" {}", quoted(argument))).collect();
    for Suite { name, path } in &payload.suites {
        script += &format!("section {} {}{arguments}\n", quoted(name), quoted_path(path));
    }
    script
}

/// A path as a shell reads it back unchanged.
pub(super) fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A word as a shell reads it back unchanged.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What one part of the script said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) lines: Vec<String>,
    /// Exit status; nothing if the part did not come to its end.
    pub(super) status: Option<i32>,
}

/// Takes apart what a script said.
pub(super) fn sections(lines: &[String]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix(BEGIN) {
            sections.push(Section { name: name.to_owned(), lines: Vec::new(), status: None });
        } else if let Some(section) = sections.last_mut().filter(|section| section.status.is_none()) {
            let end = line.strip_prefix(END).and_then(|end| end.rsplit_once(' '));
            match end.filter(|(name, _)| *name == section.name) {
                Some((_, status)) => section.status = status.parse().ok(),
                None => section.lines.push(line.clone()),
            }
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn sections_are_found_again() {
        let said = "noise\n@vm begin a\none\n@vm begun\n\n@vm end a 3\nbetween\n@vm begin b\ncut";
        let lines: Vec<_> = said.lines().map(str::to_owned).collect();
        let found = sections(&lines);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].status), ("a", Some(3)));
        assert_eq!(found[0].lines, ["one", "@vm begun", ""]);
        assert_eq!((found[1].name.as_str(), found[1].status), ("b", None));
        assert_eq!(found[1].lines, ["cut"]);
    }

    #[test]
    fn kernels_between_the_oldest_and_the_newest_share_the_tests() {
        let shares = |choice, kernels: usize| {
            (0..kernels)
                .map(move |number| Share::of(choice, number, kernels))
                .map(|share| (share.number, share.of))
        };
        assert!(shares(Choice::Alternating, 4).eq([(0, 1), (0, 2), (1, 2), (0, 1)]));
        assert!(shares(Choice::Alternating, 1).eq([(0, 1)]));
        assert!(shares(Choice::Guests, 3).eq([(0, 1), (0, 1), (0, 1)]));
    }

    #[test]
    fn arguments_reach_the_tests_unchanged() {
        let suites = vec![Suite { name: "scenarios".to_owned(), path: "/t/scenarios-1".into() }];
        let payload = Payload { archive: Vec::new(), suites, programs: BTreeMap::new() };
        let share = Share::of(Choice::Guests, 1, 4);
        let script = tests(&payload, Choice::Guests, share, &["it's".to_owned(), "$x".to_owned()]);
        assert!(script.contains(" PODTRACE_TEST_GUESTS=all PODTRACE_TEST_SHARE=0/1\n"), "{script}");
        assert!(
            script.contains(r"section 'scenarios' '/t/scenarios-1' 'it'\''s' '$x' '--test-threads=1'"),
            "{script}"
        );
    }
}
