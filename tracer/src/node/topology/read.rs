//! Reads the caller's network namespace, and those of the pods attached to it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use rtnetlink::Handle;

use super::assemble::{Candidate, Node, assemble};
use super::cni::detect;
use super::dump::{Dump, namespace_id};
use crate::netns::{self, Netns, Place};
use podtrace_protocol::frame::PodAddresses;
use podtrace_protocol::topology::{DeviceKind, Topology};

/// A topology, and what is missing from it.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The topology.
    pub topology: Topology,
    /// What could not be read or found, one line each.
    pub warnings: Vec<String>,
}

/// Reads the topology of the node in whose network namespace the caller is, and of those `pods` that are on it. Blocks for
/// some milliseconds.
///
/// # Errors
/// If the node's own namespace cannot be read. An unreadable namespace of a pod is a warning.
pub fn read(pods: &[PodAddresses]) -> Result<Reading> {
    let own = Netns::here()?;
    let mut found = netns::candidates();
    let path = lasting_path(&own, &found.namespaces);
    found.namespaces.retain(|candidate| candidate.inode() != own.inode());
    let (dump, numbered) = netns::netlink_here(async |netlink| {
        let dump = Dump::all(&netlink).await?;
        let numbered = behind_veths(&netlink, &dump, found.namespaces).await?;
        Ok((dump, numbered))
    })
    .context("cannot read this node's network devices")?;

    let mut unreadable: Vec<_> =
        found.unreadable.into_iter().map(|(path, error)| format!("{path:?}: {error}")).collect();
    let mut candidates = Vec::new();
    for (id, place) in numbered {
        let netns = match place.open() {
            Ok(Some(netns)) => netns,
            // Its pod has just ended.
            Ok(None) => continue,
            Err(error) => {
                unreadable.push(format!("{:?}: {error}", place.path()));
                continue;
            }
        };
        match netns.netlink(async |netlink| Dump::paths(&netlink).await) {
            Ok(dump) => {
                candidates.push(Candidate { inode: place.inode(), path: path_of(place.path()), id, dump });
            }
            Err(error) => unreadable.push(format!("{error:#}")),
        }
    }
    let mut topology = assemble(&Node { inode: own.inode(), path, dump }, &candidates, pods);
    if netns::in_first_netns() {
        topology.cni = detect(&netns::node_root().as_path());
    }

    let mut warnings: Vec<_> = missing(&topology, pods).collect();
    // Only relevant if a pod is missing: on many machines some process is inaccessible even to root.
    if let (Some(first), false) = (unreadable.first(), warnings.is_empty()) {
        let how_many = match unreadable.len() {
            1 => "1 network namespace".to_owned(),
            number => format!("{number} network namespaces"),
        };
        warnings.push(format!("{how_many} could not be read: {first}"));
    }
    Ok(Reading { topology, warnings })
}

/// The namespaces that a veth of this socket's namespace leads to, with this namespace's identifiers for them.
async fn behind_veths(netlink: &Handle, dump: &Dump, candidates: Vec<Place>) -> Result<Vec<(i32, Place)>> {
    let veths = dump.links.iter().filter(|link| link.device.kind == DeviceKind::Veth);
    let leads_to: BTreeSet<_> = veths.filter_map(|link| link.link_netns_id).collect();
    let mut behind = Vec::new();
    for candidate in candidates {
        // What cannot be opened now was there a moment ago: its pod has just ended.
        let Ok(Some(netns)) = candidate.open() else { continue };
        // A namespace that no veth leads to is not entered.
        match namespace_id(netlink, &netns).await? {
            Some(id) if leads_to.contains(&id) => behind.push((id, candidate)),
            _ => {}
        }
    }
    Ok(behind)
}

fn missing<'a>(topology: &'a Topology, pods: &'a [PodAddresses]) -> impl Iterator<Item = String> + 'a {
    let is_missing = |pod: &&PodAddresses| {
        !topology.namespaces.iter().any(|namespace| namespace.pod.as_ref() == Some(&pod.pod))
    };
    pods.iter().filter(|pod| !pod.ips.is_empty()).filter(is_missing).map(|pod| {
        format!(
            "no network namespace found for pod {}: none behind a veth has its address {}",
            pod.pod.escape_debug(),
            pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        )
    })
}

fn path_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The path of the caller's namespace: its name if it has one, which is valid for other processes, too.
fn lasting_path(own: &Netns, candidates: &[Place]) -> String {
    candidates
        .iter()
        .find(|candidate| candidate.inode() == own.inode() && !candidate.path().starts_with("/proc"))
        .map_or_else(|| "/proc/self/ns/net".to_owned(), |candidate| path_of(candidate.path()))
}
