//! Builds the planned lab, by netlink.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::NeighbourFlags;
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};

use super::plan::{
    CNI0, ETH0, FABRIC_BRIDGE, FLANNEL, LabNode, LabPod, POD_MTU, Plan, UNDERLAY_MTU, VNI, VXLAN_PORT, WORLD,
};
use crate::netns::{self, Netns, named_path};

const LOOPBACK: &str = "lo";

/// Builds everything. If this fails, the caller removes what exists.
pub(super) fn build(plan: &Plan) -> Result<()> {
    for name in plan.namespaces() {
        netns::create(name)?;
        quieten(&open(name)?)?;
    }
    fabric(plan)?;
    for node in &plan.nodes {
        build_node(plan, node).with_context(|| format!("cannot set up {} of the lab", node.name))?;
    }
    Ok(())
}

fn open(name: &str) -> Result<Netns> {
    Netns::open(named_path(name))
}

/// Turns IPv6 off for devices created from here on, so that a trace in the lab shows no unrelated packets.
fn quieten(netns: &Netns) -> Result<()> {
    netns.run(|| {
        let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
        match fs::write(path, "1") {
            // The kernel has no IPv6.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| format!("cannot write {path}")),
        }
    })
}

/// One end of a veth pair.
struct End<'a> {
    name: &'a str,
    mac: Option<[u8; 6]>,
    master: Option<u32>,
}

