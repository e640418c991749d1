//! What runs beside the load.

use std::path::Path;

use anyhow::Result;

use super::beside::Beside;
use super::lab::{FROM, Lab, SILENT, address};

/// UDP port of the lab's VXLAN.
const VXLAN_PORT: u16 = 8472;

/// Bytes of each packet that podtrace captures, and so tcpdump too.
const CAPTURED: u16 = 192;

/// One condition that the load is measured under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing runs. Measured twice in each round: how much the two differ is the noise.
    Untraced,
    /// podtrace traces from the sending pod to one that gets nothing.
    Missing,
    /// podtrace traces all that the sending pod sends and gets.
    Json,
    /// The same, of which only the summary is shown.
    Summary,
    /// The same as JSON, with a recording.
    Write,
    /// The same as JSON, of one in a hundred packets.
    Sample,
    /// tcpdump at the same devices, with the same filter, capturing as many bytes.
    Tcpdump,
}

/// In the order of the first round.
pub(super) const CONDITIONS: [Condition; 8] = [
    Condition::Untraced,
    Condition::Missing,
    Condition::Json,
    Condition::Summary,
    Condition::Untraced,
    Condition::Write,
    Condition::Sample,
    Condition::Tcpdump,
];

impl Condition {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Missing => "podtrace, not matching",
            Self::Json => "podtrace -o json",
            Self::Summary => "podtrace -o summary",
            Self::Write => "podtrace -o json -w",
            Self::Sample => "podtrace --sample 1/100",
            Self::Tcpdump => "tcpdump",
        }
    }

    /// Whether podtrace runs.
    pub(super) fn is_traced(self) -> bool {
        !matches!(self, Self::Untraced | Self::Tcpdump)
    }

    /// Starts what it takes, and waits until that is ready. Files go into `directory`.
    pub(super) fn begin(self, lab: &Lab, directory: &Path) -> Result<Beside> {
        let mut beside = Beside::default();
        match self {
            Self::Untraced => {}
            Self::Tcpdump => {
                for node in ["node1", "node2"] {
                    for device in lab.devices(node)? {
                        beside.add(tcpdump(lab, node, &device), "listening on")?;
                    }
                }
            }
            Self::Missing | Self::Json | Self::Summary | Self::Write | Self::Sample => {
                let mut trace = lab.trace();
                let output = if self == Self::Summary { "summary" } else { "json" };
                trace.args(["-o", output, "--from", FROM]);
                if self == Self::Missing {
                    trace.args(["--to", SILENT]);
                }
                if self == Self::Sample {
                    trace.args(["--sample", "1/100"]);
                }
                if self == Self::Write {
                    trace.arg("--write").arg(directory.join("recording.pcapng"));
                }
                beside.add(trace, "tracing ")?;
            }
        }
        Ok(beside)
    }
}

/// tcpdump does not look into VXLAN by addresses: at uplinks it takes the tunnel's packets.
fn tcpdump(lab: &Lab, node: &str, device: &str) -> std::process::Command {
    let filter = format!("host {} or udp port {VXLAN_PORT}", address(FROM));
    let snaplen = CAPTURED.to_string();
    lab.command(node, None, ["tcpdump", "-n", "-i", device, "-s", &snaplen, "-w", "/dev/null", &filter])
}
