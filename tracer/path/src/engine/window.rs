//! Times in which the filter changes: the nodes do not all apply it at the same moment.

use std::collections::BTreeSet;
use std::net::IpAddr;

use podtrace_protocol::frame::FilterSpec;

use crate::join::VANISH_TIMEOUT;
use crate::node::NodeId;
use crate::time::{Moment, Nanos};

/// From when until when the nodes may have different filters: a path of that time may lack hops.
#[derive(Debug)]
pub(crate) struct Window {
    /// Addresses that only one of the filters has.
    addresses: BTreeSet<IpAddr>,
    /// Nodes that have not confirmed the new filter yet.
    waiting: BTreeSet<NodeId>,
    /// `at_ns` of the update that it begins with.
    of: u64,
    from: Moment,
    until: Moment,
}

impl Window {
    /// From one filter to the next, by the update `of` at this moment; these nodes have to confirm it. `None` if both
    /// have the same addresses.
    pub(crate) fn between(
        (before, after): (&FilterSpec, &FilterSpec),
        of: u64,
        at: Moment,
        waiting: impl Iterator<Item = NodeId>,
    ) -> Option<Self> {
        let all = |filter: &FilterSpec| -> BTreeSet<IpAddr> {
            filter.from.addresses.iter().chain(&filter.to.addresses).copied().collect()
        };
        let (before, after) = (all(before), all(after));
        let addresses: BTreeSet<_> = before.symmetric_difference(&after).copied().collect();
        // A packet that does not match any more may have been under way for long.
        let patience = if before.is_subset(&after) { Nanos::ZERO } else { VANISH_TIMEOUT };
        (!addresses.is_empty()).then(|| Self {
            addresses,
            waiting: waiting.collect(),
            of,
            from: at - patience,
            until: at,
        })
    }

    /// Of a node that is traced from here on: all that is under way to and from these addresses of it.
    pub(crate) fn of_node(addresses: BTreeSet<IpAddr>, at: Moment) -> Self {
        Self { addresses, waiting: BTreeSet::new(), of: 0, from: Moment::MIN, until: at }
    }

    /// A node has applied this update.
    pub(crate) fn confirmed(&mut self, node: NodeId, of: u64, at: Moment) {
        if of >= self.of && self.waiting.remove(&node) {
            self.until = self.until.max(at);
        }
    }

    /// Nothing more comes of a node.
    pub(crate) fn ended(&mut self, node: NodeId) {
        self.waiting.remove(&node);
    }

    /// Whether a path between these ends, seen from `first` to `last`, may lack hops.
    pub(crate) fn cuts(&self, ends: [IpAddr; 2], first: Moment, last: Moment) -> bool {
        let began = !self.waiting.is_empty() || first <= self.until;
        began && last >= self.from && ends.iter().any(|end| self.addresses.contains(end))
    }

    /// Whether no path can be of its time any more.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        self.waiting.is_empty() && self.until + VANISH_TIMEOUT * 4 < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::PerNode;
    use podtrace_protocol::frame::Side;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 10));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 17));
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 1, 10));

    fn at(nanoseconds: i64) -> Moment {
        Moment::ORIGIN + Nanos::from_nanos(nanoseconds)
    }

    fn node(place: usize) -> NodeId {
        PerNode::from_iter([(), ()]).id(place).unwrap()
    }

    fn nodes() -> impl Iterator<Item = NodeId> {
        (0..2).map(node)
    }

    fn filter(from: &[IpAddr]) -> FilterSpec {
        let side = |addresses: &[IpAddr]| Side { addresses: addresses.to_vec(), ..Side::default() };
        FilterSpec { from: side(from), to: side(&[PEER]), ..FilterSpec::default() }
    }

    #[test]
    fn only_paths_of_what_is_new_are_cut_and_only_until_all_nodes_look() {
        let mut window =
            Window::between((&filter(&[ONE]), &filter(&[ONE, OTHER])), 7, at(100), nodes()).unwrap();
        assert!(window.cuts([OTHER, PEER], at(500), at(600)), "a node has not confirmed yet");
        window.confirmed(node(0), 7, at(150));
        window.confirmed(node(1), 6, at(170));
        assert!(window.cuts([OTHER, PEER], at(500), at(600)), "that was another update");
        window.confirmed(node(1), 9, at(200));
        assert!(window.cuts([PEER, OTHER], at(200), at(600)));
        assert!(!window.cuts([OTHER, PEER], at(201), at(600)), "by then all nodes looked");
        assert!(!window.cuts([ONE, PEER], at(150), at(160)), "it was looked for all the time");
        assert!(!window.cuts([OTHER, PEER], at(10), at(99)), "it was over before");
    }

    #[test]
    fn what_is_not_looked_for_any_more_may_have_been_under_way() {
        let mut window = Window::between(
            (&filter(&[ONE, OTHER]), &filter(&[OTHER])),
            7,
            Moment::ORIGIN + VANISH_TIMEOUT,
            nodes().take(1),
        )
        .unwrap();
        let late = Moment::ORIGIN + VANISH_TIMEOUT + Nanos::from_nanos(1);
        let later = late + Nanos::from_nanos(1);
        window.confirmed(node(0), 7, late);
        assert!(window.cuts([ONE, PEER], at(10), at(20)));
        assert!(!window.cuts([ONE, PEER], later, later));
    }

    #[test]
    fn the_same_filter_cuts_nothing() {
        assert!(Window::between((&filter(&[ONE]), &filter(&[ONE])), 7, at(0), nodes()).is_none());
    }
}
