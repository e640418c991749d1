//! A finding: one thing that is wrong with the network state of a node or pod, with the observation that it rests on.

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
    /// The address that it sends these packets to, if it diverts them.
    pub diverts_to: Option<IpAddr>,
    /// What is wrong and by which observation, in one sentence without its full stop.
    pub problem: String,
    /// The command that shows it.
    pub show: String,
    /// The command that fixes it, if there is one.
    pub fix: Option<String>,
    /// What may have led to it, the likeliest first, each with the command that shows it.
    pub possible: Vec<String>,
}

/// Kinds of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A device is down.
    LinkDown,
    /// A neighbour entry has another link-layer address than the owner of the IP address.
    WrongNeighbour,
    /// A VXLAN device's FDB entry leads to an address that is not the other node's.
    WrongTunnelEnd,
    /// A VXLAN device has no FDB entry for the link-layer address of a neighbour.
    NoTunnelEnd,
    /// A VXLAN device's local address is not one of its node's.
    TunnelAddress,
    /// The VXLAN devices of two nodes differ in VNI or UDP port.
    TunnelMismatch,
    /// A pod has no default route.
    NoRoute,
    /// The gateway of a pod's default route is not an address of its node.
    WrongGateway,
    /// A neighbour entry is incomplete or failed: nobody answers ARP or neighbour solicitations.
    Unanswered,
    /// A route or an `ip rule` of type blackhole, prohibit or unreachable.
    Refused,
    /// An `ip rule` leads to another table than the main one. No fault by itself.
    Diverted,
    /// `forwarding` is off, for the node or a device.
    ForwardingOff,
    /// `rp_filter` is strict, and the route back leaves through another device.
    ReversePath,
    /// A bridge port is disabled, blocking, isolated or not in hairpin mode.
    BridgePort,
    /// Ports of a bridge are isolated from one another.
    PortsIsolated,
    /// A tunnel's MTU is too large for the device that its packets leave by.
    TunnelMtu,
    /// Pings are not answered.
    EchoIgnored,
    /// The device has a smaller MTU than the one before it.
    Mtu,
    /// An XDP program is attached.
    Xdp,
    /// More than one network namespace has the address.
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
    /// Those that pass through the device.
    Device,
    /// Those to addresses of one version of IP.
    Family {
        /// Whether it is IPv6.
        ipv6: bool,
    },
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
            diverts_to: None,
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

    /// Says where it sends the packets.
    #[must_use]
    pub fn diverting_to(mut self, address: IpAddr) -> Self {
        self.diverts_to = Some(address);
        self
    }

    /// Says what may have led to it.
    #[must_use]
    pub fn possibly_by(mut self, possible: Vec<String>) -> Self {
        self.possible = possible;
        self
    }

    /// Says which command fixes it.
    #[must_use]
    pub fn fixed_by(mut self, fix: String) -> Self {
        self.fix = Some(fix);
        self
    }
}

impl fmt::Display for Finding {
    /// The problem, where and how to look at it, and how to fix it. The texts are escaped already.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, pod, problem, show, fix, possible, .. } = self;
        let place = match pod {
            Some(pod) => format!("In {}", quoted(pod)),
            None => format!("On {}", quoted(node)),
        };
        write!(f, "{problem}. {place}: `{show}`")?;
        if let Some(fix) = fix {
            write!(f, "; to fix it: `{fix}`")?;
        }
        if !possible.is_empty() {
            write!(f, ". Possible: {}", possible.join("; or "))?;
        }
        Ok(())
    }
}
