//! Decides whether a packet is between two endpoints, in the same way as the eBPF programs: by the innermost headers, or for
//! an ICMP error by the quoted packet.

use std::net::IpAddr;

use rustc_hash::FxHashSet;

use super::layers::{Layer, Layers};
use podtrace_protocol::frame::FilterSpec;

/// Fragmented packets that are remembered at once, whose later pieces have no ports.
const MOST_FRAGMENTED: usize = 4096;

/// The two endpoints of the traffic.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    spec: FilterSpec,
    fragmented: FxHashSet<(IpAddr, IpAddr, u8, u32)>,
}

impl Ends {
    pub(super) fn new(spec: FilterSpec) -> Self {
        Self { spec, fragmented: FxHashSet::default() }
    }

    pub(super) fn spec(&self) -> &FilterSpec {
        &self.spec
    }

    pub(super) fn set(&mut self, spec: FilterSpec) {
        self.spec = spec;
    }

    pub(super) fn hold(&mut self, layers: &Layers) -> bool {
        let Some(layer) = layers.inner.or(layers.outer) else { return false };
        self.wants(&layer) || layers.quoted.is_some_and(|quoted| self.wants(&quoted))
    }

    fn wants(&mut self, layer: &Layer) -> bool {
        let Layer { src, dst, protocol, ports, fragment } = *layer;
        if self.spec.protocol.is_some_and(|wanted| wanted != protocol) {
            return false;
        }
        let with_ports = !(self.spec.from.ports.is_empty() && self.spec.to.ports.is_empty());
        if let (true, Some((id, first))) = (with_ports, fragment) {
            let key = (src, dst, protocol, id);
            if !first {
                return self.fragmented.contains(&key);
            }
            let wanted = self.both_ways(src, dst, ports);
            if wanted {
                if self.fragmented.len() >= MOST_FRAGMENTED {
                    self.fragmented.clear();
                }
                self.fragmented.insert(key);
            }
            return wanted;
        }
        self.both_ways(src, dst, ports)
    }

    fn both_ways(&self, src: IpAddr, dst: IpAddr, ports: Option<(u16, u16)>) -> bool {
        let FilterSpec { from, to, one_way, .. } = &self.spec;
        let (sport, dport) = ports.unzip();
        let forth = from.has(src, sport) && to.has(dst, dport);
        forth || (!one_way && to.has(src, sport) && from.has(dst, dport))
    }
}
