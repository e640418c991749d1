//! What a trace leaves in a file: the same paths for podtrace, and packets that say what they are for tshark.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use podtrace_path::{Evidence, Hop, HopEvent, Path as Finished, Protocol};
use serde::Deserialize;

use crate::command::{Output, SHORT, run, succeed};
use crate::{binary, trace};

/// Programs that read what traces leave.
pub const TOOLS: [&str; 5] = ["tshark", "capinfos", "editcap", "mergecap", "tcpdump"];

/// What tshark says to root, whatever the file.
const TO_ROOT: &str = "Running as user \"root\" and group \"root\". This could be dangerous.\n";

/// Checks that reading the file gives the output of the trace, to the byte.
///
/// # Errors
///
/// If it does not.
pub fn tells_the_same(finished: &trace::Finished, files: &[&Path]) -> Result<()> {
    let again = read(files)?;
    ensure!(again.code() == 0, "reading it again ended with {}: {}", again.code(), again.stderr);
    ensure!(again.stdout == finished.stdout, "live:\n{}\nread again:\n{}", finished.stdout, again.stdout);
    Ok(())
}

/// Reads a recording as JSON.
///
/// # Errors
///
/// If podtrace cannot be run.
pub fn read(files: &[&Path]) -> Result<Output> {
    run(Command::new(binary::podtrace()?).args(["read", "-o", "json"]).args(files), SHORT)
}

/// A packet as tshark shows it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Name of its interface.
    pub interface: String,
    /// Protocols from the outside in, `:` between them.
    pub protocols: String,
    /// Its comments.
    pub comments: Vec<String>,
    /// Number of its path.
    pub path: Option<u64>,
    /// `0x00000001` for a packet that its interface received, `0x00000002` for one that it sent.
    pub direction: String,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(rename = "_source")]
    source: Source,
}

#[derive(Deserialize)]
struct Source {
    layers: BTreeMap<String, Vec<String>>,
}

/// A file's packets as tshark shows them. Neither tshark nor capinfos may find anything to say about the file.
///
/// # Errors
///
/// If they do, or cannot be run.
pub fn packets(file: &Path) -> Result<Vec<Packet>> {
    let about = run(Command::new("capinfos").arg("-c").arg(file), SHORT)?;
    ensure!(about.code() == 0 && about.stderr.is_empty(), "capinfos: {}{}", about.stdout, about.stderr);
    let mut tshark = Command::new("tshark");
    // Flannel's VXLAN port is not the one that tshark knows.
    tshark.arg("-r").arg(file).args(["-n", "-d", "udp.port==8472,vxlan", "-T", "json"]);
    for field in ["interface_name", "protocols", "comment", "packet_id", "packet_flags_direction"] {
        tshark.arg("-e").arg(format!("frame.{field}"));
    }
    let shown = run(&mut tshark, SHORT)?;
    ensure!(shown.code() == 0, "tshark ended with {}: {}", shown.code(), shown.stderr);
    ensure!(shown.stderr.replace(TO_ROOT, "").is_empty(), "tshark: {}", shown.stderr);
    let shown: Vec<Shown> = serde_json::from_str(&shown.stdout).context("reading what tshark shows")?;
    let packets: Vec<_> = shown
        .into_iter()
        .map(|Shown { source: Source { mut layers } }| {
            let mut field = |name: &str| layers.remove(&format!("frame.{name}")).unwrap_or_default();
            Packet {
                interface: field("interface_name").concat(),
                protocols: field("protocols").concat(),
                comments: field("comment"),
                path: field("packet_id").concat().parse().ok(),
                direction: field("packet_flags_direction").concat(),
            }
        })
        .collect();
    let counted = about.stdout.lines().find_map(|line| line.strip_prefix("Number of packets:"));
    let counted = counted.and_then(|count| count.trim().parse().ok());
    ensure!(counted == Some(packets.len()), "tshark shows {} packets: {}", packets.len(), about.stdout);
    Ok(packets)
}

