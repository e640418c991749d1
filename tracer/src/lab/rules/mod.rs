//! The packet filter rules of a node, in the form in which kube-proxy and flannel write them.

mod iptables;
mod nft;

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

use super::network::{Family, Variables};
use super::plan::{LabNode, Plan};
use crate::netns::{Netns, named_path};

/// kube-proxy's mark for packets to masquerade.
const MARK: &str = "0x4000";
/// Kubernetes namespace of the Services.
const NAMESPACE: &str = "default";

/// The kind of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSet {
    /// None: no Services, and no masquerading.
    None,
    /// Like kube-proxy's nftables mode.
    Nft,
    /// Like kube-proxy's iptables mode.
    Iptables,
}

impl RuleSet {
    /// The kind whose program is installed; none if neither is.
    #[must_use]
    pub fn available() -> Self {
        [Self::Nft, Self::Iptables].into_iter().find(|rules| rules.is_installed()).unwrap_or(Self::None)
    }

    fn is_installed(self) -> bool {
        self.program(Family::Ipv4).is_none_or(|(program, _)| is_there(program))
    }

    /// The program that loads a rule set, and its package.
    fn program(self, family: Family) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Nft => Some(("nft", "nftables")),
            Self::Iptables => Some((iptables(family), "iptables")),
        }
    }

    /// A node's rules as text.
    fn text(self, plan: &Plan, node: &LabNode) -> Result<String> {
        match self {
            Self::None => Ok(String::new()),
            Self::Nft => nft::text(plan, node),
            Self::Iptables => iptables::text(plan, node),
        }
    }
}

/// The nftables back end of iptables, which Kubernetes nodes use; the plain name may be the legacy one.
fn iptables(family: Family) -> &'static str {
    let (over_nft, plain) = match family {
        Family::Ipv4 => ("iptables-nft-restore", "iptables-restore"),
        Family::Ipv6 => ("ip6tables-nft-restore", "ip6tables-restore"),
    };
    if is_there(over_nft) { over_nft } else { plain }
}

/// The rules by which the plan's network translates what pods of a node send to the world outside.
fn masquerading(text: &str, plan: &Plan, node: &LabNode) -> Result<String> {
    let (table, version, multicast) = match plan.family() {
        Family::Ipv4 => ("ip", "ipv4", "224.0.0.0/4"),
        Family::Ipv6 => ("ip6", "ipv6", "ff00::/8"),
    };
    let variables = Variables::default().with(
        "$",
        [
            ("table", table.to_owned()),
            ("version", version.to_owned()),
            ("multicast", multicast.to_owned()),
            ("set", format!("{version}_addr")),
            ("mark", MARK.to_owned()),
            ("pods", plan.pods_subnet().to_owned()),
            ("net", node.pod_subnet.to_string()),
        ],
    );
    variables.fill(text)
}

/// Whether a program can be run.
fn is_there(program: &str) -> bool {
    let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Nft => "nft",
            Self::Iptables => "iptables",
        })
    }
}

impl FromStr for RuleSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "nft" => Ok(Self::Nft),
            "iptables" => Ok(Self::Iptables),
            _ => Err("use nft, iptables or none".to_owned()),
        }
    }
}

/// Loads the rules of every node.
pub(super) fn load(plan: &Plan, rules: RuleSet) -> Result<()> {
    let Some((program, package)) = rules.program(plan.family()) else { return Ok(()) };
    for node in &plan.nodes {
        let text = rules.text(plan, node)?;
        let netns = Netns::open(named_path(&node.host.netns))?;
        netns
            .run(|| {
                let mut command = Command::new(program);
                if rules == RuleSet::Nft {
                    command.args(["-f", "-"]);
                }
                feed(&mut command, &text, package)
            })
            .with_context(|| format!("cannot load the rules of {} with `{program}`", node.name))?;
    }
    Ok(())
}

fn feed(command: &mut Command, text: &str, package: &str) -> Result<()> {
    let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("it is not installed: install {package} or use `--rules none`")
        }
        other => other.context("cannot start it")?,
    };
    if let Some(mut input) = child.stdin.take() {
        // If it ended early, its stderr below says why.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().context("waiting for it to end")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A hash of `length` characters (A to Z, 2 to 7), as in the names of kube-proxy's chains.
fn hash(text: &str, characters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    // FNV-1a. Its low bits are the better ones.
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut step = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().for_each(&mut step);
    let mut hash = String::new();
    for _ in 0..characters {
        let at = usize::try_from(state >> 20 & 31).unwrap_or_default();
        hash.push(char::from(ALPHABET[at]));
        state = (state ^ 0x5f).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::super::network::Network;
    use super::*;

    #[test]
    fn the_rules_of_every_network_have_its_family_s_addresses() {
        for network in Network::all() {
            let plan = Plan::of("lab", network).unwrap();
            for rules in [RuleSet::Nft, RuleSet::Iptables] {
                let text = rules.text(&plan, &plan.nodes[0]).unwrap();
                let (own, other) = match plan.family() {
                    Family::Ipv4 => ("10.43.0.10", "fd00:"),
                    Family::Ipv6 => ("fd00:43::a", "10.4"),
                };
                assert!(text.contains(own) && !text.contains(other), "{network}: {text}");
                assert!(text.to_lowercase().contains("masquerade"), "{network}: {text}");
            }
        }
    }

    #[test]
    fn names_are_the_same_every_time_and_differ() {
        assert_eq!(hash("default/web:http", 16), hash("default/web:http", 16));
        assert_eq!(hash("default/web:http", 16).len(), 16);
        let all: std::collections::BTreeSet<_> =
            (0..1000).map(|number| hash(&format!("web-{number}"), 8)).collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn each_node_keeps_outside_traffic_of_a_local_service_to_itself() {
        let plan = Plan::of("lab", Network::default()).unwrap();
        for rules in [RuleSet::Nft, RuleSet::Iptables] {
            let texts: Vec<_> = plan.nodes.iter().map(|node| rules.text(&plan, node).unwrap()).collect();
            assert!(
                texts.iter().all(|text| text.contains("10.43.0.10") && text.contains("30081")),
                "{texts:?}"
            );
            assert_ne!(texts[0], texts[1]);
        }
    }
}
