//! Listens for changes of a node's networking: links, neighbours, routes, rules and settings, by netlink's groups.
//!
//! What changed is not read from the messages: whoever listens reads the tables again. So a message that was lost because
//! too many came at once is no loss.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use futures_util::future::select_all;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use rtnetlink::MulticastGroup;
use tokio::io::unix::AsyncFd;

use crate::netns::Netns;
use podtrace_protocol::topology::Topology;

/// Groups that tell of something that [`super::read()`] reads.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];

/// The group of nft's rules (`linux/netfilter/nfnetlink.h`).
const NFNLGRP_NFTABLES: u32 = 7;

/// Pods that are listened to at most: each takes a socket. Of a pod beyond them the node's end of its veth tells.
const PODS: usize = 64;

/// Sockets that become readable when something changes.
pub(crate) struct Changes {
    sockets: Vec<AsyncFd<OwnedFd>>,
}

impl Changes {
    /// Listens in the node's own namespace, and in those of these pods. A namespace that cannot be entered is left out:
    /// the pod may just have ended, and the node's end of its veth tells so.
    ///
    /// # Errors
    /// If the node's own namespace cannot be listened to.
    pub(crate) fn listen(topology: &Topology, pods: &[String]) -> Result<Self> {
        Self::by(listener, topology, pods)
    }

    /// As [`Self::listen`], for changes of nft's rules.
    ///
    /// # Errors
    /// If the node's own namespace cannot be listened to.
    pub(crate) fn of_rules(topology: &Topology, pods: &[String]) -> Result<Self> {
        Self::by(rules_listener, topology, pods)
    }

    fn by(listener: fn() -> Result<OwnedFd>, topology: &Topology, pods: &[String]) -> Result<Self> {
        let own = listener().context("cannot listen for changes of the node's networking")?;
        let wanted = topology
            .namespaces
            .iter()
            .filter(|namespace| namespace.pod.as_ref().is_some_and(|pod| pods.contains(pod)));
        let inside = wanted
            .take(PODS)
            .filter_map(|namespace| Netns::open(&namespace.path).and_then(|netns| netns.run(listener)).ok());
        let sockets = std::iter::once(own).chain(inside).map(|socket| {
            // SAFETY: the socket owns its descriptor, keeps it for life, and is only ever read from.
            unsafe { AsyncFd::register(socket) }
        });
        let sockets = sockets.collect::<Result<_, _>>().context("cannot wait for changes of networking")?;
        Ok(Self { sockets })
    }

    /// Waits for a change, and takes all messages that are there by then.
    pub(crate) async fn next(&mut self) {
        let ready = select_all(self.sockets.iter().map(|socket| Box::pin(socket.readable())));
        let (guard, number, _) = ready.await;
        let Ok(mut guard) = guard else {
            drop(guard);
            self.sockets.swap_remove(number);
            if self.sockets.is_empty() {
                std::future::pending::<()>().await;
            }
            return;
        };
        // A message that does not fit is cut short: its content is not read.
        let mut bytes = [0; 64];
        let socket = guard.get_inner().as_raw_fd();
        // No buffer space means that more came than the socket held.
        while let Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) =
            recv(socket, &mut bytes, MsgFlags::MSG_DONTWAIT)
        {}
        guard.clear_ready();
    }
}

/// A socket of the caller's namespace that receives a message for every change.
fn listener() -> Result<OwnedFd> {
    let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
    bound(SockProtocol::NetlinkRoute, groups)
}

/// As [`listener`], for changes of nft's rules: iptables' newer back end makes such, too.
fn rules_listener() -> Result<OwnedFd> {
    bound(SockProtocol::NetlinkNetFilter, 1 << (NFNLGRP_NFTABLES - 1))
}

fn bound(protocol: SockProtocol, groups: u32) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}
