//! One thing that is wrong with a node's or a pod's network state, with the observation that it rests on.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::facts::Place;
use super::words::quoted;

/// Something wrong that was read from a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the node.
    pub node: String,
    /// Full name of the pod, where it is in the pod's own namespace.
    pub pod: Option<String>,
    /// Name of the device.
    pub device: Option<String>,
    /// What kind of thing it is: which ends of packets it may explain.
    pub kind: Kind,
    /// Which packets it is about.
    pub subject: Subject,
    /// What is wrong and by which observation, in one sentence without its full stop.
    pub problem: String,
    /// The command that shows it.
    pub show: String,
    /// The command that mends it, where one does.
    pub fix: Option<String>,
    /// What may have led to it, the likeliest first, each with the command that shows it.
    pub possible: Vec<String>,
}

/// Kinds of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A device on the way is down.
    LinkDown,
    /// A neighbour entry has a link-layer address that is not its owner's.
    WrongNeighbour,
    /// A tunnel's forwarding entry leads to another address than the node's.
    WrongTunnelEnd,
    /// A tunnel has no forwarding entry for the link-layer address of a neighbour.
    NoTunnelEnd,
    /// A tunnel sends from an address that its node does not have.
    TunnelAddress,
    /// Two ends of a tunnel have other settings.
    TunnelMismatch,
    /// A pod has no default route.
    NoRoute,
    /// A pod's default route is by an address that is not its node's.
    WrongGateway,
    /// A neighbour was asked for and does not answer.
    Unanswered,
    /// A route or rule refuses the packet.
    Refused,
    /// A rule has packets routed by another table than the main one: no fault by itself.
    Diverted,
    /// The node does not forward.
    ForwardingOff,
    /// The reverse path filter is strict where the way back is another.
    ReversePath,
    /// A port of a bridge passes nothing, or not to this other port.
    BridgePort,
    /// Devices on the way carry packets of other sizes.
    Mtu,
    /// An XDP program is attached.
    Xdp,
    /// More than one namespace has the address.
    AddressTwice,
}

/// Which packets a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Those to an address.
    To(IpAddr),
    /// Those from or to an address.
    Address(IpAddr),
    /// Those from a network, those to a network; `None` for any.
    Between(Option<IpNet>, Option<IpNet>),
    /// Those that pass the device.
    Device,
}

impl Finding {
    /// A finding at a device of a namespace.
    #[must_use]
    pub fn at(place: Place<'_>, device: &str, kind: Kind, subject: Subject) -> Self {
        Self {
            node: place.node.name.clone(),
            pod: place.namespace.pod.clone(),
            device: (!device.is_empty()).then(|| device.to_owned()),
            kind,
            subject,
            problem: String::new(),
            show: String::new(),
            fix: None,
            possible: Vec::new(),
        }
    }

    /// Says what is wrong, and the command that shows it.
    #[must_use]
    pub fn says(mut self, problem: String, show: String) -> Self {
        (self.problem, self.show) = (problem, show);
        self
    }

    /// Says what may have led to it.
    #[must_use]
    pub fn possibly_by(mut self, possible: Vec<String>) -> Self {
        self.possible = possible;
        self
    }

    /// Says which command mends it.
    #[must_use]
    pub fn mended_by(mut self, fix: String) -> Self {
        self.fix = Some(fix);
        self
    }
}

impl fmt::Display for Finding {
    /// The problem, where and how to look at it, and how to mend it. The texts are escaped already.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, pod, problem, show, fix, possible, .. } = self;
        let place = match pod {
            Some(pod) => format!("In {}", quoted(pod)),
            None => format!("On {}", quoted(node)),
        };
        write!(f, "{problem}. {place}: `{show}`")?;
        if let Some(fix) = fix {
            write!(f, "; to mend it: `{fix}`")?;
        }
        if !possible.is_empty() {
            write!(f, ". Possible: {}", possible.join("; or "))?;
        }
        Ok(())
    }
}
