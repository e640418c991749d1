//! The eBPF programs' maps, with the types of their keys and values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use podtrace_protocol::frame::FilterSpec;
use podtrace_protocol::topology::Topology;
use tracer_common::{Address, Counters, side};

use super::filter;
use super::stats::StatsMaps;

/// The maps that user space writes and reads while a trace runs. They stay readable after the programs are detached.
pub(super) struct Maps {
    enabled: Array<MapData, u32>,
    counters: PerCpuArray<MapData, Counters>,
    /// 1 once the programs have woken the reader of the ring buffer.
    woken: Array<MapData, u32>,
    /// Which side an address is on: bits of [`side`].
    addresses: HashMap<MapData, Address, u32>,
    /// Which side a port of a node is on, see [`filter::node_ports`].
    node_ports: HashMap<MapData, u32, u32>,
    /// Inodes of the node's namespaces.
    namespaces: HashMap<MapData, u32, u32>,
    /// What is counted in place of events.
    pub(super) stats: StatsMaps,
    /// The filter's addresses that [`Self::addresses`] holds.
    traced: BTreeMap<Address, u32>,
}

impl Maps {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf, filter: &FilterSpec) -> Result<(Self, RingBuf<MapData>)> {
        let maps = Self {
            enabled: take(ebpf, "ENABLED")?,
            counters: take(ebpf, "COUNTERS")?,
            woken: take(ebpf, "WOKEN")?,
            addresses: take(ebpf, "ADDRESSES")?,
            node_ports: take(ebpf, "NODE_PORTS")?,
            namespaces: take(ebpf, "NAMESPACES")?,
            stats: StatsMaps::new(take(ebpf, "TAP_COUNTS")?, take(ebpf, "DROP_COUNTS")?, filter.stats),
            traced: BTreeMap::new(),
        };
        Ok((maps, take(ebpf, "EVENTS")?))
    }

    /// Replaces the addresses to trace, and adds node ports and namespaces.
    ///
    /// Removing an address never opens a gap: new ones go in first, and nodes' addresses keep [`side::VIA`].
    pub(super) fn set_filter(&mut self, filter: &FilterSpec, topology: &Topology) -> Result<()> {
        for namespace in &topology.namespaces {
            self.namespaces.insert(namespace.inode, 1, 0).context("storing the node's network namespaces")?;
        }
        for (port, sides) in filter::node_ports(filter) {
            self.node_ports.insert(port, sides, 0).context("storing the node ports to trace")?;
        }
        let addresses = filter::addresses(filter);
        for (address, sides) in &addresses {
            self.set_sides(address, sides | self.via(address))?;
        }
        for address in self
            .traced
            .keys()
            .filter(|address| !addresses.contains_key(*address))
            .copied()
            .collect::<Vec<_>>()
        {
            match self.via(&address) {
                0 => self.addresses.remove(&address).context("removing an address from the trace filter")?,
                via => self.set_sides(&address, via)?,
            }
        }
        self.traced = addresses;
        Ok(())
    }

    /// Adds addresses of nodes, which NAT may put in place of a traced address.
    pub(super) fn add_nat_addresses(&mut self, addresses: &[IpAddr]) -> Result<()> {
        for address in addresses {
            let address = filter::mapped(*address);
            let sides = self.addresses.get(&address, 0).unwrap_or(0);
            self.addresses.insert(address, sides | side::VIA, 0).context("storing the nodes' addresses")?;
        }
        Ok(())
    }

    /// [`side::VIA`] if the address is one of a node's, otherwise 0.
    fn via(&self, address: &Address) -> u32 {
        self.addresses.get(address, 0).unwrap_or(0) & side::VIA
    }

    fn set_sides(&mut self, address: &Address, sides: u32) -> Result<()> {
        self.addresses.insert(address, sides, 0).context("storing the addresses to trace")
    }

    /// Starts or stops the emitting of events.
    pub(super) fn enable(&mut self, enabled: bool) -> Result<()> {
        let what = if enabled { "starting" } else { "stopping" };
        self.enabled.set(0, u32::from(enabled), 0).with_context(|| format!("{what} the eBPF programs"))
    }

    /// Has the programs wake the reader of the ring buffer again when much is in it.
    pub(super) fn expect_wake_up(&mut self) -> Result<()> {
        self.woken.set(0, 0, 0).context("asking the eBPF programs for a wake-up")
    }

    /// The programs' counters, summed over all CPUs.
    pub(super) fn counters(&self) -> Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).context("reading the eBPF programs' counters")?;
        Ok(per_cpu.iter().fold(Counters::default(), |sum, cpu| Counters {
            produced: sum.produced + cpu.produced,
            lost_ring: sum.lost_ring + cpu.lost_ring,
            lost_map: sum.lost_map + cpu.lost_map,
            unsampled: sum.unsampled + cpu.unsampled,
        }))
    }
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = ebpf.take_map(name).with_context(|| format!("the kernel object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("the kernel object's map {name} is of another type"))
}
