//! What the traffic is: bulk TCP and a flood of small datagrams by iperf3, exchanges of datagrams by our helper. Within a
//! node, and from one to the other.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::lab::{CLIENT, FROM, Lab, SERVER, address};
use crate::{run, wait};

/// Port of the server that answers each datagram; iperf3 has its own.
const ANSWERS: u16 = 5300;

/// Deadline for the servers to serve.
const READY: Duration = Duration::from_secs(60);

/// One kind of traffic between two pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) name: &'static str,
    kind: Kind,
    /// The pod that receives.
    pub(super) to: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Bits per second that arrive.
    Tcp,
    /// Datagrams of 64 bytes per second that arrive.
    Udp,
    /// Exchanges of two datagrams per second, one after the other.
    Exchange,
}

const SAME: &str = "pod2";
const ACROSS: &str = "pod3";

pub(super) const LOADS: [Load; 6] = [
    Load { name: "TCP same", kind: Kind::Tcp, to: SAME },
    Load { name: "UDP same", kind: Kind::Udp, to: SAME },
    Load { name: "exchange same", kind: Kind::Exchange, to: SAME },
    Load { name: "TCP across", kind: Kind::Tcp, to: ACROSS },
    Load { name: "UDP across", kind: Kind::Udp, to: ACROSS },
    Load { name: "exchange across", kind: Kind::Exchange, to: ACROSS },
];

impl Load {
    /// What its rate counts per second.
    pub(super) fn unit(self) -> &'static str {
        match self.kind {
            Kind::Tcp => "bits",
            Kind::Udp => "datagrams",
            Kind::Exchange => "exchanges",
        }
    }

    /// Runs it for so many seconds. Returns its rate, see [`Self::unit`].
    pub(super) fn run(self, lab: &Lab, helper: &Path, seconds: u32) -> Result<f64> {
        let seconds = seconds.to_string();
        if self.kind == Kind::Exchange {
            let to = format!("{}:{ANSWERS}", address(self.to));
            let ask = [helper.as_os_str(), "ask".as_ref(), to.as_ref(), seconds.as_ref()];
            let said = asked(&mut lab.command(FROM, Some(CLIENT), ask))?;
            return said.trim().parse().with_context(|| format!("the helper says {said:?}"));
        }
        let mut words = vec!["iperf3", "-J", "-c", address(self.to), "-t", &seconds];
        if self.kind == Kind::Udp {
            words.extend(["-u", "-b", "0", "-l", "64"]);
        }
        let said = asked(&mut lab.command(FROM, Some(CLIENT), words))?;
        let said: Value = serde_json::from_str(&said).context("reading what iperf3 says")?;
        let rate = match self.kind {
            Kind::Tcp => said["end"]["sum_received"]["bits_per_second"].as_f64(),
            _ => arrived(&said["end"]["sum"]),
        };
        rate.with_context(|| format!("iperf3 gives no rate: {}", said["error"]))
    }
}

/// Datagrams per second that arrived.
fn arrived(sum: &Value) -> Option<f64> {
    let sent = sum["packets"].as_f64()?;
    Some((sent - sum["lost_packets"].as_f64()?) / sum["seconds"].as_f64()?)
}

/// The stdout of a command that succeeds.
fn asked(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// The servers. Dropping them ends them.
pub(super) struct Servers(Vec<Child>);

impl Servers {
    /// Starts them, and waits until each serves.
    pub(super) fn start(lab: &Lab, helper: &Path) -> Result<Self> {
        for program in ["iperf3", "taskset", "ip", "tcpdump"] {
            ensure!(run::find_program(program).is_some(), "measuring traffic needs `{program}`: install it");
        }
        let mut servers = Self(Vec::new());
        for pod in [SAME, ACROSS] {
            servers.add(lab.command(pod, Some(SERVER), ["iperf3", "-s"]))?;
            let to = format!("{}:{ANSWERS}", address(pod));
            let answer: [PathBuf; 3] = [helper.to_owned(), "answer".into(), to.into()];
            servers.add(lab.command(pod, Some(SERVER), answer))?;
        }
        for load in LOADS {
            servers.wait(load, lab, helper)?;
        }
        Ok(servers)
    }

    fn add(&mut self, mut command: Command) -> Result<()> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.0.push(command.spawn().with_context(|| format!("running {command:?}"))?);
        Ok(())
    }

    /// Runs a load until it succeeds.
    fn wait(&mut self, load: Load, lab: &Lab, helper: &Path) -> Result<()> {
        wait::until("a server of the benchmark answers", READY, || {
            for server in &mut self.0 {
                if let Some(status) = server.try_wait()? {
                    bail!("a server ended with {status}");
                }
            }
            load.run(lab, helper, 1).map(|_| ())
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.0 {
            // It may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