/// Checks that programs which rewrite files, and tcpdump, read the file's packets to the end.
///
/// # Errors
///
/// If one does not, or loses a packet.
pub fn is_read_by_others(file: &Path, packets: usize) -> Result<()> {
    counts(file, packets)?;
    if packets == 0 {
        // editcap writes no interface then, and tcpdump reads no file without one.
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let written = |name: &str| directory.path().join(name);
    let mut editcap = Command::new("editcap");
    editcap.arg(file).arg(written("editcap"));
    let mut mergecap = Command::new("mergecap");
    mergecap.arg("-w").arg(written("mergecap")).args([file, file]);
    for (name, mut command, times) in [("editcap", editcap, 1), ("mergecap", mergecap, 2)] {
        succeed(&mut command, SHORT)?;
        counts(&written(name), packets * times).with_context(|| format!("of what {name} wrote"))?;
    }
    Ok(())
}

/// Checks how many packets tcpdump counts.
fn counts(file: &Path, packets: usize) -> Result<()> {
    let counted = succeed(Command::new("tcpdump").args(["-n", "--count", "-r"]).arg(file), SHORT)?.stdout;
    let is_right = counted.split_whitespace().next() == Some(&packets.to_string());
    ensure!(is_right, "tcpdump counts {counted:?}, not {packets} packets");
    Ok(())
}

/// Checks that a file's packets are those that the trace reported: one for each event that has bytes, and each hop's with its
/// interface, its direction, its protocols and its line.
///
/// # Errors
///
/// If they are not.
pub fn agrees(finished: &trace::Finished, packets: &[Packet]) -> Result<()> {
    let summary = finished.summary()?;
    let events = || finished.paths.iter().flat_map(|path| &path.hops).flat_map(|hop| &hop.events);
    let is_tap = |event: &HopEvent| event.point.to_string().starts_with("tc:");
    let stack = events().any(|event| !is_tap(event) && event.point.to_string() != "tp:kfree_skb");
    let (shown, delivered) = (packets.len() as u64, summary.events.delivered);
    let fits = if stack { shown <= delivered } else { shown == delivered };
    ensure!(fits, "{shown} packets for {delivered} events");
    let merged = finished.paths.iter().any(|path| path.hops.iter().any(|hop| hop.merged));
    ensure!(merged || packets.len() >= events().filter(|event| is_tap(event)).count(), "{shown} packets");
    for packet in packets {
        ensure!(!packet.comments.is_empty(), "a packet without a word: {packet:?}");
        ensure!(!packet.protocols.contains("_ws.malformed"), "tshark cannot read {packet:?}");
    }
    for path in &finished.paths {
        let all = packets.iter().filter(|packet| packet.path == Some(path.id)).count();
        let seen = path.hops.iter().filter(|hop| hop.evidence == Evidence::Observed);
        ensure!(
            all >= seen.clone().count() || seen.clone().any(|hop| hop.merged),
            "path {} lacks packets",
            path.id
        );
        for hop in seen {
            of_hop(path, hop, packets).with_context(|| format!("hop {} of path {}", hop.index, path.id))?;
        }
    }
    Ok(())
}

fn of_hop(path: &Finished, hop: &Hop, packets: &[Packet]) -> Result<()> {
    let line = format!("#{} hop {}/{}  ", path.id, hop.index + 1, path.hops.len());
    let says = |packet: &&Packet| packet.comments.iter().any(|comment| comment.starts_with(&line));
    let packet = packets.iter().find(says).context("no packet says that it is this one")?;
    let point = hop.point.map(|point| point.to_string()).unwrap_or_default();
    // What is inside a pod's namespace is named with the pod.
    let (node, device) = match hop.device.as_deref() {
        Some(device) => (format!("{}/", hop.node), device),
        None => (hop.node.to_string(), ""),
    };
    let name = &packet.interface;
    ensure!(
        name.starts_with(&node) && name.ends_with(&format!("{device} {point}")),
        "{device} {point} on {} is called {name}",
        hop.node
    );
    let direction = match point.as_str() {
        "tc:ingress" => "0x00000001",
        "tc:egress" => "0x00000002",
        _ => "0x00000000",
    };
    ensure!(packet.direction == direction, "at {point}, and its direction is {}", packet.direction);
    let proto = match path.proto {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
        Protocol::Icmpv6 => "icmpv6",
        Protocol::Sctp => "sctp",
        Protocol::Other(_) => "ip",
    };
    let protocols = &packet.protocols;
    // Only the first fragment of a packet shows what it is.
    ensure!(
        path.label.contains("fragment") || protocols.contains(&format!(":ip:{proto}")),
        "{proto} is shown as {protocols}"
    );
    if point.starts_with("tc:") {
        // At the tunnel's own device the packet is not in the tunnel.
        let wire = hop.outer.is_some() && device.starts_with("eth");
        let outer = &hop.outer;
        ensure!(protocols.contains("vxlan:eth") == wire, "{protocols} at {device} with {outer:?} around it");
    }
    Ok(())
}
