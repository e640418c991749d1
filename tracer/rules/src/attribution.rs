//! The answer: the rule that translated or dropped a packet, or what its candidates have in common.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{Family, Framework, Hook};
use podtrace_escape::escape;

/// The rule that translated or dropped a packet. With several [candidates](Self::candidates), a field is set only if they
/// agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// What it did.
    pub kind: Kind,
    /// Whose rule it is.
    pub framework: Option<Framework>,
    /// The family of its table.
    pub family: Option<Family>,
    /// The name of its table.
    pub table: Option<String>,
    /// The hook where the kernel called the packet filter.
    #[serde(default)]
    pub hook: Option<Hook>,
    /// The chains that led to it, ending with its own. The base chain is left out if another follows. For several
    /// candidates, or several ways to one, those that they share.
    pub chains: Vec<String>,
    /// Its text; `None` for several candidates, and for a policy.
    #[serde(default)]
    pub rule: Option<String>,
    /// The kernel's number for it; `None` for several candidates, and for iptables.
    #[serde(default)]
    pub handle: Option<u64>,
    /// Its comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// `NAMESPACE/NAME` of the Service that it is for, from names and comments that kube-proxy writes.
    #[serde(default)]
    pub service: Option<String>,
    /// The name of the Service's port.
    #[serde(default)]
    pub port: Option<String>,
    /// Number of endpoints that the Service's rules choose among.
    #[serde(default)]
    pub endpoints: Option<u32>,
    /// Number of rules that can have done it, among those that were read.
    pub candidates: u32,
    /// Whether it is the only candidate, and no rule that could be another is missing.
    pub certain: bool,
}

/// What a rule did to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Changed its destination.
    Dnat,
    /// Changed its source.
    Snat,
    /// Changed its source to the node's own address.
    Masquerade,
    /// Changed its destination to the node itself.
    Redirect,
    /// Dropped it.
    Drop,
    /// Dropped it and sent an error or reset to its sender.
    Reject,
    /// Dropped it by the policy of a base chain, because no rule decided on it.
    Policy,
    /// One of these: the candidates differ.
    Unclear,
}

impl Attribution {
    /// Merges with the same rule, reached by other jumps.
    pub(super) fn same_rule(&mut self, other: &Self) {
        let common =
            self.chains.iter().rev().zip(other.chains.iter().rev()).take_while(|(a, b)| a == b).count();
        self.chains.drain(..self.chains.len() - common);
        self.common(other);
    }

    /// Merges with another candidate.
    pub(super) fn other_rule(&mut self, other: &Self) {
        let same_table =
            (self.framework, self.family, &self.table) == (other.framework, other.family, &other.table);
        let common = self.chains.iter().zip(&other.chains).take_while(|(a, b)| a == b && same_table).count();
        self.chains.truncate(common);
        if self.kind != other.kind {
            self.kind = Kind::Unclear;
        }
        self.framework = self.framework.filter(|framework| Some(*framework) == other.framework);
        self.family = self.family.filter(|family| Some(*family) == other.family);
        if self.table != other.table {
            self.table = None;
        }
        self.rule = None;
        self.handle = None;
        self.comment = None;
        self.common(other);
    }

    fn common(&mut self, other: &Self) {
        self.hook = self.hook.filter(|hook| Some(*hook) == other.hook);
        if self.service != other.service {
            self.service = None;
        }
        if self.service.is_none() || self.port != other.port {
            self.port = None;
        }
        self.endpoints = self.endpoints.filter(|endpoints| Some(*endpoints) == other.endpoints);
    }
}

/// `iptables nat: KUBE-SERVICES → KUBE-SVC-LOLE4ISW44XBNF3G → KUBE-SEP-5UKXEYUPHJSB3XBR (default/web:http)`
impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.framework, self.family) {
            (Some(Framework::Iptables), Some(Family::Ip6)) => "ip6tables",
            (Some(Framework::Iptables), _) => "iptables",
            (Some(Framework::Nft), _) => "nft",
            (None, _) => "rules",
        })?;
        if let (Some(Framework::Nft), Some(family)) = (self.framework, self.family) {
            write!(f, " {family}")?;
        }
        if let Some(table) = &self.table {
            write!(f, " {}", escape(table))?;
        }
        for (number, chain) in self.chains.iter().enumerate() {
            write!(f, "{} {}", if number == 0 { ":" } else { " →" }, escape(chain))?;
        }
        let remarks = self.remarks();
        if !remarks.is_empty() {
            write!(f, " ({})", remarks.join(", "))?;
        }
        Ok(())
    }
}

impl Attribution {
    /// The rule in short, without the chains that led to it and its Service.
    #[must_use]
    pub fn brief(&self) -> String {
        let last = self.chains.last().cloned().into_iter().collect();
        Self { chains: last, service: None, port: None, comment: None, ..self.clone() }.to_string()
    }

    /// What stands in brackets behind the chains.
    fn remarks(&self) -> Vec<Cow<'_, str>> {
        let mut remarks: Vec<Cow<'_, str>> = Vec::new();
        if self.kind == Kind::Policy {
            remarks.push("policy".into());
        }
        remarks.extend(self.handle.map(|handle| format!("handle {handle}").into()));
        match (&self.service, &self.port, &self.comment) {
            (Some(service), Some(port), _) => {
                remarks.push(format!("{}:{}", escape(service), escape(port)).into());
            }
            (Some(service), None, _) => remarks.push(escape(service)),
            (None, _, Some(comment)) => remarks.push(format!("“{}”", escape(comment)).into()),
            (None, _, None) => {}
        }
        if self.candidates > 1 {
            remarks.push(format!("one of {} rules", self.candidates).into());
        } else if !self.certain {
            remarks.push("not all rules are known".into());
        }
        remarks
    }
}
