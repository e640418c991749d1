//! Builds the planned lab, by netlink: every namespace with its settings, the pairs of veths between them, then what each
//! one's [`Space`] has.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::NeighbourFlags;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};

use super::network::{Device, Forwarding, Kind, Neighbour, Route, Space, Tunnel};
use super::plan::{Host, LabNode, Plan};
use crate::netns::{self, Netns, named_path};

const LOOPBACK: &str = "lo";

/// Builds everything. If this fails, the caller removes what exists.
pub(super) fn build(plan: &Plan) -> Result<()> {
    for host in plan.hosts() {
        netns::create(&host.netns)?;
        open(host)?.run(|| set_all(host.space.settings.iter()))?;
    }
    fabric(plan).context("cannot set up the fabric of the lab")?;
    fill(&plan.world, &[]).context("cannot set up the namespace outside of the lab")?;
    for node in &plan.nodes {
        build_node(node).with_context(|| format!("cannot set up {} of the lab", node.name))?;
    }
    Ok(())
}

fn open(host: &Host) -> Result<Netns> {
    Netns::open(named_path(&host.netns))
}

/// Path of a setting.
pub(super) fn setting_path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}

/// Writes settings of this thread's namespace.
fn set_all<'a>(settings: impl Iterator<Item = (&'a String, &'a i64)>) -> Result<()> {
    for (name, value) in settings {
        let path = setting_path(name);
        match fs::write(&path, value.to_string()) {
            // The kernel has no IPv6. A network that needs it fails at its first address.
            Err(error) if error.kind() == ErrorKind::NotFound && name.starts_with("ipv6/") => {}
            other => other.with_context(|| format!("cannot write {path}"))?,
        }
    }
    Ok(())
}

/// A pair of veths to make: the end here, and the end in another namespace, which is down.
struct Pair<'a> {
    here: &'a Device,
    there: &'a Device,
    netns: Netns,
}

/// The pair between `here` and the first device of another namespace.
fn pair<'a>(here: &'a Device, other: &'a Host) -> Result<Pair<'a>> {
    let there = other.space.devices.first();
    let there = there.with_context(|| format!("{} is planned without a device", other.netns))?;
    Ok(Pair { here, there, netns: open(other)? })
}

/// The bridge, and a port for the world and each node.
fn fabric(plan: &Plan) -> Result<()> {
    let [bridge, ports @ ..] = plan.fabric.space.devices.as_slice() else { return Ok(()) };
    let others = [&plan.world].into_iter().chain(plan.nodes.iter().map(|node| &node.host));
    let pairs =
        ports.iter().zip(others).map(|(port, other)| pair(port, other)).collect::<Result<Vec<_>>>()?;
    open(&plan.fabric)?.netlink(async |netlink| {
        set_up(&netlink, LOOPBACK).await?;
        make(&netlink, bridge).await?;
        for pair in &pairs {
            veth(&netlink, pair).await?;
        }
        Ok(())
    })
}

fn build_node(node: &LabNode) -> Result<()> {
    let pairs = node.pods.iter().map(|pod| pair(&pod.veth, &pod.host)).collect::<Result<Vec<_>>>()?;
    fill(&node.host, &pairs)?;
    for pod in &node.pods {
        fill(&pod.host, &[]).with_context(|| format!("cannot set up {}", pod.name))?;
    }
    Ok(())
}

