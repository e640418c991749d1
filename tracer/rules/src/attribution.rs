//! The answer: which rule did it, as far as that can be told.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{Family, Framework, Hook};
use podtrace_escape::escape;

/// The rule that translated or dropped a packet; or what is common to those that can have done it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// What was done.
    pub kind: Kind,
    /// Whose rule it is; like the next two, `None` if several can have done it that differ there.
    pub framework: Option<Framework>,
    /// Family of its table.
    pub family: Option<Family>,
    /// Its table.
    pub table: Option<String>,
    /// Where the kernel asked.
    #[serde(default)]
    pub hook: Option<Hook>,
    /// The way to it, chain by chain, the last being the one that it is in. The chain that the kernel calls is left
    /// out if another follows. Of several ways or rules, what they have in common.
    pub chains: Vec<String>,
    /// How it is written; `None` if several rules can have done it, or a chain's policy did.
    #[serde(default)]
    pub rule: Option<String>,
    /// The kernel's number for it; `None` where that is not told, and if several can have done it.
    #[serde(default)]
    pub handle: Option<u64>,
    /// What its author says of it.
    #[serde(default)]
    pub comment: Option<String>,
    /// `namespace/name` of the Service that it is for, as kube-proxy says.
    #[serde(default)]
    pub service: Option<String>,
    /// Name of the Service's port.
    #[serde(default)]
    pub port: Option<String>,
    /// Among how many endpoints the Service's rules choose.
    #[serde(default)]
    pub endpoints: Option<u32>,
    /// How many rules can have done it, of those that were read.
    pub candidates: u32,
    /// Whether it is the only rule that can have done it, and none that counts is missing from those that were read.
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
    /// Dropped it, and told its sender.
    Reject,
    /// Dropped it because no rule decided on it.
    Policy,
    /// One of these: several rules can have done it, and they differ.
    Unclear,
}

impl Attribution {
    /// The same rule, come to by another way.
    pub(super) fn same_rule(&mut self, other: &Self) {
        let common =
            self.chains.iter().rev().zip(other.chains.iter().rev()).take_while(|(a, b)| a == b).count();
        self.chains.drain(..self.chains.len() - common);
        self.common(other);
    }

    /// Another rule that can have done it as well.
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
    /// The rule without the way to it, for where there is little room.
    #[must_use]
    pub fn brief(&self) -> String {
        let last = self.chains.last().cloned().into_iter().collect();
        // That it is a Service's is told beside it.
        Self { chains: last, service: None, port: None, comment: None, ..self.clone() }.to_string()
    }

    /// What stands in brackets behind the way.
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
