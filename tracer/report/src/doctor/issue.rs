//! One thing that a look at the nodes shows.

use ipnet::IpNet;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Packets are lost: the state proves it.
    Fault,
    /// Packets may be lost, or are in some cases.
    Warning,
    /// Ordinary somewhere, but worth knowing.
    Note,
}

/// What kind of thing it is. The order is that of findings that are equally bad: what many packets pass comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A device is down.
    LinkDown,
    /// A node forwards nothing, or nothing that comes in by a device.
    ForwardingOff,
    /// A VXLAN device sends from an address that its node does not have.
    TunnelAddress,
    /// Two ends of a tunnel differ in network identifier or UDP port.
    TunnelMismatch,
    /// A rule drops the tunnel's packets.
    TunnelDropped,
    /// A tunnel has no forwarding entry for a node.
    NoTunnelEnd,
    /// A tunnel's forwarding entry leads elsewhere.
    WrongTunnelEnd,
    /// A tunnel has no neighbour entry for another node's end.
    NoNeighbour,
    /// A neighbour entry has the link-layer address of another.
    WrongNeighbour,
    /// A route or policy rule refuses packets.
    Refused,
    /// A node has no route to pods.
    NoRoute,
    /// A node's route to pods leads elsewhere.
    WrongRoute,
    /// Two nodes give their pods addresses of one network.
    SubnetTwice,
    /// An address is held twice.
    AddressTwice,
    /// A pod has no default route.
    NoDefaultRoute,
    /// A pod's gateway is nobody's.
    WrongGateway,
    /// A bridge port passes nothing.
    BridgePort,
    /// A node has no rules for Services that others have.
    ServiceUnruled,
    /// A rule drops what pods send one another.
    DroppedByRule,
    /// A rule changes the destination of packets to a pod.
    Redirected,
    /// A rule changes the source of packets between pods.
    Masqueraded,
    /// A rule leads to an address that no pod has.
    StaleRule,
    /// Reverse path filtering is strict where packets come in that would not be answered that way.
    ReversePath,
    /// Ports of a bridge are isolated from one another.
    PortsIsolated,
    /// The bridge does not show its packets to iptables.
    BridgeUnfiltered,
    /// A bridge port is not in hairpin mode, unlike the others.
    HairpinOff,
    /// A tunnel's MTU is too large for what is below.
    TunnelMtu,
    /// MTUs differ along the way.
    Mtu,
    /// A neighbour did not answer.
    Unanswered,
    /// A pod answers no pings.
    EchoIgnored,
    /// Policy routing sends pods' packets by another table.
    Diverted,
    /// A pod's network namespace was not found.
    NoNamespace,
    /// A Service has nobody behind it.
    ServiceEmpty,
    /// An XDP program is attached.
    Xdp,
}

/// One finding. Texts hold names from outside, which renderers escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Name of the node.
    pub node: String,
    /// Full name of the pod, if it is inside one.
    pub pod: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// The device that it hangs on, such as a port's bridge.
    pub below: Option<String>,
    /// What was found, one sentence without its full stop.
    pub found: String,
    /// What was expected, and from where that is known.
    pub expected: String,
    /// What follows for users.
    pub effect: String,
    /// Commands that show it.
    pub show: Vec<String>,
    /// The command that mends it.
    pub fix: Option<String>,
    /// Where it has to be changed to stay so.
    pub lasting: Option<String>,
    /// What may have led to it, the likeliest first.
    pub possible: Vec<String>,
    /// The packets that it is about, by their addresses; any if empty.
    pub about: Vec<IpNet>,
    /// Where the same was found besides.
    pub also: Vec<String>,
    /// What follows from it in the nodes' state.
    pub consequences: Vec<Issue>,
}

impl Issue {
    /// A finding at a node, without its texts.
    #[must_use]
    pub fn at(severity: Severity, kind: Kind, node: &str, device: Option<&str>) -> Self {
        Self {
            severity,
            kind,
            node: node.to_owned(),
            pod: None,
            device: device.map(str::to_owned),
            below: None,
            found: String::new(),
            expected: String::new(),
            effect: String::new(),
            show: Vec::new(),
            fix: None,
            lasting: None,
            possible: Vec::new(),
            about: Vec::new(),
            also: Vec::new(),
            consequences: Vec::new(),
        }
    }

    /// Says what was found, and what was expected, from where that is known.
    #[must_use]
    pub fn found(mut self, found: String, expected: impl Into<String>) -> Self {
        (self.found, self.expected) = (found, expected.into());
        self
    }

    /// Says what follows.
    #[must_use]
    pub fn follows(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    /// Says which command shows it, or which ones: as advice has them, "`one` and `other`".
    #[must_use]
    pub fn shown_by(mut self, commands: impl Into<String>) -> Self {
        let commands: String = commands.into();
        self.show.extend(commands.split("` and `").map(|command| command.trim_matches('`').to_owned()));
        self
    }

    /// Says which command mends it.
    #[must_use]
    pub fn fixed_by(mut self, command: Option<String>) -> Self {
        self.fix = command;
        self
    }

    /// Says which packets it is about.
    #[must_use]
    pub fn about(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.about.extend(networks);
        self
    }

    /// The pod's full name, or the node's: where its commands are run.
    #[must_use]
    pub fn place(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.node)
    }
}
