//! Lists the tables of one namespace by netlink.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use super::parse::{self, Link, Neighbour};
use super::state;
use crate::netns::Netns;
use podtrace_protocol::topology::Route;
use podtrace_protocol::topology::state::{PolicyRule, RefusingRoute};

/// One namespace's tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dump {
    /// Devices.
    pub(crate) links: Vec<Link>,
    /// Addresses, with the index of the device that has them.
    pub(crate) addresses: Vec<(u32, IpNet)>,
    /// Unicast routes of the main table.
    pub(crate) routes: Vec<Route>,
    /// Neighbour table.
    pub(crate) neighbours: Vec<Neighbour>,
    /// Forwarding tables of bridges and tunnels.
    pub(crate) forwarding: Vec<Neighbour>,
    /// Routes that reject packets.
    pub(crate) refusing: Vec<RefusingRoute>,
    /// Rules of the routing policy database.
    pub(crate) policy: Vec<PolicyRule>,
    /// Values below `/proc/sys/net`.
    pub(crate) sysctls: BTreeMap<String, i64>,
}

impl Dump {
    /// Everything except the forwarding tables, which a pod's namespace does not need.
    pub(crate) async fn paths(netlink: &Handle) -> Result<Self> {
        let links: Vec<_> =
            netlink.link().get().execute().try_collect().await.context("cannot list network devices")?;
        let addresses: Vec<_> =
            netlink.address().get().execute().try_collect().await.context("cannot list addresses")?;
        let (mut routes, mut refusing) = (Vec::new(), Vec::new());
        let families =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for request in families {
            let family = request.header.address_family;
            let messages: Vec<_> =
                netlink.route().get(request).execute().try_collect().await.context("cannot list routes")?;
            // A kernel without IPv6 answers a request for IPv6 routes with those of every family.
            let asked_for = messages.iter().filter(|message| message.header.address_family == family);
            for message in asked_for {
                routes.extend(parse::routes(message));
                refusing.extend(state::refusing(message));
            }
        }
        let links: Vec<_> = links.iter().map(parse::link).collect();
        let sysctls = state::sysctls(links.iter().map(|link| link.device.name.as_str()));
        Ok(Self {
            links,
            addresses: addresses.iter().filter_map(parse::address).collect(),
            routes,
            refusing,
            policy: policy(netlink).await?,
            neighbours: neighbours(netlink, AddressFamily::Unspec).await?,
            sysctls,
            ..Self::default()
        })
    }

    /// Everything.
    pub(crate) async fn all(netlink: &Handle) -> Result<Self> {
        Ok(Self {
            forwarding: neighbours(netlink, AddressFamily::Bridge).await?,
            ..Self::paths(netlink).await?
        })
    }
}

async fn neighbours(netlink: &Handle, family: AddressFamily) -> Result<Vec<Neighbour>> {
    let request = netlink.neighbours().get().set_address_family(family);
    let messages: Vec<_> =
        request.execute().try_collect().await.context("cannot list neighbours and forwarding entries")?;
    Ok(messages.iter().map(parse::neighbour).collect())
}

async fn policy(netlink: &Handle) -> Result<Vec<PolicyRule>> {
    let mut rules = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        match netlink.rule().get(version).execute().try_collect::<Vec<_>>().await {
            Ok(messages) => rules.extend(messages.iter().filter_map(state::policy)),
            // A kernel without policy routing, or without IPv6, has none.
            Err(rtnetlink::Error::NetlinkError(error))
                if matches!(
                    error.to_io().raw_os_error().map(Errno::from_raw),
                    Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
                ) => {}
            Err(error) => return Err(error).context("cannot list the rules of policy routing"),
        }
    }
    Ok(rules)
}

/// The identifier of `netns` in the socket's namespace; `None` if none of its devices leads there.
pub(crate) async fn namespace_id(netlink: &Handle, netns: &Netns) -> Result<Option<i32>> {
    let failed = || format!("cannot look up the network namespace {}", netns.path().display());
    let mut message = NsidMessage::default();
    let descriptor = u32::try_from(netns.as_fd().as_raw_fd()).with_context(failed)?;
    message.attributes = vec![NsidAttribute::Fd(descriptor)];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
    request.header.flags = NLM_F_REQUEST;
    let mut replies = netlink.clone().request(request).with_context(failed)?;
    while let Some(reply) = replies.next().await {
        match reply.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(reply)) => {
                return Ok(parse::namespace_id(&reply));
            }
            NetlinkPayload::Error(error) => return Err(error.to_io()).with_context(failed),
            _ => {}
        }
    }
    Ok(None)
}
