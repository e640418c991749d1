//! The table of hooks: which function of the kernel is looked at, where it takes what is read, and what it means for
//! a packet to pass it. A hook is one row here and one line in the kernel programs' own table.

use tracer_common::hook;

/// A function of the kernel's network stack that is hooked on entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// One of [`hook`], by which the kernel programs call it.
    pub number: u16,
    /// Name of the function; that of its programs follows from it.
    pub function: &'static str,
    /// The module that it is in where it is not part of the kernel proper, by which its prototype is found.
    pub module: Option<&'static str>,
    /// Which argument the packet is, where no prototype tells.
    pub skb: u8,
    /// What else is read.
    pub other: Other,
    /// What the function does with a packet.
    pub meaning: Meaning,
}

/// What a hook reads besides the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Other {
    /// Nothing.
    Nothing,
    /// A struct: its type, and which argument points to it where no prototype tells.
    Pointer(&'static str, u8),
    /// An argument that is a number.
    Value(u8),
}

/// What it means for a packet to pass a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// A bridge takes it from a port.
    BridgeInput,
    /// A bridge has decided on the port it goes to.
    BridgeForward,
    /// A bridge does not know the port and sends copies to all.
    BridgeFlood,
    /// A bridge hands it up to its own node.
    BridgeUp,
    /// A bridge is about to send it out of a port.
    BridgeOutput,
    /// IP receives it.
    Receive,
    /// IP forwards it: a route has been looked up.
    Forward,
    /// IP sends it out by its route.
    Output,
    /// It is for the node itself.
    LocalIn,
    /// It is the node's own and sets out.
    LocalOut,
    /// It comes to a netfilter hook that has rules.
    Netfilter,
    /// Connection tracking looks at it.
    Conntrack,
    /// Its addresses or ports are about to be translated.
    Nat,
    /// A tunnel puts its header around it.
    TunnelOut,
    /// A tunnel takes its header off.
    TunnelIn,
    /// The link address of the next hop is looked up, and asked for if it is not known.
    Neighbour,
    /// It has waited in a device's queue.
    Queued,
}

const fn row(
    number: u16,
    function: &'static str,
    module: Option<&'static str>,
    skb: u8,
    meaning: Meaning,
) -> Hook {
    Hook { number, function, module, skb, other: Other::Nothing, meaning }
}

/// Functions that are hooked, in the order in which a packet may come by them. Each has had this name in all kernels
/// from 5.10 to 7.3, as has the argument.
pub const HOOKS: [Hook; 21] = [
    row(hook::BRIDGE_INPUT, "br_handle_frame_finish", Some("bridge"), 2, Meaning::BridgeInput),
    row(hook::BRIDGE_FORWARD, "br_forward", Some("bridge"), 1, Meaning::BridgeForward),
    row(hook::BRIDGE_FLOOD, "br_flood", Some("bridge"), 1, Meaning::BridgeFlood),
    row(hook::BRIDGE_UP, "br_pass_frame_up", Some("bridge"), 0, Meaning::BridgeUp),
    row(hook::BRIDGE_OUTPUT, "br_dev_queue_push_xmit", Some("bridge"), 2, Meaning::BridgeOutput),
    row(hook::IP_RECEIVE, "ip_rcv_core", None, 0, Meaning::Receive),
    row(hook::IP_FORWARD, "ip_forward", None, 0, Meaning::Forward),
    row(hook::IP_OUTPUT, "ip_output", None, 2, Meaning::Output),
    row(hook::IP_LOCAL_IN, "ip_local_deliver", None, 0, Meaning::LocalIn),
    row(hook::IP_LOCAL_OUT, "__ip_local_out", None, 2, Meaning::LocalOut),
    row(hook::IP6_RECEIVE, "ip6_rcv_core", None, 0, Meaning::Receive),
    row(hook::IP6_FORWARD, "ip6_forward", None, 0, Meaning::Forward),
    row(hook::IP6_OUTPUT, "ip6_output", None, 2, Meaning::Output),
    row(hook::IP6_LOCAL_IN, "ip6_input", None, 0, Meaning::LocalIn),
    row(hook::IP6_LOCAL_OUT, "__ip6_local_out", None, 2, Meaning::LocalOut),
    Hook {
        other: Other::Pointer("nf_hook_state", 1),
        ..row(hook::NETFILTER, "nf_hook_slow", None, 0, Meaning::Netfilter)
    },
    row(hook::CONNTRACK, "nf_conntrack_in", Some("nf_conntrack"), 0, Meaning::Conntrack),
    Hook { other: Other::Value(2), ..row(hook::NAT, "nf_nat_manip_pkt", Some("nf_nat"), 0, Meaning::Nat) },
    row(hook::VXLAN_TRANSMIT, "vxlan_xmit_one", Some("vxlan"), 0, Meaning::TunnelOut),
    row(hook::VXLAN_RECEIVE, "vxlan_rcv", Some("vxlan"), 1, Meaning::TunnelIn),
    Hook {
        other: Other::Pointer("neighbour", 0),
        ..row(hook::NEIGHBOUR, "neigh_resolve_output", None, 1, Meaning::Neighbour)
    },
];

/// The tracepoint by which a packet is seen leaving a device's queue; not a function, but it means as much.
const QUEUED: Hook = row(hook::START_XMIT, "net_dev_start_xmit", None, 0, Meaning::Queued);

/// Functions that make a copy of a packet, which are hooked on return so that copies stay known.
pub const COPIES: [&str; 3] = ["skb_clone", "skb_copy", "__pskb_copy_fclone"];

impl Hook {
    /// The row of a number.
    #[must_use]
    pub fn of(number: u16) -> Option<&'static Self> {
        HOOKS.iter().chain([&QUEUED]).find(|hook| hook.number == number)
    }

    /// The row of a function or tracepoint.
    #[must_use]
    pub fn named(function: &str) -> Option<&'static Self> {
        HOOKS.iter().chain([&QUEUED]).find(|hook| hook.function == function)
    }
}

/// The protocol families of netfilter's hooks (`NFPROTO_*`) that occur here.
mod family {
    pub(super) const ARP: u32 = 3;
    pub(super) const BRIDGE: u32 = 7;
}

/// Name of the netfilter hook in an event's [`tracer_common::Event::aux`], as iptables calls its chains.
#[must_use]
pub fn netfilter_hook(aux: u32) -> String {
    let (number, family) = (aux & 0xff, aux >> 8);
    // ARP has hooks of its own; all others share their numbers.
    let names: &[&str] = match family {
        family::ARP => &["INPUT", "OUTPUT", "FORWARD"],
        _ => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "INGRESS"],
    };
    let name = names.get(number as usize).map_or_else(|| format!("hook {number}"), |name| (*name).to_owned());
    match family {
        family::BRIDGE => format!("bridge {name}"),
        family::ARP => format!("arp {name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_and_no_function_occurs_twice() {
        for row in &HOOKS {
            assert_eq!(Hook::of(row.number), Some(row));
            assert_eq!(Hook::named(row.function), Some(row));
            assert!(usize::from(row.number) < hook::END);
        }
    }

    #[test]
    fn netfilter_hooks_are_called_as_iptables_calls_them() {
        let aux = tracer_common::Event::netfilter_aux;
        assert_eq!(netfilter_hook(aux(2, 2)), "FORWARD");
        assert_eq!(netfilter_hook(aux(4, 7)), "bridge POSTROUTING");
        assert_eq!(netfilter_hook(aux(9, 10)), "hook 9");
    }
}
