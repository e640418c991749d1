//! The commands of an advice: each works as it is printed, where it says, and each fix heals.

use anyhow::Result;
use regex::Regex;

use super::data::Variant;
use super::names::address_of;
use super::run::words;
use crate::command;
use crate::lab::Lab;
use crate::need;

/// Programs that are run: others take long, change things, or are no command at all.
const PROGRAMS: [&str; 15] = [
    "ip",
    "bridge",
    "nft",
    "iptables",
    "iptables-save",
    "ip6tables",
    "ip6tables-save",
    "sysctl",
    "conntrack",
    "tc",
    "ss",
    "nstat",
    "ethtool",
    "bpftool",
    "cat",
];

/// A command as an advice prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advised {
    /// A node, or a pod without its namespace.
    pub on: String,
    /// The command.
    pub run: String,
    /// Whether it is said to fix it.
    pub is_fix: bool,
}

/// The commands of everything that podtrace printed, each once.
///
/// # Errors
///
/// If a pattern of this function is none.
pub fn commands(text: &str) -> Result<Vec<Advised>> {
    let place = Regex::new(r"\b(?:[Oo]n|[Ii]n) (?:default/)?((?:node|pod)\d)\b")?;
    let after = Regex::new(r"^(?:[^`.;]*`[^`]*`)*? (?:on|in) (?:default/)?((?:node|pod)\d)\b")?;
    let mut found: Vec<Advised> = Vec::new();
    for (_, line) in
        text.lines().filter_map(|line| line.split_once("↳ ").or_else(|| line.split_once("warning: ")))
    {
        let parts: Vec<&str> = line.split('`').collect();
        for (number, run) in parts.iter().enumerate().skip(1).step_by(2) {
            let before = parts[..number].join("`");
            let rest = parts[number + 1..].join("`");
            let place_of = |captures: regex::Captures<'_>| captures[1].to_owned();
            // Of its own sentence: what comes first, else what follows.
            let sentence = before.rsplit(". ").next().unwrap_or_default();
            let on = place
                .captures_iter(sentence)
                .last()
                .map(place_of)
                .or_else(|| after.captures(&rest).map(place_of))
                .or_else(|| place.captures_iter(&before).last().map(place_of));
            let program = run.split_whitespace().next().unwrap_or_default();
            // A rule that is quoted: nft's matches begin like a command.
            let is_rule = ["ip saddr", "ip daddr", "ip protocol"].iter().any(|rule| run.starts_with(rule));
            let runs = PROGRAMS.contains(&program)
                && !is_rule
                && !run.contains(['…', '|'])
                && need::missing(&[program]).is_none();
            let Some(on) = on.filter(|_| runs) else { continue };
            let is_fix = before.trim_end().ends_with("to fix it:");
            let advised = Advised { on, run: (*run).to_owned(), is_fix };
            if !found.contains(&advised) {
                found.push(advised);
            }
        }
    }
    Ok(found)
}

/// Runs what an advice prints, in the state that it is printed for; then its fixes, if the data says that these heal. Gives
/// what does not hold.
///
/// # Errors
///
/// If a command cannot be started, or a place does not exist.
pub fn check(variant: &Variant, lab: &Lab, text: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let commands = commands(text)?;
    for Advised { on, run, .. } in commands.iter().filter(|advised| !advised.is_fix) {
        let output = command::run(&mut lab.command(on, words(run, "traffic")), command::SHORT)?;
        // That there is no route is what it shows.
        let shows = run.contains("route get") && output.stderr.contains("RTNETLINK answers");
        if output.code() != 0 && !shows {
            let said = output.stderr.lines().next().unwrap_or_default();
            wrong.push(format!("command: `{run}` on {on} ended with {}: {said}", output.code()));
        }
    }
    if !variant.what.heals {
        return Ok(wrong);
    }
    let fixes: Vec<_> = commands.iter().filter(|advised| advised.is_fix).collect();
    if fixes.is_empty() {
        wrong.push("fix: none was printed".to_owned());
        return Ok(wrong);
    }
    for Advised { on, run, .. } in &fixes {
        let output = command::run(&mut lab.command(on, words(run, "traffic")), command::SHORT)?;
        if output.code() != 0 {
            let said = output.stderr.lines().next().unwrap_or_default();
            wrong.push(format!("fix: `{run}` on {on} ended with {}: {said}", output.code()));
        }
    }
    let server = address_of(&variant.ways, variant.ways.server())?;
    // The first may be lost where a neighbour is looked up again.
    let ping = ["ping", "-n", "-c", "3", "-i", "0.3", "-W", "1", &server];
    if command::run(&mut lab.command(variant.ways.client(), ping), command::SHORT)?.code() != 0 {
        let fixes: Vec<_> = fixes.iter().map(|fix| format!("`{}` on {}", fix.run, fix.on)).collect();
        wrong.push(format!("fix: {} did not heal it", fixes.join(", ")));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_with_their_places() {
        let text = "    ↳ pod3 has none. On node2: `ip neigh show`, `ip -d link`; to fix it: `ip link set a up`. In \
                    default/pod1: `ip route`\n  ↳ compare `cat /proc/net/psched` in default/pod3, and `kubectl get x`\nno \
                    `ip addr` here";
        let found = commands(text).unwrap();
        let found: Vec<_> = found.iter().map(|of| (of.on.as_str(), of.run.as_str(), of.is_fix)).collect();
        for expected in [
            ("node2", "ip neigh show", false),
            ("node2", "ip -d link", false),
            ("node2", "ip link set a up", true),
            ("pod1", "ip route", false),
            ("pod3", "cat /proc/net/psched", false),
        ] {
            // Not every machine that runs unit tests has root and the programs.
            if need::missing(&["ip"]).is_none() {
                assert!(found.contains(&expected), "{expected:?}: {found:?}");
            }
        }
        assert!(!found.iter().any(|(_, run, _)| run.contains("addr")));
    }
}
