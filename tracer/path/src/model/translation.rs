//! What address translation made of a packet, and what connection tracking says of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Direction, End, Tuple};
use podtrace_rules::Attribution;

/// What translation has made of a path's ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translated {
    /// Where the packet seems to come from.
    pub from: End,
    /// Where it goes to in the end.
    pub to: End,
}

/// A translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Which kind.
    pub kind: NatKind,
    /// The packet's addresses and ports before.
    pub before: Tuple,
    /// And after.
    pub after: Tuple,
    /// The Service that was addressed, where the translation is by one.
    #[serde(default)]
    pub service: Option<ServiceRef>,
    /// The rule that did it, where the node's rules name one; replies are translated back without a rule.
    #[serde(default)]
    pub rule: Option<Arc<Attribution>>,
}

/// The Service of a translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRef {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// Its port that was addressed.
    pub port: u16,
    /// `namespace/name` of the pod that was chosen.
    pub endpoint: Option<Arc<str>>,
    /// How many endpoints it has.
    pub endpoints: u32,
}

/// What connection tracking says of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionSeen {
    /// The packet's state in the connection.
    pub state: ConnState,
    /// Which way of the connection it goes.
    pub direction: Direction,
    /// `seen-reply`, `assured`, `confirmed`, `snat`, `dnat`.
    pub status: Vec<String>,
    /// Addresses and ports of the packet that opened the connection.
    pub original: Tuple,
    /// Those that an answer is expected to have before it is translated back.
    pub reply: Tuple,
    /// Zone.
    pub zone: u16,
    /// Mark.
    pub mark: u32,
}

/// States of a packet in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnState {
    /// It opens it.
    New,
    /// There were packets both ways before it.
    Established,
    /// It is about it: an ICMP error.
    Related,
}

impl ConnState {
    /// As the kernel's rules call it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
        }
    }
}

/// Kinds of translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatKind {
    /// Destination changed.
    Dnat,
    /// Destination changed to the node itself.
    Redirect,
    /// Source changed.
    Snat,
    /// Source changed to the node's own address.
    Masquerade,
    /// Of an answer: the source is what the request was sent to again.
    UnDnat,
    /// As before, after a redirection.
    UnRedirect,
    /// Of an answer: the destination is what the request came from again.
    UnSnat,
    /// As before, after masquerading.
    UnMasquerade,
}

impl NatKind {
    /// Whether it is the destination that changes.
    #[must_use]
    pub fn is_of_destination(self) -> bool {
        match self {
            Self::Dnat | Self::Redirect | Self::UnSnat | Self::UnMasquerade => true,
            Self::Snat | Self::Masquerade | Self::UnDnat | Self::UnRedirect => false,
        }
    }
}
