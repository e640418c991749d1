//! The output of the lab's commands.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::network::Network;
use super::rules::RuleSet;
use podtrace_protocol::inventory::Inventory;

/// Outcome of [`super::Lab::up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// Name of the lab.
    pub lab: String,
    /// How it is wired.
    pub network: Network,
    /// The kind of its nodes' rules.
    pub rules: RuleSet,
    /// Whether it was built now; false if it was up already.
    pub built: bool,
    /// Problems of an earlier one that was removed first.
    pub replaced: Vec<String>,
    /// Duration.
    pub took: Duration,
}

/// Outcome of [`super::Lab::down`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Name of the lab.
    pub lab: String,
    /// Network namespaces removed.
    pub namespaces: usize,
    /// Processes in them that were ended.
    pub killed: usize,
}

/// Outcome of [`super::Lab::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Name of the lab.
    pub lab: String,
    /// How it is wired.
    pub network: Network,
    /// Its inventory; `None` if there is no lab.
    pub inventory: Option<Inventory>,
    /// Problems, one line each.
    pub problems: Vec<String>,
}

/// Outcome of [`super::networks`]: each with what it is and what its description follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Vec<(Network, String, Vec<String>)>);

impl Status {
    /// Whether the lab is complete and has no problems.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.inventory.is_some() && self.problems.is_empty()
    }
}

impl Display for Up {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { lab, network, rules, built, replaced, took } = self;
        if !built {
            return write!(f, "the lab `{lab}` is already up");
        }
        if let [first, others @ ..] = replaced.as_slice() {
            write!(f, "removed the earlier lab `{lab}` first ({first}")?;
            match others.len() {
                0 => writeln!(f, ")")?,
                more => writeln!(f, ", and {more} more)")?,
            }
        }
        write!(f, "the lab `{lab}` is up: nodes node1 and node2, network {network}, ")?;
        match rules {
            RuleSet::None => f.write_str("no Services, ")?,
            rules => write!(f, "Services with {rules}, ")?,
        }
        write!(f, "built in {} ms", took.as_millis())
    }
}

impl Display for Networks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, (network, about, follows)) in self.0.iter().enumerate() {
            let before = if number == 0 { "" } else { "\n" };
            write!(f, "{before}{network}: {about}")?;
            for source in follows {
                write!(f, "\n  - {source}")?;
            }
        }
        Ok(())
    }
}

impl Display for Down {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { lab, namespaces, killed } = self;
        if *namespaces == 0 {
            return write!(f, "there is no lab `{lab}`");
        }
        write!(f, "removed the lab `{lab}`")?;
        match killed {
            0 => Ok(()),
            1 => write!(f, "; killed 1 process in it"),
            several => write!(f, "; killed {several} processes in it"),
        }
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { lab, network, inventory, problems } = self;
        let Some(inventory) = inventory else { return write!(f, "the lab `{lab}` is not up") };
        if problems.is_empty() {
            write!(f, "the lab `{lab}` is up and healthy")?;
        } else {
            write!(f, "the lab `{lab}` is damaged; `podtrace lab up` rebuilds it")?;
            for problem in problems {
                write!(f, "\n  ! {problem}")?;
            }
        }
        write!(f, "\n  network {network}")?;
        for node in &inventory.nodes {
            write!(f, "\n  {}", node.name)?;
            for address in &node.addresses {
                write!(f, "  {address}")?;
            }
            for pod in inventory.pods.iter().filter(|pod| pod.node == node.name) {
                write!(f, "\n    {}", pod.full_name())?;
                for ip in &pod.ips {
                    write!(f, "  {ip}")?;
                }
            }
        }
        for service in &inventory.services {
            write!(f, "\n  svc/{}/{}", service.namespace, service.name)?;
            for (address, port) in service.cluster_ips.iter().zip(&service.ports) {
                write!(f, "  {address}:{}/{}", port.port, port.protocol)?;
                if let Some(node_port) = port.node_port {
                    write!(f, "  node port {node_port}")?;
                }
            }
            write!(f, "  → {}", service.endpoints.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(built: bool, replaced: &[&str]) -> String {
        let replaced = replaced.iter().map(|problem| (*problem).to_owned()).collect();
        let (network, took) = (Network::default(), Duration::from_millis(60));
        Up { lab: "lab".into(), network, rules: RuleSet::Nft, built, replaced, took }.to_string()
    }

    #[test]
    fn what_up_did() {
        assert_eq!(up(false, &[]), "the lab `lab` is already up");
        let built = "the lab `lab` is up: nodes node1 and node2, network flannel-vxlan, Services with nft, built in 60 ms";
        assert_eq!(up(true, &[]), built);
        let one = format!("removed the earlier lab `lab` first (eth0 is missing)\n{built}");
        assert_eq!(up(true, &["eth0 is missing"]), one);
        let three = format!("removed the earlier lab `lab` first (a, and 2 more)\n{built}");
        assert_eq!(up(true, &["a", "b", "c"]), three);
    }

    #[test]
    fn down_output() {
        let down = |namespaces, killed| Down { lab: "lab".into(), namespaces, killed }.to_string();
        assert_eq!(down(0, 0), "there is no lab `lab`");
        assert_eq!(down(7, 0), "removed the lab `lab`");
        assert_eq!(down(7, 1), "removed the lab `lab`; killed 1 process in it");
        assert_eq!(down(7, 2), "removed the lab `lab`; killed 2 processes in it");
    }
}
