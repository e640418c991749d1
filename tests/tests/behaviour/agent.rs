//! One agent, asked by its frames: devices that are created again, and signals while it attaches. Its tc programs are
//! attached as clsact filters, which outlive it unless it removes them.

use std::io::{BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace_protocol::codec::{read_raw, write_raw};
use podtrace_protocol::frame::{
    Configuration, FilterSpec, FromAgent, Mechanism, PodAddresses, ToAgent, Updated,
};
use podtrace_tests::binary;
use podtrace_tests::lab::{Lab, netns_path};
use podtrace_tests::suite::trial;

use crate::POD1;

const POD: &str = "default/pod1";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("clsact-on-a-device-that-is-created-again", &["ip", "tc", "nsenter"], created_again),
        trial("an-agent-that-attaches-ignores-sigint", &["tc", "nsenter"], interrupted),
        trial("an-agent-that-attaches-cleans-up-after-sigterm", &["tc", "nsenter"], terminated),
    ]
}

/// An agent on a lab's first node; killed when dropped.
struct Agent {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    fn start(lab: &Lab) -> Result<Self> {
        let mut process = Command::new("nsenter")
            .arg(format!("--net={}", netns_path(lab.name(), "node1").display()))
            .arg(binary::podtrace()?)
            .arg("agent")
            .env("PODTRACE_TC", "clsact")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().context("no stdin")?;
        let output = BufReader::new(process.stdout.take().context("no stdout")?);
        Ok(Self { process, input, output })
    }

    fn send(&mut self, frame: &ToAgent) -> Result<()> {
        write_raw(&mut self.input, &frame.to_raw())?;
        Ok(self.input.flush()?)
    }

    /// Reads frames until one is what is looked for; `None` if the stream ends before.
    fn until<T>(&mut self, wanted: impl Fn(&FromAgent) -> Option<T>) -> Result<Option<T>> {
        while let Some(raw) = read_raw(&mut self.output)? {
            let frame = FromAgent::from_raw(raw)?;
            if let FromAgent::Failed { error } = &frame {
                bail!("the agent failed: {error}");
            }
            if let Some(found) = wanted(&frame) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.process.id())?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("sending {signal}"))
    }

    /// Asks it to stop, and waits for its goodbye and its end.
    fn stop(mut self) -> Result<ExitStatus> {
        self.send(&ToAgent::Stop)?;
        self.until(is_goodbye)?.context("it ended without a goodbye")?;
        Ok(self.process.wait()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It has ended already in the best case, and is reaped then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_goodbye(frame: &FromAgent) -> Option<()> {
    matches!(frame, FromAgent::Goodbye { .. }).then_some(())
}

fn is_attached(frame: &FromAgent) -> Option<()> {
    matches!(frame, FromAgent::Attached(_)).then_some(())
}

/// The name of the pod's veth on the node.
fn veth(frame: &FromAgent) -> Option<String> {
    match frame {
        FromAgent::Topology(topology) => Some(topology.host_veth_of(POD)?.name.clone()),
        _ => None,
    }
}

fn configuration() -> Result<Configuration> {
    Ok(Configuration {
        filter: FilterSpec::default(),
        pods: vec![PodAddresses { pod: POD.to_owned(), ips: vec![POD1.parse()?] }],
        tapped_pods: vec![POD.to_owned()],
        node_addresses: vec!["192.168.56.11".parse()?],
    })
}

fn ensure_nothing_is_left(lab: &Lab) -> Result<()> {
    let qdiscs = lab.exec("node1", ["tc", "qdisc", "show"])?.stdout;
    ensure!(!qdiscs.contains("clsact"), "something is left attached:\n{qdiscs}");
    Ok(())
}

/// As by CNI plugins that name a veth by its pod: a pod of the same name gets a new device of the same name.
fn created_again() -> Result<()> {
    let lab = Lab::up("created-again")?;
    let mut agent = Agent::start(&lab)?;
    agent.send(&ToAgent::Configure(configuration()?))?;
    let name = agent.until(veth)?.context("it sent no topology with the pod's veth")?;
    agent.until(is_attached)?.context("it did not attach")?;

    let netns = netns_path(lab.name(), "pod1").display().to_string();
    lab.exec("node1", ["ip", "link", "delete", &name])?;
    let words = ["ip", "link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns"];
    lab.exec("node1", words.into_iter().chain([netns.rsplit('/').next().unwrap_or_default()]))?;
    lab.exec("node1", ["ip", "link", "set", &name, "master", "cni0", "up"])?;
    lab.exec("pod1", ["ip", "address", "add", &format!("{POD1}/24"), "dev", "eth0"])?;
    lab.exec("pod1", ["ip", "link", "set", "eth0", "up"])?;
    agent.send(&ToAgent::Update { at_ns: 1, configuration: configuration()? })?;
    let updated = |frame: &FromAgent| match frame {
        FromAgent::Updated(updated) => Some(updated.clone()),
        _ => None,
    };
    let Updated { hooks, error, .. } = agent.until(updated)?.context("it did not answer the update")?;
    let of_veth: Vec<_> = hooks.iter().filter(|hook| hook.device.as_ref() == Some(&name)).collect();
    ensure!(
        of_veth.len() == 2 && of_veth.iter().all(|hook| hook.mechanism == Some(Mechanism::Clsact)),
        "{hooks:?} {error:?}"
    );
    ensure!(agent.stop()?.success(), "it failed");
    ensure_nothing_is_left(&lab)
}

/// An agent that gets a signal once it has sent the topology, which is before it attaches.
fn signalled_while_attaching(lab: &Lab, signal: Signal) -> Result<Agent> {
    let mut agent = Agent::start(lab)?;
    agent.send(&ToAgent::Configure(configuration()?))?;
    agent.until(veth)?.context("it sent no topology")?;
    agent.signal(signal)?;
    Ok(agent)
}

/// Only the tracer decides what Ctrl-C means.
fn interrupted() -> Result<()> {
    let lab = Lab::up("attach-sigint")?;
    let mut agent = signalled_while_attaching(&lab, Signal::SIGINT)?;
    agent.until(is_attached)?.context("it ended before it was attached")?;
    ensure!(agent.stop()?.success(), "it failed");
    ensure_nothing_is_left(&lab)
}

fn terminated() -> Result<()> {
    let lab = Lab::up("attach-sigterm")?;
    let mut agent = signalled_while_attaching(&lab, Signal::SIGTERM)?;
    agent.until(is_goodbye)?.context("it ended without a goodbye")?;
    ensure!(agent.process.wait()?.success(), "it failed");
    ensure_nothing_is_left(&lab)
}