/// Creates a veth pair: one end here and up, the other in another namespace and down.
async fn veth(netlink: &Handle, here: &End<'_>, there: &End<'_>, netns: &Netns, mtu: u32) -> Result<()> {
    // Not up yet: the kernel creates this end first, and cannot open it before the other exists.
    let mut peer = LinkUnspec::new_with_name(there.name).mtu(mtu).setns_by_fd(netns.as_fd().as_raw_fd());
    if let Some(mac) = there.mac {
        peer = peer.address(mac.to_vec());
    }
    let mut link = LinkVeth::new(here.name, there.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .mtu(mtu)
        .up();
    if let Some(mac) = here.mac {
        link = link.address(mac.to_vec());
    }
    if let Some(master) = here.master {
        link = link.controller(master);
    }
    let made = netlink.link().add(link.build()).execute().await;
    made.with_context(|| format!("cannot make the veth pair {} and {}", here.name, there.name))
}

async fn bridge(netlink: &Handle, name: &str, mac: Option<[u8; 6]>, mtu: u32) -> Result<u32> {
    let mut link = LinkBridge::new(name).mtu(mtu).up();
    if let Some(mac) = mac {
        link = link.address(mac.to_vec());
    }
    let made = netlink.link().add(link.build()).execute().await;
    made.with_context(|| format!("cannot make the bridge {name}"))?;
    index(netlink, name).await
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

async fn add_address(netlink: &Handle, device: u32, address: Ipv4Net) -> Result<()> {
    let added = netlink.address().add(device, address.addr().into(), address.prefix_len()).execute().await;
    added.with_context(|| format!("cannot add the address {address}"))
}

fn fabric(plan: &Plan) -> Result<()> {
    let nodes: Vec<_> =
        plan.nodes.iter().map(|node| Ok((node, open(&node.netns)?))).collect::<Result<_>>()?;
    let outside = open(&plan.world.netns)?;
    let made = open(&plan.fabric)?.netlink(async |netlink| {
        set_up(&netlink, LOOPBACK).await?;
        let master = bridge(&netlink, FABRIC_BRIDGE, None, UNDERLAY_MTU).await?;
        let world = &plan.world;
        let port = End { name: WORLD, mac: None, master: Some(master) };
        let inside = End { name: ETH0, mac: Some(world.mac), master: None };
        veth(&netlink, &port, &inside, &outside, UNDERLAY_MTU).await?;
        for (node, netns) in &nodes {
            let port = End { name: &node.name, mac: None, master: Some(master) };
            let uplink = End { name: ETH0, mac: Some(node.mac), master: None };
            veth(&netlink, &port, &uplink, netns, UNDERLAY_MTU).await?;
        }
        Ok(())
    });
    made.context("cannot set up the fabric of the lab")?;
    let made = outside.netlink(async |netlink| {
        set_up(&netlink, LOOPBACK).await?;
        add_address(&netlink, index(&netlink, ETH0).await?, plan.world.address).await?;
        set_up(&netlink, ETH0).await
    });
    made.context("cannot set up the namespace outside of the lab")
}

fn build_node(plan: &Plan, node: &LabNode) -> Result<()> {
    let pods: Vec<_> = node.pods.iter().map(|pod| Ok((pod, open(&pod.netns)?))).collect::<Result<_>>()?;
    let netns = open(&node.netns)?;
    netns.netlink(async |netlink| {
        let forward = "/proc/sys/net/ipv4/ip_forward";
        fs::write(forward, "1").with_context(|| format!("cannot write {forward}"))?;
        set_up(&netlink, LOOPBACK).await?;
        let uplink = index(&netlink, ETH0).await?;
        add_address(&netlink, uplink, node.address).await?;
        set_up(&netlink, ETH0).await?;
        let master = bridge(&netlink, CNI0, Some(node.bridge_mac), POD_MTU).await?;
        add_address(&netlink, master, node.bridge).await?;
        tunnel(&netlink, plan, node, uplink).await?;
        for (pod, netns) in &pods {
            let host = End { name: &pod.host_veth, mac: None, master: Some(master) };
            let inside = End { name: ETH0, mac: Some(pod.mac), master: None };
            veth(&netlink, &host, &inside, netns, POD_MTU).await?;
            let port = LinkBridgePort::new(index(&netlink, &pod.host_veth).await?).hairpin(true);
            let set = netlink.link().set_port(port.build()).execute().await;
            set.with_context(|| format!("cannot turn hairpin on at {}", pod.host_veth))?;
        }
        Ok(())
    })?;
    for (pod, netns) in &pods {
        build_pod(node, pod, netns).with_context(|| format!("cannot set up {}", pod.name))?;
    }
    Ok(())
}

/// Like flannel's vxlan back end: without learning and flooding, with a static entry for every other node.
async fn tunnel(netlink: &Handle, plan: &Plan, node: &LabNode, uplink: u32) -> Result<()> {
    let link = LinkVxlan::new(FLANNEL, VNI)
        .dev(uplink)
        .local(node.address.addr())
        .port(VXLAN_PORT)
        .learning(false)
        .address(node.tunnel_mac.to_vec())
        .mtu(POD_MTU)
        .up();
    let made = netlink.link().add(link.build()).execute().await;
    made.with_context(|| format!("cannot create the VXLAN device {FLANNEL}"))?;
    let device = index(netlink, FLANNEL).await?;
    add_address(netlink, device, node.tunnel.into()).await?;
    for other in plan.peers_of(node) {
        let failed = || format!("cannot add {} to {FLANNEL}", other.name);
        let neighbours = netlink.neighbours();
        let neighbour = neighbours.add(device, other.tunnel.into()).link_layer_address(&other.tunnel_mac);
        neighbour.execute().await.with_context(failed)?;
        let forwarding = neighbours
            .add_bridge(device, &other.tunnel_mac)
            .destination(other.address.addr().into())
            .flags(NeighbourFlags::Own);
        forwarding.execute().await.with_context(failed)?;
        let subnet = other.pod_subnet();
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(subnet.addr(), subnet.prefix_len())
            .gateway(other.tunnel)
            .output_interface(device)
            .onlink();
        netlink.route().add(route.build()).execute().await.with_context(failed)?;
    }
    Ok(())
}

fn build_pod(node: &LabNode, pod: &LabPod, netns: &Netns) -> Result<()> {
    netns.netlink(async |netlink| {
        set_up(&netlink, LOOPBACK).await?;
        add_address(&netlink, index(&netlink, ETH0).await?, pod.address).await?;
        set_up(&netlink, ETH0).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(node.bridge.addr()).build();
        netlink.route().add(route).execute().await.context("cannot add the default route")
    })
}