/// Makes what a namespace has, whose first device is there already, and the pairs that begin in it.
fn fill(host: &Host, pairs: &[Pair<'_>]) -> Result<()> {
    let Space { settings: _, devices, neighbours, forwarding, routes } = &host.space;
    open(host)?.netlink(async |netlink| {
        set_up(&netlink, LOOPBACK).await?;
        for (number, device) in devices.iter().enumerate() {
            if number > 0 {
                make(&netlink, device).await?;
            }
            settle(&netlink, device).await?;
            set_up(&netlink, &device.name).await?;
        }
        for pair in pairs {
            veth(&netlink, pair).await?;
        }
        for neighbour in neighbours {
            add_neighbour(&netlink, neighbour).await?;
        }
        for entry in forwarding {
            add_forwarding(&netlink, entry).await?;
        }
        for route in routes {
            add_route(&netlink, route).await?;
        }
        Ok(())
    })
}

/// Creates a pair: the end here is up, a port of its bridge and has its addresses.
async fn veth(netlink: &Handle, Pair { here, there, netns }: &Pair<'_>) -> Result<()> {
    // The other end is not up yet: the kernel creates this end first, and cannot open it before the other exists.
    let mut peer =
        LinkUnspec::new_with_name(&there.name).mtu(there.mtu).setns_by_fd(netns.as_fd().as_raw_fd());
    if let Some(mac) = there.mac {
        peer = peer.address(mac.to_vec());
    }
    let mut link = LinkVeth::new(&here.name, &there.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .mtu(here.mtu)
        .up();
    if let Some(mac) = here.mac {
        link = link.address(mac.to_vec());
    }
    if let Some(master) = &here.master {
        link = link.controller(index(netlink, master).await?);
    }
    let made = netlink.link().add(link.build()).execute().await;
    made.with_context(|| format!("cannot make the veth pair {} and {}", here.name, there.name))?;
    if here.hairpin {
        let port = LinkBridgePort::new(index(netlink, &here.name).await?).hairpin(true);
        let set = netlink.link().set_port(port.build()).execute().await;
        set.with_context(|| format!("cannot turn hairpin on at {}", here.name))?;
    }
    settle(netlink, here).await
}

/// Creates a device that is no veth, and sets it up.
async fn make(netlink: &Handle, device: &Device) -> Result<()> {
    let Device { name, kind, mtu, mac, .. } = device;
    let message = match kind {
        Kind::Veth => return Ok(()),
        Kind::Bridge => {
            let link = LinkBridge::new(name).mtu(*mtu).up();
            match mac {
                Some(mac) => link.address(mac.to_vec()).build(),
                None => link.build(),
            }
        }
        Kind::Vxlan(Tunnel { vni, port, local, over }) => {
            let link =
                LinkVxlan::new(name, *vni).dev(index(netlink, over).await?).port(*port).learning(false);
            let link = match local {
                IpAddr::V4(local) => link.local(*local),
                IpAddr::V6(local) => link.local6(*local),
            };
            let link = link.mtu(*mtu).up();
            match mac {
                Some(mac) => link.address(mac.to_vec()).build(),
                None => link.build(),
            }
        }
    };
    let made = netlink.link().add(message).execute().await;
    made.with_context(|| format!("cannot make the device {name}"))
}

/// Writes the settings of a device and adds its addresses.
async fn settle(netlink: &Handle, device: &Device) -> Result<()> {
    set_all(device.settings.iter())?;
    if device.addresses.is_empty() {
        return Ok(());
    }
    let index = index(netlink, &device.name).await?;
    for address in &device.addresses {
        let mut request = netlink.address().add(index, address.addr(), address.prefix_len());
        if !device.prefix_routes {
            let flags = AddressAttribute::Flags(AddressFlags::Noprefixroute);
            request.message_mut().attributes.push(flags);
        }
        let added = request.execute().await;
        added.with_context(|| format!("cannot add the address {address} to {}", device.name))?;
    }
    Ok(())
}

async fn index(netlink: &Handle, name: &str) -> Result<u32> {
    let found = netlink.link().get().match_name(name).execute().try_next().await;
    let link = found.with_context(|| format!("cannot find the device {name}"))?;
    Ok(link.with_context(|| format!("device {name} does not exist"))?.header.index)
}

async fn set_up(netlink: &Handle, name: &str) -> Result<()> {
    let up = LinkUnspec::new_with_name(name).up().build();
    netlink.link().set(up).execute().await.with_context(|| format!("cannot set the device {name} up"))
}

async fn add_neighbour(netlink: &Handle, Neighbour { address, mac, dev }: &Neighbour) -> Result<()> {
    let request = netlink.neighbours().add(index(netlink, dev).await?, *address).link_layer_address(mac);
    request.execute().await.with_context(|| format!("cannot add the neighbour {address} to {dev}"))
}

async fn add_forwarding(netlink: &Handle, Forwarding { mac, to, dev }: &Forwarding) -> Result<()> {
    let request = netlink.neighbours().add_bridge(index(netlink, dev).await?, mac);
    let added = request.destination(*to).flags(NeighbourFlags::Own).execute().await;
    added.with_context(|| format!("cannot add a forwarding entry for {to} to {dev}"))
}

async fn add_route(netlink: &Handle, route: &Route) -> Result<()> {
    let device = match &route.dev {
        Some(name) => Some(index(netlink, name).await?),
        None => None,
    };
    let failed = || format!("cannot add the route to {}", route.to);
    let message = message(route, device).with_context(failed)?;
    netlink.route().add(message).execute().await.with_context(failed)
}

fn message(route: &Route, device: Option<u32>) -> Result<RouteMessage> {
    let Route { to, via, dev: _, source, onlink, scope_link, blackhole, protocol } = route;
    let mut builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.addr(), to.prefix_len())?;
    if let Some(via) = via {
        builder = builder.gateway(*via)?;
    }
    if let Some(source) = source {
        builder = builder.pref_source(*source)?;
    }
    if let Some(device) = device {
        builder = builder.output_interface(device);
    }
    if *onlink {
        builder = builder.onlink();
    }
    if *scope_link {
        builder = builder.scope(RouteScope::Link);
    }
    if *blackhole {
        builder = builder.kind(RouteType::BlackHole);
    }
    if let Some(protocol) = protocol {
        builder = builder.protocol(RouteProtocol::from(*protocol));
    }
    Ok(builder.build())
}
