//! The time in which what is traced changes: not all nodes begin, or cease, to look for a packet at the same moment.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::join::PATIENCE_NS;
use podtrace_protocol::frame::FilterSpec;

/// From when until when the nodes do not all look for the same packets: a path of that time may lack hops that
/// nobody looked for.
#[derive(Debug)]
pub(crate) struct Window {
    /// Addresses that are looked for anew, or no more.
    addresses: BTreeSet<IpAddr>,
    /// Nodes that have not said yet that they look as they are to.
    waiting: BTreeSet<usize>,
    /// `at_ns` of the update that it begins with.
    of: u64,
    /// On the common timeline.
    from: i64,
    until: i64,
}

impl Window {
    /// From one filter to the next, by the update of this number, at a moment of the common timeline: these nodes are
    /// yet to say that they look as they are to. `None` if both look for the same addresses.
    pub(crate) fn between(
        (before, after): (&FilterSpec, &FilterSpec),
        of: u64,
        at: i64,
        waiting: impl Iterator<Item = usize>,
    ) -> Option<Self> {
        let all = |filter: &FilterSpec| -> BTreeSet<IpAddr> {
            filter.from.addresses.iter().chain(&filter.to.addresses).copied().collect()
        };
        let (before, after) = (all(before), all(after));
        let addresses: BTreeSet<_> = before.symmetric_difference(&after).copied().collect();
        // What is not looked for any more may have been under way for long.
        let patience = if before.is_subset(&after) { 0 } else { PATIENCE_NS };
        (!addresses.is_empty()).then(|| Self {
            addresses,
            waiting: waiting.collect(),
            of,
            from: at.saturating_sub(patience),
            until: at,
        })
    }

    /// Of a node that begins to look: all that is under way to and from these addresses.
    pub(crate) fn of_node(addresses: BTreeSet<IpAddr>, at: i64) -> Self {
        Self { addresses, waiting: BTreeSet::new(), of: 0, from: i64::MIN, until: at }
    }

    /// A node looks as the update of this number said.
    pub(crate) fn confirmed(&mut self, node: usize, of: u64, at: i64) {
        if of >= self.of && self.waiting.remove(&node) {
            self.until = self.until.max(at);
        }
    }

    /// Nothing more comes of a node.
    pub(crate) fn ended(&mut self, node: usize) {
        self.waiting.remove(&node);
    }

    /// Whether a path between these ends, seen from `first` to `last`, may lack hops.
    pub(crate) fn cuts(&self, ends: [IpAddr; 2], first: i64, last: i64) -> bool {
        let began = !self.waiting.is_empty() || first <= self.until;
        began && last >= self.from && ends.iter().any(|end| self.addresses.contains(end))
    }

    /// Whether no path can be of its time any more.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.waiting.is_empty() && self.until.saturating_add(4 * PATIENCE_NS) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::frame::Side;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 10));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 17));
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 1, 10));

    fn filter(from: &[IpAddr]) -> FilterSpec {
        let side = |addresses: &[IpAddr]| Side { addresses: addresses.to_vec(), ..Side::default() };
        FilterSpec { from: side(from), to: side(&[PEER]), ..FilterSpec::default() }
    }

    #[test]
    fn only_paths_of_what_is_new_are_cut_and_only_until_all_nodes_look() {
        let mut window = Window::between((&filter(&[ONE]), &filter(&[ONE, OTHER])), 7, 100, 0..2).unwrap();
        assert!(window.cuts([OTHER, PEER], 500, 600), "a node has not confirmed yet");
        window.confirmed(0, 7, 150);
        window.confirmed(1, 6, 170);
        assert!(window.cuts([OTHER, PEER], 500, 600), "that was another update");
        window.confirmed(1, 9, 200);
        assert!(window.cuts([PEER, OTHER], 200, 600));
        assert!(!window.cuts([OTHER, PEER], 201, 600), "by then all nodes looked");
        assert!(!window.cuts([ONE, PEER], 150, 160), "it was looked for all the time");
        assert!(!window.cuts([OTHER, PEER], 10, 99), "it was over before");
    }

    #[test]
    fn what_is_not_looked_for_any_more_may_have_been_under_way() {
        let mut window =
            Window::between((&filter(&[ONE, OTHER]), &filter(&[OTHER])), 7, PATIENCE_NS, 0..1).unwrap();
        window.confirmed(0, 7, PATIENCE_NS + 1);
        assert!(window.cuts([ONE, PEER], 10, 20));
        assert!(!window.cuts([ONE, PEER], PATIENCE_NS + 2, PATIENCE_NS + 2));
    }

    #[test]
    fn the_same_filter_cuts_nothing() {
        assert!(Window::between((&filter(&[ONE]), &filter(&[ONE])), 7, 0, 0..2).is_none());
    }
}
