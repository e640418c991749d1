//! Periods in which the filter changes: the nodes do not all apply the new one at the same moment.

use std::collections::BTreeSet;
use std::net::IpAddr;

use podtrace_protocol::frame::{FilterSpec, Side};

use crate::join::VANISH_TIMEOUT;
use crate::node::NodeId;
use crate::time::{Moment, Nanos};

/// A period in which nodes may apply different filters. A path that overlaps it may be without some of its hops.
#[derive(Debug)]
pub(crate) struct Window {
    /// Addresses that the change adds or removes.
    addresses: BTreeSet<IpAddr>,
    /// Nodes that have not confirmed the new filter yet.
    waiting: BTreeSet<NodeId>,
    /// The update that opened it, by its `at_ns`.
    update: u64,
    from: Moment,
    until: Moment,
}

impl Window {
    /// The window that `update` opens at `at`, from the filter `before` to the filter `after`, until all nodes of `waiting`
    /// have confirmed. `None` if both filters have the same addresses.
    pub(crate) fn between(
        (before, after): (&FilterSpec, &FilterSpec),
        update: u64,
        at: Moment,
        waiting: impl Iterator<Item = NodeId>,
    ) -> Option<Self> {
        let sides = |filter: &FilterSpec| -> BTreeSet<(bool, IpAddr)> {
            let side = |is_from, side: &Side| {
                side.addresses.iter().map(move |ip| (is_from, *ip)).collect::<Vec<_>>()
            };
            side(true, &filter.from).into_iter().chain(side(false, &filter.to)).collect()
        };
        let (before, after) = (sides(before), sides(after));
        let addresses: BTreeSet<_> = before.symmetric_difference(&after).map(|(_, ip)| *ip).collect();
        // A packet that matches no more may have been in flight for a while before the update.
        let look_back = if before.is_subset(&after) { Nanos::ZERO } else { VANISH_TIMEOUT };
        (!addresses.is_empty()).then(|| Self {
            addresses,
            waiting: waiting.collect(),
            update,
            from: at - look_back,
            until: at,
        })
    }

    /// The window of a node that is traced from `at` on: a packet that was in flight then, to or from one of the node's
    /// `addresses`, may have passed it unseen.
    pub(crate) fn of_new_node(addresses: BTreeSet<IpAddr>, at: Moment) -> Self {
        Self { addresses, waiting: BTreeSet::new(), update: 0, from: Moment::MIN, until: at }
    }

    /// A node has applied `update`, or a later one than this window's.
    pub(crate) fn confirmed(&mut self, node: NodeId, update: u64, at: Moment) {
        if update >= self.update && self.waiting.remove(&node) {
            self.until = self.until.max(at);
        }
    }

    /// A node's stream has ended: it confirms nothing more. What it missed since is the lost node's to explain.
    pub(crate) fn node_ended(&mut self, node: NodeId) {
        self.waiting.remove(&node);
    }

    /// Whether a path between these ends, seen from `first` to `last`, may be without some of its hops.
    pub(crate) fn may_truncate(&self, ends: [IpAddr; 2], first: Moment, last: Moment) -> bool {
        let starts_before_end = !self.waiting.is_empty() || first <= self.until;
        starts_before_end && last >= self.from && ends.iter().any(|end| self.addresses.contains(end))
    }

    /// Whether it can be dropped: no unfinished path can overlap it. Four times what a path may take to vanish is enough for
    /// neighbour resolution, the nodes' clocks and reports that are late.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        self.waiting.is_empty() && self.until + VANISH_TIMEOUT * 4 < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::PerNode;

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
    fn paths_of_a_new_address_may_be_truncated_until_all_nodes_have_confirmed() {
        let mut window =
            Window::between((&filter(&[ONE]), &filter(&[ONE, OTHER])), 7, at(100), nodes()).unwrap();
        assert!(window.may_truncate([OTHER, PEER], at(500), at(600)), "a node has not confirmed yet");
        window.confirmed(node(0), 7, at(150));
        window.confirmed(node(1), 6, at(170));
        assert!(window.may_truncate([OTHER, PEER], at(500), at(600)), "that was another update");
        window.confirmed(node(1), 9, at(200));
        assert!(window.may_truncate([PEER, OTHER], at(200), at(600)));
        assert!(!window.may_truncate([OTHER, PEER], at(201), at(600)), "by then all nodes looked");
        assert!(!window.may_truncate([ONE, PEER], at(150), at(160)), "it was looked for all the time");
        assert!(!window.may_truncate([OTHER, PEER], at(10), at(99)), "it was over before");
    }

    #[test]
    fn a_packet_of_a_removed_address_may_have_been_in_flight() {
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
        assert!(window.may_truncate([ONE, PEER], at(10), at(20)));
        assert!(!window.may_truncate([ONE, PEER], later, later));
    }

    #[test]
    fn the_same_filter_truncates_nothing() {
        assert!(Window::between((&filter(&[ONE]), &filter(&[ONE])), 7, at(0), nodes()).is_none());
    }

    #[test]
    fn an_address_that_changes_sides_may_truncate_its_paths() {
        let swapped = FilterSpec { from: filter(&[]).to, to: filter(&[ONE]).from, ..FilterSpec::default() };
        let window = Window::between((&filter(&[ONE]), &swapped), 7, at(100), nodes()).unwrap();
        assert!(window.may_truncate([ONE, PEER], at(100), at(110)));
    }
}
