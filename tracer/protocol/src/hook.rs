//! The table of hooked kernel functions: where each one takes the packet, and what calling it means for a packet.
//!
//! A new hook is one row here, one number in [`tracer_common::hook`] and one line in the eBPF programs' table
//! (`tracer-ebpf/src/stack.rs`). Argument positions are only a default: the agent reads the actual ones from BTF.
//!
//! # Examples
//!
//! ```
//! use podtrace_protocol::hook::{Hook, Meaning};
//!
//! let hook = Hook::named("ip_forward").expect("a hooked function");
//! assert_eq!(hook.meaning, Meaning::Forward);
//! // Events carry the number.
//! assert_eq!(Hook::of(hook.number), Some(hook));
//! ```

use tracer_common::hook;

/// A function of the kernel's network stack, hooked on entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// Its number in events, one of [`hook`].
    pub number: u16,
    /// Name of the function. Its programs are called `fentry_NAME` and `kprobe_NAME`, without leading underscores.
    pub function: &'static str,
    /// The module that contains it, unless it is built into the kernel. The prototype is in that module's BTF.
    pub module: Option<&'static str>,
    /// Position of the `struct sk_buff *` argument, if there is no BTF.
    pub skb: u8,
    /// What else the program reads.
    pub other: Other,
    /// What the function does with a packet.
    pub meaning: Meaning,
}

/// What a program reads besides the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Other {
    /// Nothing.
    Nothing,
    /// A struct: its type, and the position of the argument that points to it if there is no BTF.
    Pointer(&'static str, u8),
    /// A number: the position of the argument.
    Value(u8),
}

/// What the kernel does with a packet when it calls the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// A bridge received it on a port.
    BridgeInput,
    /// A bridge forwards it to the port of its destination.
    BridgeForward,
    /// A bridge does not know the destination's port and floods it to all ports.
    BridgeFlood,
    /// A bridge passes it up to the IP stack of its own node.
    BridgeUp,
    /// A bridge sends it out of a port.
    BridgeOutput,
    /// IP received it.
    Receive,
    /// IP forwards it; the route is known.
    Forward,
    /// IP sends it along its route.
    Output,
    /// IP delivers it to the node itself.
    LocalIn,
    /// The node itself sends it.
    LocalOut,
    /// A netfilter hook with rules processes it.
    Netfilter,
    /// Connection tracking looks up its connection.
    Conntrack,
    /// NAT translates its addresses or ports.
    Nat,
    /// A tunnel encapsulates it.
    TunnelOut,
    /// A tunnel decapsulates it.
    TunnelIn,
    /// Neighbour resolution (ARP, NDP) for the next hop.
    Neighbour,
    /// It left a device's queue after waiting in it.
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

/// The hooked functions, roughly in the order in which a packet passes them. All kernels from 5.10 to 7.3 have them
/// under these names.
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

/// The tracepoint at which a packet leaves a device's queue. Not a function, but with a [`Meaning`] like one.
const QUEUED: Hook = row(hook::START_XMIT, "net_dev_start_xmit", None, 0, Meaning::Queued);

/// Functions that copy a packet. They are hooked on return, so that the copy is followed like the original.
pub const COPIES: [&str; 3] = ["skb_clone", "skb_copy", "__pskb_copy_fclone"];

impl Hook {
    /// The hook with a number.
    #[must_use]
    pub fn of(number: u16) -> Option<&'static Self> {
        HOOKS.iter().chain([&QUEUED]).find(|hook| hook.number == number)
    }

    /// The hook of a function or tracepoint.
    #[must_use]
    pub fn named(function: &str) -> Option<&'static Self> {
        HOOKS.iter().chain([&QUEUED]).find(|hook| hook.function == function)
    }
}

/// Protocol families of netfilter (`NFPROTO_*`) whose hooks have names of their own.
mod family {
    pub(super) const ARP: u32 = 3;
    pub(super) const BRIDGE: u32 = 7;
}

/// Name of a netfilter hook as in the names of iptables chains. `aux` is [`tracer_common::Event::aux`].
#[must_use]
pub fn netfilter_hook(aux: u32) -> String {
    let (number, family) = (aux & 0xff, aux >> 8);
    // ARP numbers its hooks differently; all other families use the same numbers.
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
    fn netfilter_hooks_have_the_names_of_iptables_chains() {
        let aux = tracer_common::Event::netfilter_aux;
        assert_eq!(netfilter_hook(aux(2, 2)), "FORWARD");
        assert_eq!(netfilter_hook(aux(4, 7)), "bridge POSTROUTING");
        assert_eq!(netfilter_hook(aux(9, 10)), "hook 9");
    }
}
