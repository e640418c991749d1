//! Finds what is attached to a lab's devices, independently of podtrace.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType, loaded_links, loaded_programs};
use podtrace::netns::Netns;

use crate::lab::Lab;

/// The lab's nodes.
const NODES: [&str; 2] = ["node1", "node2"];

/// Programs attached by tcx to the devices of the lab's nodes, one line each.
///
/// # Errors
///
/// If the nodes cannot be inspected.
pub fn tcx(lab: &Lab) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for node in NODES {
        found.extend(tcx_in(node, &lab.netns(node)?)?);
    }
    Ok(found)
}

/// Programs attached by tcx to the devices of a node's network, one line each.
///
/// # Errors
///
/// If the node cannot be inspected.
pub fn tcx_in(node: &str, network: &Netns) -> Result<Vec<String>> {
    network.run(|| {
        let mut found = Vec::new();
        for device in &nix::net::if_::if_nameindex().context("listing devices")? {
            let device = device.name().to_string_lossy().into_owned();
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                let (_, programs) = SchedClassifier::query_tcx(device.as_str(), side)
                    .with_context(|| format!("asking what is attached to {device}"))?;
                let names = programs.iter().map(|program| program.name_as_str().unwrap_or("?").to_owned());
                found.extend(names.map(|name| format!("{node} {device}: {name}")));
            }
        }
        Ok(found)
    })
}

/// Process ids of the lab's agents: podtrace's own processes in an environment that names this lab.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn agents(lab: &Lab) -> Result<Vec<u32>> {
    let mark = format!("PODTRACE_LAB={}", lab.name());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry.context("reading /proc")?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes end while they are looked at.
        let read = |file| fs::read(entry.path().join(file)).unwrap_or_default();
        let is_agent = read("cmdline").split(|byte| *byte == 0).nth(1) == Some(b"agent");
        if is_agent && read("environ").split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            found.push(id);
        }
    }
    Ok(found)
}

/// BPF programs and links that processes hold, by their kernel ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    programs: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Held {
    /// The programs and links of these processes.
    #[must_use]
    pub fn by(processes: &[u32]) -> Self {
        let mut held = Self::default();
        for process in processes {
            let Ok(entries) = fs::read_dir(Path::new("/proc").join(process.to_string()).join("fdinfo"))
            else {
                continue;
            };
            for entry in entries.flatten() {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let number = |name: &str| -> Option<u32> {
                    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                    line.trim_start_matches(':').trim().parse().ok()
                };
                held.programs.extend(number("prog_id"));
                held.links.extend(number("link_id"));
            }
        }
        held
    }

    /// Number of programs and links.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.programs.len(), self.links.len())
    }

    /// Those that still exist in the kernel.
    ///
    /// # Errors
    ///
    /// If the kernel does not list them.
    pub fn left(&self) -> Result<Self> {
        let mut left = Self::default();
        for program in loaded_programs() {
            // Programs go while they are listed.
            let Ok(program) = program else { continue };
            left.programs.extend(Some(program.id()).filter(|id| self.programs.contains(id)));
        }
        for link in loaded_links() {
            let Ok(link) = link else { continue };
            left.links.extend(Some(link.id()).filter(|id| self.links.contains(id)));
        }
        Ok(left)
    }
}
