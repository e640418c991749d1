//! Where observations are made, and what such places are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use tracer_common::hook;

use podtrace_protocol::hook::{Hook, Meaning};

/// Where an observation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// `tc:ingress`: tc classifier, ingress.
    TcIngress,
    /// `tc:egress`: tc classifier, egress.
    TcEgress,
    /// `tp:kfree_skb`: the tracepoint of drops.
    KfreeSkb,
    /// `kprobe:ip_forward` and the like: a hook of the network stack.
    Stack(Via, &'static Hook),
}

/// How a hook of the network stack is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// At the entry of a function, called directly.
    Fentry,
    /// At the entry of a function, by breakpoint or ftrace.
    Kprobe,
    /// At a tracepoint.
    Tracepoint,
}

impl Via {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Fentry, "fentry"), (Self::Kprobe, "kprobe"), (Self::Tracepoint, "tp")];

    fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tp",
        }
    }
}

impl Point {
    /// The point of a tap or of drops by the number of its hook; `None` if that is another one.
    #[must_use]
    pub fn of_hook(number: u16) -> Option<Self> {
        match number {
            hook::TC_INGRESS => Some(Self::TcIngress),
            hook::TC_EGRESS => Some(Self::TcEgress),
            hook::KFREE_SKB => Some(Self::KfreeSkb),
            _ => None,
        }
    }

    /// Whether what is seen here belongs to a hop that taps see: all of the stack but where a node's own packets
    /// set out.
    #[must_use]
    pub fn is_step(self) -> bool {
        self.meaning().is_some_and(|meaning| meaning != Meaning::LocalOut)
    }

    /// What it means to pass this point of the network stack; `None` if it is a tap or of drops.
    #[must_use]
    pub fn meaning(self) -> Option<Meaning> {
        match self {
            Self::Stack(_, hook) => Some(hook.meaning),
            Self::TcIngress | Self::TcEgress | Self::KfreeSkb => None,
        }
    }
}

impl fmt::Display for Point {
    /// What it is called, in JSON and elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TcIngress => f.write_str("tc:ingress"),
            Self::TcEgress => f.write_str("tc:egress"),
            Self::KfreeSkb => f.write_str("tp:kfree_skb"),
            Self::Stack(via, hook) => write!(f, "{}:{}", via.name(), hook.function),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let stack = || {
            let (via, function) = text.split_once(':')?;
            let (via, _) = Via::ALL.iter().find(|(_, name)| *name == via)?;
            Some(Self::Stack(*via, Hook::named(function)?))
        };
        match text {
            "tc:ingress" => Ok(Self::TcIngress),
            "tc:egress" => Ok(Self::TcEgress),
            "tp:kfree_skb" => Ok(Self::KfreeSkb),
            _ => stack().ok_or_else(|| format!("{text} is not a hook point")),
        }
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
